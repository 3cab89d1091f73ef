"""What a connection is, and what it may be able to do.

A connection declares a capability by inheriting it; nothing asks for its type. Every connection has exactly one way
to sign in (PasswordSignIn or RedirectSignIn) and at most one way to reset (LocalReset or UpstreamReset).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar

from broker.core.ports import Credentials, Toolbox
from broker.core.values import ConnectionId, Identity, User


@dataclass(frozen=True, slots=True)
class Redirect:
    """Send the browser there. `private` is kept in the transaction and handed back on arrival."""

    url: str
    private: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PostForm:
    """Send the browser there by a form (SAML's POST binding)."""

    url: str
    fields: Mapping[str, str]
    private: Mapping[str, str] = field(default_factory=dict)


Departure = Redirect | PostForm


@dataclass(frozen=True, slots=True)
class Hint:
    """What a departure may tell the provider. Everything is optional, and nothing is trusted back."""

    identifier: str | None = None
    force_login: bool = False
    """The app demands a fresh login (`prompt=login`): forwarded, and the upstream's auth_time is checked."""
    max_age: int | None = None
    """Seconds."""
    select_account: bool = False
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """What came back from upstream, without the web framework around it."""

    params: Mapping[str, str]
    private: Mapping[str, str]
    return_url: str
    hint: Hint = Hint()


class ResetHow(StrEnum):
    """`reset.how` (CONTRACT 3)."""

    LOCAL = "local"
    DEEP_LINK = "deep_link"
    OIDC_FORGOT = "oidc_forgot"
    AUTHORIZE_HINT = "authorize_hint"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class ResetPage:
    """Where a password is reset that is not ours.

    `deep_link` and `oidc_forgot` have a `url`; `authorize_hint` has none: its button is an ordinary departure of this
    connection with the identifier as hint; `text` has words only.
    """

    how: ResetHow
    provider: str
    """The name that people know: `Google`."""
    url: str | None = None
    text: str | None = None
    private: Mapping[str, str] = field(default_factory=dict)
    """For `oidc_forgot`: what must match when the person comes back with an answer."""
    change_only: bool = False
    """The page is for people who are still signed in there; said on our page."""


S = TypeVar("S")


class Connection(ABC, Generic[S]):
    """A way to sign in, built once for each entry in the configuration."""

    Settings: type[Any]
    """The pydantic model (a subclass of `broker.sdk.ConnectionSettings`) that validates its YAML."""

    def __init__(self, id: ConnectionId, settings: S, tools: Toolbox) -> None:
        self.id = id
        self.settings = settings
        self.tools = tools

    @property
    def title(self) -> str:
        return str(getattr(self.settings, "title", "") or self.id)

    def http_origins(self) -> tuple[str, ...]:
        """Origins on plain http (loopback) that a browser is sent to: a page's `form-action` needs them."""
        return ()

    def check_live(self) -> list[str]:
        """For `homerealm check --live`: what does not work right now, in sentences. May use the network."""
        return []


class PasswordSignIn(ABC):
    """People type an identifier and a password on our page."""

    @abstractmethod
    def check_password(self, identifier: str, password: str) -> Identity | None:
        """Who this is; None for an unknown person or a wrong password, after the same amount of work.

        Raises: `Busy` when no hashing can be done now; `ConnectionFailed` when a directory does not answer.
        """


class LocalPasswords(PasswordSignIn):
    """Passwords are compared here: who is meant is known before, so that all names of an account share one count."""

    @abstractmethod
    def look_up(self, identifier: str) -> Credentials | None:
        """The account that signs in by this name; None for nobody. One query for everybody."""

    @abstractmethod
    def compare(self, found: Credentials | None, password: str) -> Identity | None:
        """As `check_password`: one verification for everybody, nobody included."""

    def check_password(self, identifier: str, password: str) -> Identity | None:
        return self.compare(self.look_up(identifier), password)


class RedirectSignIn(ABC):
    """People sign in at a provider and come back to `/callback/<connection>`."""

    @abstractmethod
    def depart(self, state: str, return_url: str, hint: Hint) -> Departure:
        """Where to send the browser. Raises `ConnectionFailed`."""

    @abstractmethod
    def arrive(self, arrival: Arrival) -> Identity:
        """Who came back, verified. Raises `ConnectionFailed`; never returns somebody it is not sure of."""


class LocalReset(ABC):
    """Passwords live here: a forgotten one is reset by a mailed ticket, written by flows/passwords alone."""

    @abstractmethod
    def find(self, identifier: str) -> list[User]:
        """The accounts that an address or a username may mean. Called by the worker, never while somebody waits."""


class UpstreamReset(ABC):
    """Passwords live elsewhere."""

    @abstractmethod
    def reset_page(self, hint: str | None, state: str | None = None, return_url: str | None = None) -> ResetPage:
        """Where its users reset a password. Depends on public facts only: nothing is looked up.

        `state` and `return_url` are used by `oidc_forgot` to come back.
        """


class UpstreamSignOut(ABC):
    @abstractmethod
    def sign_out(self, identity: Identity, return_url: str, state: str) -> Redirect | None:
        """Where to send a browser to sign out upstream as well; None where that is not offered now."""


class Refresh(ABC):
    @abstractmethod
    def refresh(self, identity: Identity) -> Identity:
        """The same person, with the claims of now. Raises `ConnectionFailed`."""
