"""The nouns everybody shares. Frozen, compared by value, without behaviour that needs the outside world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NewType

TenantId = NewType("TenantId", str)
"""`acme`, or `test-acme` for an environment of it: what stands in addresses."""
DirectoryId = NewType("DirectoryId", str)
"""One user database: `acme/live`, `acme/test`."""
ConnectionId = NewType("ConnectionId", str)
ClientId = NewType("ClientId", str)
UserId = NewType("UserId", str)
TransactionId = NewType("TransactionId", str)
SessionId = NewType("SessionId", str)
"""The public id of a browser session (the OIDC `sid`); the secret of its cookie is never stored."""
GrantId = NewType("GrantId", str)
"""One authorization: the code, and every token that came of it (a *family*)."""

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Secret:
    """A text that must not be printed: no `__str__`, no `__format__`, and a `repr` without it (SECURITY 19)."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself. Search for this call to find every place where a secret leaves its wrapping."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        raise TypeError("a Secret is not printed: call reveal() where the value is really needed")

    def __format__(self, spec: str) -> str:
        raise TypeError("a Secret is not formatted: call reveal() where the value is really needed")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    def __bool__(self) -> bool:
        return bool(self._value)


class ActorKind(StrEnum):
    USER = "user"
    ADMIN = "admin"
    COMMAND_LINE = "command_line"
    WORKER = "worker"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who caused a change. The audit log never holds an anonymous one."""

    kind: ActorKind
    name: str

    @classmethod
    def user(cls, user: UserId) -> Actor:
        return cls(ActorKind.USER, user)

    @classmethod
    def admin(cls, user: UserId) -> Actor:
        return cls(ActorKind.ADMIN, user)

    @classmethod
    def command_line(cls, name: str) -> Actor:
        return cls(ActorKind.COMMAND_LINE, name)

    @classmethod
    def client(cls, client: ClientId) -> Actor:
        """An app, at one of the endpoints for programs."""
        return cls(ActorKind.CLIENT, client)

    @classmethod
    def worker(cls) -> Actor:
        return cls(ActorKind.WORKER, "worker")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a connection says this person is: tenant + connection + issuer + subject (SECURITY 6).

    `claims` holds standard OIDC claims only (OIDC Core 5.1), already mapped by the connection.
    `methods` are RFC 8176 `amr` values. `at` is when the person proved it, not when we heard of it.
    """

    connection: ConnectionId
    issuer: str
    subject: str
    at: datetime
    methods: tuple[str, ...] = ()
    acr: str | None = None
    claims: Mapping[str, Any] = field(default_factory=dict)
    private: Mapping[str, str] = field(default_factory=dict)
    """What the connection needs later and nobody else reads, such as the upstream ID token for its logout."""

    @property
    def email(self) -> str | None:
        value = self.claims.get("email")
        return value if isinstance(value, str) and value else None

    @property
    def email_verified(self) -> bool:
        return self.claims.get("email_verified") is True


@dataclass(frozen=True, slots=True)
class User:
    """Our record of a person in one directory."""

    id: UserId
    directory: DirectoryId
    created_at: datetime
    updated_at: datetime
    connection: ConnectionId | None = None
    """The database connection that owns the record; None for people who only ever sign in upstream."""
    username: str | None = None
    email: str | None = None
    email_verified: bool = False
    blocked: bool = False
    epoch: int = 0
    """Everything issued under an older epoch is refused: sessions, codes, refresh families, tickets."""
    has_password: bool = False
    must_change_password: bool = False
    profile: Mapping[str, Any] = field(default_factory=dict)
    """Further standard claims: name, given_name, locale, zoneinfo, address, ..."""

    @property
    def label(self) -> str:
        """What the person is called on pages and in mails to themselves."""
        return self.username or self.email or str(self.profile.get("name") or self.id)


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that somebody is signed in on. Lives on the server; the cookie holds a 256-bit secret."""

    id: SessionId
    directory: DirectoryId
    user: UserId
    epoch: int
    identity: Identity
    created_at: datetime
    expires_at: datetime
    authenticated_at: datetime
    """OIDC `auth_time`: belongs to the browser session, not to a grant."""
    factors: tuple[str, ...] = ()
    confirmed_at: datetime | None = None
    """When an administrator last gave their own password for changing somebody else."""
    agent: str = ""
    """Browser and system in words, for the list of devices; never used for a decision."""
    clients: tuple[ClientId, ...] = ()
    """Relying parties that were told about this session, so that signing out can tell them."""


SPENT: Mapping[str, Any] = {
    "redirect_uri": "", "nonce": None, "code_challenge": None, "code_challenge_method": None,
}  # fmt: skip
"""What only the redemption of a code needs of its grant, and what stands there afterwards: the defaults."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one authorization allows: the content of a code, and then of a refresh family."""

    id: GrantId
    tenant: TenantId
    directory: DirectoryId
    client: ClientId
    user: UserId
    epoch: int
    scope: str
    issued_at: datetime
    expires_at: datetime
    """The end of the whole family."""
    authenticated_at: datetime
    redirect_uri: str = ""
    nonce: str | None = None
    code_challenge: str | None = None
    code_challenge_method: str | None = None
    methods: tuple[str, ...] = ()
    acr: str | None = None
    session: SessionId | None = None
    claims_request: Mapping[str, Any] = field(default_factory=dict)
    """The `claims` parameter of OIDC Core 5.5, parsed."""
    connection: ConnectionId | None = None

    def redeemed(self) -> Grant:
        """Without what only the redemption of its code needs: what a family remembers."""
        return replace(self, **SPENT)

    @property
    def offline(self) -> bool:
        """Whether its refresh tokens outlive the browser session (OIDC Core 11)."""
        return "offline_access" in self.scope.split()
