"""Transports for mail: SMTP, a maildir, the console."""

from __future__ import annotations

import os
import re
import smtplib
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from broker.core.errors import BrokerError, ConfigurationError
from broker.core.values import Secret

TIMEOUT = 10.0
"""Seconds for one answer of a mail server."""
DEADLINE = 20.0
"""Seconds for one delivery once connected, all answers together."""
FAREWELL = 5.0
"""Seconds for what is no delivery: asking whether a connection still stands, and ending it."""
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_SAFE = re.compile(r"[^A-Za-z0-9_@.+-]")


class MailDeferred(BrokerError):
    """Not delivered, and may be later: nothing was decided about the recipient."""

    code = "mail.deferred"


class ServerDown(MailDeferred):
    """The mail server does not answer, or does not let us in: other mails need not be tried now."""


class MailRefused(BrokerError):
    """Not delivered, and never will be: the recipient or the message was refused for good."""

    code = "mail.refused"


class Transport(Protocol):
    """A way to deliver a mail to its one recipient."""

    def send(self, message: EmailMessage) -> None:
        """Returns once somebody else has taken the responsibility. Raises `MailDeferred`, `MailRefused`."""


class Delivery:
    """Mails to one transport, one after the other, over one connection where it has such a thing.

    A server that is down is not asked again: `send` then says so at once. Used in one thread.
    """

    def __init__(self, transport: Callable[[], Transport]) -> None:
        self._open = transport
        self._transport: Transport | None = None
        self._down = ""

    def __enter__(self) -> Delivery:
        return self

    def __exit__(self, *_: object) -> None:
        if isinstance(self._transport, SmtpConversation):
            self._transport.close()

    def send(self, compose: Callable[[], EmailMessage]) -> None:
        """Raises `MailDeferred`, `MailRefused`, and what `compose` raises."""
        if self._down:
            raise ServerDown(self._down)
        message = compose()
        if self._transport is None:
            transport = self._open()
            self._transport = SmtpConversation(transport) if isinstance(transport, SmtpTransport) else transport
        try:
            self._transport.send(message)
        except ServerDown as error:
            self._down = error.detail
            raise


def open_transport(url: str, root: Path) -> Transport:
    """`smtp://user:pass@host:587?tls=starttls`, `smtps://...`, `maildir:var/mail`, `console:`.

    Relative paths start at `root`. SMTP to anything but loopback has STARTTLS unless it says `tls=none`;
    `ca_bundle=<path>` trusts a further authority. Raises `ConfigurationError`, which never quotes the password.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme in ("smtp", "smtps"):
            return _smtp(parts, root)
        if parts.scheme == "maildir" and parts.path and not parts.netloc:
            return Maildir(root / parts.path)
        if parts.scheme == "console" and not (parts.path or parts.netloc):
            return Console()
    except ValueError as error:
        raise ConfigurationError([f"mail.transport: {error}"]) from None
    known = "smtp://, smtps://, maildir:<folder>, console:"
    raise ConfigurationError([f"mail.transport: {parts.scheme or 'this'} is not one; there are {known}"])


def _smtp(parts: SplitResult, root: Path) -> SmtpTransport:
    options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    unknown = options.keys() - {"tls", "ca_bundle"}
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))}: unknown; tls and ca_bundle are known")
    if not parts.hostname:
        raise ValueError("has no host")
    if parts.path not in ("", "/"):
        raise ValueError("has a path after the host")
    default = "implicit" if parts.scheme == "smtps" else "none" if parts.hostname in _LOOPBACK else "starttls"
    tls = options.get("tls", default)
    if tls not in (("implicit",) if parts.scheme == "smtps" else ("starttls", "none")):
        raise ValueError(f"tls={tls}: for smtp:// it is starttls or none; smtps:// needs no tls")
    if parts.username and tls == "none" and parts.hostname not in _LOOPBACK:
        raise ValueError("a password must not be sent without TLS")
    ca_bundle = options.get("ca_bundle")
    return SmtpTransport(
        parts.hostname,
        parts.port or (465 if parts.scheme == "smtps" else 587),
        tls,
        unquote(parts.username or ""),
        Secret(unquote(parts.password or "")),
        _trust(root / ca_bundle if ca_bundle else None) if tls != "none" else None,
    )


def _trust(ca_bundle: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_bundle is not None:
        try:
            context.load_verify_locations(cafile=ca_bundle)
        except OSError as error:
            raise ValueError(f"ca_bundle: {ca_bundle}: {error}") from None
    return context


def _envelope(message: EmailMessage) -> tuple[str, str]:
    """From and the one recipient. Raises `MailRefused` when the message has another number of them."""
    if message["Cc"] is not None or message["Bcc"] is not None:
        raise MailRefused("a mail has one recipient, and no copies")
    senders: tuple[Address, ...] = message["From"].addresses if message["From"] is not None else ()
    recipients: tuple[Address, ...] = message["To"].addresses if message["To"] is not None else ()
    if len(senders) != 1 or len(recipients) != 1:
        raise MailRefused(f"a mail has one sender and one recipient, not {len(senders)} and {len(recipients)}")
    return senders[0].addr_spec, recipients[0].addr_spec


@dataclass(frozen=True, slots=True)
class SmtpTransport:
    """One connection a mail; `SmtpConversation` is for several. `tls` is `implicit`, `starttls` or `none`; asked for,
    it is never done without."""

    host: str
    port: int
    tls: str
    user: str = ""
    password: Secret = field(default=Secret(""))
    context: ssl.SSLContext | None = None
    timeout: float = TIMEOUT
    deadline: float = DEADLINE

    def send(self, message: EmailMessage) -> None:
        sender, recipient = _envelope(message)
        with self._session() as server:
            server.send_message(message, sender, [recipient])

    def check(self) -> None:
        """Connect and log in, for `homerealm check --live`. Raises `MailDeferred`."""
        with self._session():
            pass

    @contextmanager
    def _session(self) -> Iterator[smtplib.SMTP]:
        with self.failures():
            server = self._connect()
            try:
                with _until(server, self.deadline):
                    self._introduce(server)
                    yield server
                    # It has taken the mail; how it says good-bye must not send it a second time.
                    with suppress(smtplib.SMTPException, OSError):
                        server.quit()
            finally:
                server.close()

    def connect(self) -> smtplib.SMTP:
        """A connection that has been introduced. Within `failures`."""
        server = self._connect()
        try:
            with _until(server, self.deadline):
                self._introduce(server)
        except BaseException:
            server.close()
            raise
        return server

    def _connect(self) -> smtplib.SMTP:
        name = socket.gethostname()
        name = name if "." in name else "[127.0.0.1]"
        if self.tls == "implicit":
            return smtplib.SMTP_SSL(
                self.host, self.port, local_hostname=name, timeout=self.timeout, context=self.context
            )
        return smtplib.SMTP(self.host, self.port, local_hostname=name, timeout=self.timeout)

    def _introduce(self, server: smtplib.SMTP) -> None:
        if self.tls == "starttls":
            code, answer = server.starttls(context=self.context)
            if code != 220:
                raise ServerDown(f"{self}: STARTTLS was answered {code} {_text(answer)}")
        if self.user:
            try:
                server.login(self.user, self.password.reveal())
            except UnicodeError:
                raise ServerDown(f"{self}: a user name or password beyond ASCII") from None

    @contextmanager
    def failures(self) -> Iterator[None]:
        """What is the server's or our own fault is tried again; what it says of the recipient or the mail counts."""
        try:
            yield
        except smtplib.SMTPRecipientsRefused as error:
            code, answer = next(iter(error.recipients.values()))
            raise _verdict(code, f"{self}: recipient: {code} {_text(answer)}") from error
        except smtplib.SMTPDataError as error:
            raise _verdict(error.smtp_code, f"{self}: data: {error.smtp_code} {_text(error.smtp_error)}") from error
        except smtplib.SMTPSenderRefused as error:
            raise ServerDown(f"{self}: sender {error.sender}: {error.smtp_code} {_text(error.smtp_error)}") from error
        except smtplib.SMTPResponseException as error:
            raise ServerDown(f"{self}: {error.smtp_code} {_text(error.smtp_error)}") from error
        except smtplib.SMTPNotSupportedError as error:
            if "SMTPUTF8" in str(error):
                raise MailRefused(f"{self}: {error}") from error
            raise ServerDown(f"{self}: {error}") from error
        except (smtplib.SMTPException, OSError) as error:
            raise ServerDown(f"{self}: {str(error) or type(error).__name__}") from error
        except (UnicodeError, ValueError) as error:
            raise MailRefused(f"{self}: {error}") from error

    def __str__(self) -> str:
        return f"{'smtps' if self.tls == 'implicit' else 'smtp'}://{self.host}:{self.port}"


class SmtpConversation:
    """Several mails over one connection. After anything that goes wrong the next mail has a new one."""

    def __init__(self, transport: SmtpTransport) -> None:
        self._transport = transport
        self._server: smtplib.SMTP | None = None

    def send(self, message: EmailMessage) -> None:
        """As `Transport.send`."""
        sender, recipient = _envelope(message)
        with self._transport.failures():
            server = self._still_open() or self._transport.connect()
            self._server = None
            try:
                with _until(server, self._transport.deadline):
                    server.send_message(message, sender, [recipient])
            except BaseException:
                server.close()
                raise
            self._server = server

    def close(self) -> None:
        """The mails were taken; how the server says good-bye does not matter."""
        server, self._server = self._server, None
        if server is not None:
            with suppress(smtplib.SMTPException, OSError), _until(server, FAREWELL):
                server.quit()
            server.close()

    def _still_open(self) -> smtplib.SMTP | None:
        """Asked before the mail is: once it is on its way, nobody knows whether it was taken."""
        server, self._server = self._server, None
        if server is None:
            return None
        try:
            with _until(server, FAREWELL):
                if server.rset()[0] == 250:
                    return server
        except (smtplib.SMTPException, OSError):
            pass
        server.close()
        return None


def _verdict(code: int, what: str) -> BrokerError:
    """RFC 5321 4.2.1: 4yz may succeed later, 5yz will not. 421 means that the server is going away."""
    if 500 <= code < 600:
        return MailRefused(what)
    return ServerDown(what) if code == 421 else MailDeferred(what)


def _text(answer: bytes | str) -> str:
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
    return " ".join(text.split())[:200]


@contextmanager
def _until(server: smtplib.SMTP, seconds: float) -> Iterator[None]:
    """Hang up when a server drips its answers: each one would be in time, and there would be no end."""

    def hang_up() -> None:
        connection = server.sock  # asked once: it may be closed, and forgotten, in this moment
        if connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@dataclass(frozen=True, slots=True)
class Maildir:
    """A folder in Daniel J. Bernstein's format, for the demo, for tests, and for environments that send nothing.

    The file name comes from the Message-ID: a mail that is delivered again after a crash is there once.
    """

    folder: Path

    def send(self, message: EmailMessage) -> None:
        _envelope(message)
        name = _SAFE.sub("_", str(message["Message-ID"] or "").strip("<>"))
        if not name.strip("."):
            raise MailRefused("a mail without a Message-ID")
        try:
            for part in ("tmp", "new", "cur"):
                (self.folder / part).mkdir(parents=True, exist_ok=True, mode=0o700)
            if not self._has(name):
                self._write(name, message.as_bytes(policy=message.policy.clone(linesep="\n")))
        except OSError as error:
            raise ServerDown(f"maildir {self.folder}: {error.strerror or error}") from error

    def _has(self, name: str) -> bool:
        """Also when a mail program moved it to `cur` and put its flags behind a colon."""
        return (self.folder / "new" / name).exists() or any(
            one.name == name or one.name.startswith(f"{name}:") for one in (self.folder / "cur").iterdir()
        )

    def _write(self, name: str, content: bytes) -> None:
        draft = self.folder / "tmp" / name
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.folder / "new" / name)


@dataclass(frozen=True, slots=True)
class Console:
    """Prints mails, links and all: for a developer's terminal and nothing else."""

    def send(self, message: EmailMessage) -> None:
        _envelope(message)
        body = message.get_body(("plain",))
        headers = "\n".join(f"{name}: {message[name]}" for name in ("From", "To", "Subject", "Date"))
        text = str(body.get_content()) if body is not None else message.as_string(policy=SMTP.clone(linesep="\n"))
        sys.stderr.write(f"{'-' * 72}\n{headers}\n\n{text}{'-' * 72}\n")
        sys.stderr.flush()
