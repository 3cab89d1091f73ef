"""The world: time, chance, keys, hashing, the way out, and what everybody chooses for a password."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """The time, aware, in UTC."""


class Entropy(Protocol):
    def token(self, bytes: int = 32) -> str:
        """Unguessable, URL-safe, `bytes` bytes of randomness."""

    def reference(self) -> str:
        """Short and readable aloud, for error pages: `7K3Q-XW92-4T`. Not a secret."""


class Vault(Protocol):
    """Keys derived from the installation's secret key: encryption at rest and MACs.

    While one secret key takes the place of another, everything is made with one, and recognised by both.
    """

    def seal(self, plain: bytes, place: str) -> bytes:
        """Authenticated encryption; `place` (table, column, row) is bound as associated data (SECURITY 19)."""

    def open(self, sealed: bytes, place: str) -> bytes:
        """Raises `ValueError` for anything that was not sealed for this very place."""

    def resealed(self, sealed: bytes, place: str) -> bytes | None:
        """The same, sealed with the key of the moment; None when it is so already. Raises as `open`."""

    def mac(self, purpose: str, *parts: str) -> str:
        """A keyed digest of the parts, URL-safe; unambiguous, so ("a","bc") differs from ("ab","c")."""

    def is_mac(self, given: str, purpose: str, *parts: str, length: int = 43) -> bool:
        """Whether it is the `mac` of these, or the first `length` characters of it. In constant time."""

    def digest(self, secret: str) -> str:
        """What is stored in place of a one-time secret: SHA-256, URL-safe. Secrets are long and random."""


class Hasher(Protocol):
    """Password hashing in a bounded, low-priority pool (SECURITY 18, PERFORMANCE)."""

    def hash(self, password: str) -> str:
        """An Argon2id PHC string. Raises `Busy` when the queue is full."""

    def verify(self, password: str, stored: str | None) -> bool:
        """Compare; None (nobody there) costs the same and is False. Raises `Busy` when the queue is full."""

    def outdated(self, stored: str) -> bool:
        """Whether the hash should be made anew at the next successful sign-in."""

    def asked_by(self, asker: str, *, first: bool = False) -> AbstractContextManager[None]:
        """Whom the work of this thread is for: nobody may fill the queue alone, and `first` goes before others."""

    @property
    def strained(self) -> bool:
        """Whether the queue is half full or more."""


class Fetcher(Protocol):
    """The one way out over HTTP (SECURITY 11): addresses resolved, checked and pinned, no redirects, 5 s, 1 MB."""

    def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> Response:
        """Raises `ConnectionFailed("connection.unavailable")` when there is no answer."""

    def post(self, url: str, data: Mapping[str, str], *, headers: Mapping[str, str] | None = None) -> Response:
        """A form post. Raises as `get`; never retried."""


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Raises `ValueError`."""
        import json

        return json.loads(self.body)


class Blocklist(Protocol):
    def __call__(self, password: str) -> bool:
        """Whether a (case-folded) password is among the commonly used ones. Offline."""
