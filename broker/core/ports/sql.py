"""SQL: everything that is a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from broker.core.mail import Job
from broker.core.ticket import Purpose, RedeemedTicket, Ticket
from broker.core.values import (
    ClientId,
    ConnectionId,
    DirectoryId,
    Identity,
    User,
    UserId,
)
from broker.core.watching import Audit


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

    def only_by(
        self, directory: DirectoryId, going: Sequence[ConnectionId], staying: Sequence[ConnectionId], limit: int
    ) -> int:
        """How many people sign in by a connection that goes, and by none that stays; `limit` for that many or more."""

    def delete(self, id: UserId) -> None: ...


class Tickets(Protocol):
    def hold(self, user: UserId) -> None:
        """Until this transaction has ended, whoever holds or issues for the same user waits: what is read now stays."""

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
    def put(self, *jobs: Job) -> None: ...

    def recent(self, tenant: str, kind: str, key: str, since: datetime) -> int:
        """How many mails of a kind were queued to an address (by its digest `key`) since then."""

    def note(self, tenant: str, kind: str, key: str, at: datetime) -> None:
        """Remember that a mail of a kind was queued to an address."""

    def claim(self, now: datetime, lease: timedelta, limit: int = 20) -> list[Job]:
        """Take due jobs for a while; nobody else gets them until the lease ends (a crash gives them back).

        `attempts` counts earlier claims, also those that ended in a crash. So a job as it was claimed says whose it
        is: once another one has claimed it, the methods below leave it alone. Leases are much shorter than two minutes:
        one that ends later than that was made before the clock was set back, and counts as over.
        """

    def renew(self, jobs: Sequence[Job], until: datetime) -> list[Job]:
        """Leases of jobs in hand end later: those of them that are still the caller's. One statement."""

    def put_right(self, now: datetime, longest: Sequence[timedelta]) -> int:
        """What is due later than it can have been put off was put off, or queued, before the clock was set back: it is
        due now. `longest[n]` is the longest delay after n claims, the last one that after more. Returns how many."""

    def give_back(self, jobs: Sequence[Job], due: datetime) -> None:
        """Claimed and not begun: as if they had not been claimed, but not due before then."""

    def done(self, job: Job, now: datetime) -> None:
        """Finished: the payload is wiped. Raises `JobLost`, and so ends the transaction of who is too late."""

    def retry(self, job: Job, due: datetime, error: str) -> None:
        """Raises `JobLost`."""

    def dead(self, job: Job, error: str, now: datetime) -> None:
        """Given up: the payload is wiped, the row stays for the operator. Raises `JobLost`."""

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

    def enqueue(self, job: Job) -> None:
        """A job and nothing else, which may share its transaction with jobs of others at the same time.

        It is durable when this returns. Raises `Unavailable`; then it may not be there.
        """

    def marker(self) -> str:
        """Made with the database, `<Unix seconds>.<random>`; the key-value store carries the same (see Throttle)."""

    def reseal(self) -> Mapping[str, int]:
        """Seal everything with the key of the moment that was sealed with an earlier one: how many rows, by table.

        In small transactions, beside whoever works. Raises `ValueError` for what no key of ours opens.
        """

    def ping(self) -> str:
        """The revision of the tables. Raises `ConfigurationError` for tables that this version cannot work with,
        `Unavailable`."""

    def close(self) -> None: ...
