"""What the core needs of the world. Each port has a contract suite in broker.testing.contracts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NewType, Protocol

from broker.core.attempts import Delay, Demand, Limit, Verdict, Watch
from broker.core.mail import Job
from broker.core.tenant import Tenant
from broker.core.ticket import Purpose, RedeemedTicket, Ticket
from broker.core.transaction import Transaction
from broker.core.values import (
    ClientId,
    ConnectionId,
    DirectoryId,
    Grant,
    GrantId,
    Identity,
    Session,
    SessionId,
    User,
    UserId,
)
from broker.core.watching import Audit

# --- The world ---------------------------------------------------------------------------------------------------


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


# --- SQL: everything that is a row --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user with what is compared at sign-in, read by one query."""

    user: User
    hash: str | None


class Users(Protocol):
    """People. Identifiers are keyed by (directory, connection, kind, key); see core/identifiers."""

    def get(self, id: UserId) -> User | None: ...

    def find(
        self,
        directory: DirectoryId,
        connection: ConnectionId,
        identifier: str,
        kinds: Sequence[str] = ("email", "username"),
    ) -> Credentials | None:
        """By what people sign in with at a database connection. One query. None for anything unparsable."""

    def find_by_email(self, directory: DirectoryId, address: str) -> list[User]:
        """Everybody with this contact address, verified or not, local and federated, oldest first."""

    def find_by_username(self, directory: DirectoryId, username: str) -> list[User]: ...

    def find_by_identity(
        self, directory: DirectoryId, connection: ConnectionId, issuer: str, subject: str
    ) -> User | None: ...

    def search(self, directory: DirectoryId, text: str, limit: int = 50) -> list[User]:
        """By the start of a username, address or name, or by id: for the support desk and the command line."""

    def each(self, directory: DirectoryId, *, after: UserId | None = None, limit: int = 500) -> Iterator[User]: ...

    def add(self, user: User, *, hash: str | None = None, kinds: Sequence[str] = ()) -> User:
        """A new person; `kinds` names the identifiers that sign them in. Raises `IdentifierTaken`."""

    def update(self, id: UserId, change: Callable[[User], User]) -> User:
        """Everything but the password and the epoch. Raises `IdentifierTaken`, `LookupError`.

        `updated_at` follows the clock; `must_change_password` may be set here, never cleared (`ValueError`).
        """

    def hash_of(self, id: UserId) -> str | None: ...

    def write_hash(self, id: UserId, hash: str, *, must_change: bool, at: datetime) -> None:
        """For flows/passwords (after a Proof) alone."""

    def rehash(self, id: UserId, old: str, new: str) -> bool:
        """Replace a hash by a stronger one of the same password, if it is still `old`."""

    def move_epoch(self, id: UserId) -> int:
        """Everything issued before is refused from now on. Returns the new epoch."""

    def link(self, id: UserId, directory: DirectoryId, identity: Identity, at: datetime) -> None:
        """Raises `IdentifierTaken` when the identity belongs to somebody else."""

    def identities(self, id: UserId) -> list[Identity]: ...

    def delete(self, id: UserId) -> None: ...


class Tickets(Protocol):
    def issue(self, ticket: Ticket) -> str:
        """Store it and return its secret. Older ones of the same user and purpose are marked as replaced."""

    def look(self, secret: str) -> Ticket | None:
        """Changes nothing."""

    def latest(self, user: UserId, purpose: Purpose) -> Ticket | None:
        """The newest, used or not: to keep mails 60 s apart."""

    def redeem(
        self, secret: str, purpose: Purpose, directory: DirectoryId, epoch: int, now: datetime
    ) -> RedeemedTicket | None:
        """One conditional UPDATE: exactly one caller wins. A ticket of elsewhere is refused and not consumed."""

    def void(self, user: UserId, now: datetime) -> int:
        """Mark every unused ticket of somebody as replaced."""

    def sweep(self, before: datetime) -> int:
        """Remove those that expired before then: housekeeping, never relied upon. Returns how many."""


class Outbox(Protocol):
    def put(self, job: Job) -> None: ...

    def recent(self, tenant: str, kind: str, key: str, since: datetime) -> int:
        """How many mails of a kind were queued to an address (by its digest `key`) since then."""

    def note(self, tenant: str, kind: str, key: str, at: datetime) -> None:
        """Remember that a mail of a kind was queued to an address."""

    def claim(self, now: datetime, lease: timedelta, limit: int = 20) -> list[Job]:
        """Take due jobs for a while; nobody else gets them until the lease ends (a crash gives them back).

        `attempts` counts earlier claims, also those that ended in a crash.
        """

    def give_back(self, ids: Sequence[str], due: datetime) -> None:
        """Claimed and not begun: as if they had not been claimed, but not due before then."""

    def done(self, id: str, now: datetime) -> None:
        """Finished: the payload is wiped."""

    def retry(self, id: str, due: datetime, error: str) -> None: ...

    def dead(self, id: str, error: str, now: datetime) -> None:
        """Given up: the payload is wiped, the row stays for the operator."""

    def depth(self) -> Mapping[str, int]:
        """How many are `new`, `done`, `dead`."""

    def backlog(self) -> tuple[int, int, datetime | None]:
        """How many wait, how many were given up, and since when the oldest of those that wait is due."""

    def sweep(self, before: datetime) -> int:
        """Remove jobs done before then, and notes older than that; dead jobs stay. Returns how many."""


class Consents(Protocol):
    def granted(self, user: UserId, client: ClientId) -> frozenset[str]: ...

    def grant(self, user: UserId, client: ClientId, scopes: frozenset[str], at: datetime) -> None:
        """Adds to what was granted before."""

    def revoke(self, user: UserId, client: ClientId) -> None: ...


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key of one tenant. `private` is PKCS#8 DER, sealed at rest."""

    kid: str
    tenant: str
    algorithm: str
    """`RS256` or `ES256`."""
    private: bytes
    created_at: datetime
    active_from: datetime
    """Published before it signs, so that relying parties know it in time."""
    retired_at: datetime | None = None
    """Signs no more; published until everything that it signed has expired."""


class Keys(Protocol):
    def of(self, tenant: str) -> list[SigningKey]:
        """Oldest first, retired ones included until they are removed."""

    def add(self, key: SigningKey) -> None: ...

    def retire(self, kid: str, at: datetime) -> None: ...

    def remove(self, kid: str) -> None: ...


class UnitOfWork(Protocol):
    """One SQL transaction over all the stores. Leaving the `with` block commits; an exception rolls back."""

    @property
    def users(self) -> Users: ...
    @property
    def tickets(self) -> Tickets: ...
    @property
    def outbox(self) -> Outbox: ...
    @property
    def audit(self) -> Audit: ...
    @property
    def consents(self) -> Consents: ...
    @property
    def keys(self) -> Keys: ...


class Database(Protocol):
    def writing(self) -> AbstractContextManager[UnitOfWork]:
        """A transaction that may write. SQLite: BEGIN IMMEDIATE, so that it never fails half-way as "locked"."""

    def reading(self) -> AbstractContextManager[UnitOfWork]:
        """A consistent view. Writing through it is an error."""

    def asking(self) -> AbstractContextManager[UnitOfWork]:
        """One question, in one round trip: what every token costs. A second one, and writing, are errors."""

    def marker(self) -> str:
        """Made with the database, `<Unix seconds>.<random>`; the key-value store carries the same (see Throttle)."""

    def reseal(self) -> Mapping[str, int]:
        """Seal everything with the key of the moment that was sealed with an earlier one: how many rows, by table.

        In small transactions, beside whoever works. Raises `ValueError` for what no key of ours opens.
        """

    def ping(self) -> None:
        """Raises `Unavailable`."""

    def close(self) -> None: ...


# --- Key-value: everything that may be lost with the day ------------------------------------------------------------


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


# --- What a connection gets ------------------------------------------------------------------------------------------


class Toolbox(Protocol):
    """All that a connection may touch. It sees no web framework, no configuration but its own, no other tenant."""

    @property
    def fetcher(self) -> Fetcher: ...
    @property
    def verifier(self) -> TokenVerifier: ...
    @property
    def upstream(self) -> UpstreamClients: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def entropy(self) -> Entropy: ...
    @property
    def hasher(self) -> Hasher: ...
    @property
    def database(self) -> Database: ...
    @property
    def tenant(self) -> Tenant: ...


class TokenVerifier(Protocol):
    """Verifies what upstreams sign (joserfc). Algorithms, issuer, audience and key source come from our side."""

    def verify(
        self,
        token: str,
        *,
        jwks_uri: str,
        issuer: str,
        audience: str,
        algorithms: Sequence[str] = ("RS256", "ES256", "PS256", "EdDSA"),
    ) -> Mapping[str, Any]:
        """The claims, checked for signature, iss, aud/azp, exp, iat, nbf (30 s leeway).

        Keys are cached by address; an unknown kid refetches at most once per five minutes.
        Raises `ConnectionFailed("connection.invalid")`.
        """


class UpstreamClients(Protocol):
    """Authlib's stateless OAuth 2.0 client on the Fetcher's transport."""

    def authorization_url(
        self,
        endpoint: str,
        *,
        client_id: str,
        redirect_uri: str,
        scope: str,
        state: str,
        code_verifier: str | None,
        extra: Mapping[str, str],
    ) -> str: ...

    def exchange(
        self,
        endpoint: str,
        *,
        client_id: str,
        client_secret: str | None,
        auth_method: str,
        code: str,
        redirect_uri: str,
        code_verifier: str | None,
    ) -> Mapping[str, Any]:
        """The token answer. Raises `ConnectionFailed`."""
