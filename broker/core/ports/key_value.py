"""Key-value: everything that may be lost with the day."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NewType, Protocol

from broker.core.attempts import Delay, Demand, Limit, Verdict, Watch
from broker.core.transaction import Transaction
from broker.core.values import (
    Grant,
    GrantId,
    Session,
    SessionId,
    UserId,
)


class KeyValue(Protocol):
    """The primitive operations, each one atomic step and one round trip. Raises `Unavailable`."""

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, value: bytes, ttl: timedelta, *, only_if_absent: bool = False) -> bool: ...

    def swap(self, key: str, old: bytes, new: bytes, ttl: timedelta) -> bool:
        """Compare-and-swap."""

    def take(self, key: str) -> bytes | None:
        """Get and delete: exactly one caller gets the value, also when an answer is lost and asked for again."""

    def delete(self, *keys: str) -> None: ...

    def count(self, key: str, ttl: timedelta) -> int:
        """Add one and return the sum; the time starts with the first."""

    def ping(self) -> None: ...


Rider = NewType("Rider", object)
"""A small change that a store makes along with another one, in the same round trip. Only its store looks into it.

It is made whether or not the other succeeds, so it is one that was due in any case.
"""


class Transactions(Protocol):
    """Logins in progress, each bound to a browser."""

    def open(self, transaction: Transaction) -> None: ...

    def get(self, id: str, browser: str) -> Transaction | None:
        """None when it is gone, or belongs to another browser."""

    def advance(self, id: str, browser: str, move: Callable[[Transaction], Transaction]) -> Transaction:
        """Compare-and-swap until `move` is applied to the newest value.

        Raises `PageExpired`, and what `move` raises.
        """

    def save(self, before: Transaction, after: Transaction, *, also: Sequence[Rider] = ()) -> bool:
        """One compare-and-swap from a value that was read; False when somebody was faster."""

    def close(self, transaction: Transaction) -> bool:
        """Mark as finished; True for exactly one caller: one code a transaction. A tombstone stays until it expires."""


class Sessions(Protocol):
    """Browsers that are signed in. The secret is in the cookie; only its digest is stored."""

    def secret_for(self, id: SessionId, random: str) -> str:
        """A secret for a session's cookie. It names the session, so that one read finds and checks it.

        `random` is `Entropy.token(32)`. `open` and `replace` take secrets that were made here.
        """

    def open(self, session: Session, secret: str) -> None:
        """Also renews: a session with this id gets the new content and the new secret, and the old one is dead."""

    def get(self, secret: str) -> Session | None: ...

    def find(self, id: SessionId) -> Session | None: ...

    def replace(self, secret: str, session: Session, new_secret: str) -> None:
        """A new secret at every change of privilege (SECURITY 10); the old one is dead.

        Nothing happens when `secret` is no longer the current one: a session that was signed out stays so.
        """

    def close(self, id: SessionId) -> Session | None: ...

    def of(self, user: UserId) -> list[Session]:
        """Newest first."""

    def touch(self, id: SessionId, change: Callable[[Session], Session]) -> Session | None: ...


@dataclass(frozen=True, slots=True)
class Reused:
    """A code or refresh token came a second time. Its family is dead by the time this is returned."""

    grant: GrantId | None


class Grants(Protocol):
    """Codes and what comes of them. Every method is one atomic step.

    Codes and refresh tokens name their grant: one key holds a whole family, however often it was refreshed, and an
    older token is recognised without having been kept. Refresh tokens also carry a MAC, so that nobody can end a
    family with an invented one.
    """

    def code_for(self, id: GrantId, random: str) -> str:
        """A code of this grant; `random` is `Entropy.token(32)`."""

    def refresh_for(self, id: GrantId, random: str) -> str:
        """A refresh token of this family, for `redeem_code` and `rotate_refresh`; `random` as above."""

    def save_code(self, code: str, grant: Grant, ttl: timedelta) -> None: ...

    def redeem_code(self, code: str, first: str | None = None) -> Grant | Reused | None:
        """The first caller gets the grant, and its family begins to live (until `grant.expires_at`).

        All others get `grant.redeemed()`. `first` is its first refresh token; without one it never has any. Any other
        use kills the family.
        """

    def rotate_refresh(self, old: str, new: str) -> Grant | Reused | None:
        """`old` is replaced by `new`; an old one that comes again kills the family (RFC 9700 4.14.2)."""

    def peek_refresh(self, token: str) -> Grant | None:
        """The grant, while the token is the current one: for introspection."""

    def find(self, id: GrantId) -> Grant | None:
        """None once it was revoked or has expired."""

    def revoke(self, id: GrantId) -> bool: ...

    def revoke_token(self, jti: str, ttl: timedelta) -> None:
        """One access token."""

    def is_revoked(self, jti: str) -> bool: ...

    def find_unless_revoked(self, id: GrantId, jti: str) -> Grant | None:
        """`find` and `is_revoked` of one access token, in one round trip."""


class Logins(Protocol):
    """The end of a login: transaction, session and code together, in one round trip."""

    def new_code(self, transaction: Transaction) -> str:
        """An authorization code, 256 bits, for the grant that has this transaction's id (it yields no second one)."""

    def finish(
        self,
        transaction: Transaction,
        *,
        session: Session,
        session_secret: str | None,
        code: str | None,
        grant: Grant | None,
        stored: bool,
        code_lifetime: timedelta,
        also: Sequence[Rider] = (),
    ) -> bool:
        """Close the transaction, keep the session under its secret, save the code with its grant.

        True for exactly one caller; everybody else changes nothing. `stored` is False for a login that needed no
        page and was never opened. `session_secret` is None where the session stays as it is.
        """


class Throttle(Protocol):
    """Counts attempts before they are evaluated (SECURITY 13). Fails closed."""

    def charge(self, *limits: Limit | Delay, watch: Watch | None = None, demand: Demand | None = None) -> Verdict:
        """No wait when every limit has room, and then all are charged; else how long to wait, and none is.

        One atomic script over all keys. After a flush of the store it starts strict.
        """

    def forgive(self, receipt: tuple[str, ...]) -> None:
        """The attempt was a right one: its delays start anew, and the watch counts one failure less."""

    def forgiving(self, receipt: tuple[str, ...]) -> Rider:
        """What `forgive` does, to ride along with the end or the next step of a login."""


class Leases(Protocol):
    """Which one of several processes does something. Raises `Unavailable`."""

    def hold(self, name: str, holder: str, ttl: timedelta) -> bool:
        """Take it, or renew it. True for exactly one holder until `ttl` has passed since its last call."""

    def release(self, name: str, holder: str) -> None:
        """Let go of it before it ends; nothing happens when somebody else holds it."""
