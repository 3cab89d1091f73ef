"""A real SMTP server for tests (aiosmtpd): it takes, defers or refuses as the recipient's name asks for."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword


@dataclass
class Received:
    """A mail as it arrived: the envelope's recipients, and the message."""

    sender: str
    recipients: list[str]
    message: EmailMessage
    secured: bool


@dataclass
class MailServer:
    """`gone@...` is refused for good, `later@...` for now, `spam@...` after its content; others are taken.

    Set `refuse_data` to answer every mail's content with that line.
    """

    port: int = 0
    received: list[Received] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    attempts: int = 0
    refuse_data: str = ""
    user: str = "homerealm"
    password: str = "correct horse"
    hostname: str = "127.0.0.1"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Envelope, address: str, options: list[str]) -> str:
        self.attempts += 1
        if address.startswith("gone@"):
            return "550 5.1.1 no such user"
        if address.startswith("later@"):
            return "451 4.7.1 greylisted, come back"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        if self.refuse_data:
            return self.refuse_data
        if any(address.startswith("spam@") for address in envelope.rcpt_tos):
            return "554 5.7.1 looks like spam"
        content = envelope.content if isinstance(envelope.content, bytes) else (envelope.content or "").encode()
        message = message_from_bytes(content, policy=default)
        secured = session.ssl is not None or server.transport.get_extra_info("sslcontext") is not None
        self.received.append(Received(envelope.mail_from or "", list(envelope.rcpt_tos), message, secured))
        return "250 OK"

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        if not isinstance(data, LoginPassword):
            return AuthResult(success=False, handled=False)
        given = data.login.decode(), data.password.decode()
        self.logins.append(given)
        return AuthResult(success=given == (self.user, self.password), handled=False)

    @contextmanager
    def running(
        self, *, starttls: ssl.SSLContext | None = None, tls: ssl.SSLContext | None = None, login: bool = False
    ) -> Iterator[MailServer]:
        """Listen until the block ends; the port stays the same when it runs again."""
        self.port = self.port or free_port()
        options: dict[str, Any] = {"authenticator": self.authenticate, "auth_required": True} if login else {}
        if login and starttls is None:
            options["auth_require_tls"] = False
        if starttls is not None:
            options |= {"tls_context": starttls, "require_starttls": True}
        controller = Controller(
            self, hostname=self.hostname, port=self.port, ssl_context=tls, server_hostname="mail.test", **options
        )
        controller.start()
        try:
            yield self
        finally:
            controller.stop(no_assert=True)


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
