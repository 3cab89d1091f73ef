"""How a server of the key-value store is reached: a socket, TLS around it, who we are, and what its refusals mean.

The errors are redis-py's (`redis.exceptions`), and so is their meaning; its connection is not used: to import it takes
as long as all of the stores take (docs/decisions/start-up.md).
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    ExecAbortError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as Broken
from redis.exceptions import TimeoutError as TooSlow

if TYPE_CHECKING:
    import ssl

_MEANINGS: dict[str, type[ResponseError] | type[BusyLoadingError] | type[AuthenticationError]] = {
    "ASK": AskError,
    "CLUSTERDOWN": ClusterDownError,
    "CROSSSLOT": ClusterCrossSlotError,
    "EXECABORT": ExecAbortError,
    "LOADING": BusyLoadingError,
    "MASTERDOWN": MasterDownError,
    "MOVED": MovedError,
    "NOAUTH": AuthenticationError,
    "NOPERM": NoPermissionError,
    "NOSCRIPT": NoScriptError,
    "OOM": OutOfMemoryError,
    "READONLY": ReadOnlyError,
    "TRYAGAIN": TryAgainError,
    "WRONGPASS": AuthenticationError,
}
_PASSWORDS = ("invalid password", "AUTH <password> called without any password", "Client sent AUTH, but no password")
"""How servers of some years ago refuse a password."""


_OPTIONS = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
]
"""A server that is gone without a word is noticed after three quarters of a minute, also by a connection that rests."""


def refusal(text: str) -> RedisError:
    """What a server means by an error that it answers."""
    code, _, rest = text.partition(" ")
    if code == "ERR":
        if rest == "max number of clients reached":
            return Broken(rest, status_code=code)
        return (AuthenticationError if rest.startswith(_PASSWORDS) else ResponseError)(rest, status_code=code)
    meaning = _MEANINGS.get(code)
    return meaning(rest, status_code=code) if meaning else ResponseError(text)


@dataclass(frozen=True)
class Tls:
    """Certificates: files (PEM). The server's must be right and for the name that it is asked by."""

    ca_bundle: str | None = None
    """Trusted besides the system's."""
    certificate: str | None = None
    key: str | None = None

    def context(self) -> ssl.SSLContext:
        import ssl

        context = ssl.create_default_context()
        if self.ca_bundle is not None:
            context.load_verify_locations(cafile=self.ca_bundle)
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        return context


@dataclass(frozen=True)
class Way:
    """To one server, and who we are there. Seconds."""

    place: tuple[str, int] | str
    """Host and port, or the path of a socket."""
    connect_seconds: float
    answer_seconds: float
    tls: Tls | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0

    def introduction(self) -> Sequence[tuple[str | int, ...]]:
        """What is said first. Whatever is refused of it ends the connection."""
        words: list[tuple[str | int, ...]] = []
        if self.username:
            words.append(("AUTH", self.username, self.password or ""))
        elif self.password:
            words.append(("AUTH", self.password))
        if self.database:
            words.append(("SELECT", self.database))
        return words

    def connect(self) -> socket.socket:
        """Connected, and with a timeout. Raises `Broken`, `TooSlow`."""
        try:
            return self._connect()
        except TimeoutError as error:
            raise TooSlow("no connection in time") from error
        except OSError as error:  # and what TLS finds wrong
            raise Broken(f"no connection to {self._name()}: {error}") from error

    def _connect(self) -> socket.socket:
        if isinstance(self.place, str):
            plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                plain.settimeout(self.connect_seconds)
                plain.connect(self.place)
                plain.settimeout(self.answer_seconds)
            except BaseException:
                plain.close()
                raise
            return plain
        plain = socket.create_connection(self.place, self.connect_seconds)
        try:
            for level, option, value in _OPTIONS:
                plain.setsockopt(level, option, value)
            plain.settimeout(self.answer_seconds)
            return plain if self.tls is None else self.tls.context().wrap_socket(plain, server_hostname=self.place[0])
        except BaseException:
            with suppress(OSError):
                plain.close()
            raise

    def _name(self) -> str:
        return self.place if isinstance(self.place, str) else f"{self.place[0]}:{self.place[1]}"
