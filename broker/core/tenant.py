"""A tenant as the configuration describes it, frozen. Built by broker.settings, read by everybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from broker.core.values import ClientId, ConnectionId, DirectoryId, TenantId

INTERNAL_CLIENT = ClientId("~homerealm")
"""No configured client can have this id: `~` is refused there."""


class AfterReset(StrEnum):
    """`rules.reset.after`: where a person lands once the new password is saved (CONTRACT 2)."""

    SIGN_IN_PAGE = "sign_in_page"
    SIGNED_IN = "signed_in"
    APP = "app"


class SecondFactor(StrEnum):
    OFF = "off"
    OPTIONAL = "optional"
    REQUIRED = "required"


class Role(StrEnum):
    """What an administrator may do; the order is the rank."""

    HELPDESK = "helpdesk"
    ADMIN = "admin"
    OWNER = "owner"

    @property
    def rank(self) -> int:
        return list(Role).index(self)


@dataclass(frozen=True, slots=True)
class PasswordRules:
    """NIST SP 800-63B-4: length and a blocklist, no composition rules (SECURITY 18). Lengths in code points."""

    min_length: int = 15
    min_length_with_factor: int = 8
    max_length: int = 1024
    blocklist: bool = True
    history: int = 0
    ask_twice: bool = False


@dataclass(frozen=True, slots=True)
class ResetRules:
    lifetime: timedelta = timedelta(minutes=30)
    after: AfterReset = AfterReset.SIGN_IN_PAGE
    unknown_account_mail: bool = True
    max_mails_per_hour: int = 5
    """Per address."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    code: timedelta = timedelta(seconds=60)
    access_token: timedelta = timedelta(minutes=10)
    id_token: timedelta = timedelta(minutes=10)
    refresh_token: timedelta = timedelta(days=30)
    session: timedelta = timedelta(hours=12)
    transaction: timedelta = timedelta(hours=2)
    """Longer than a reset link, so that the app's request still waits when the link is used."""


class ChallengeRule(StrEnum):
    """When a form asks for a solved challenge."""

    OFF = "off"
    UNDER_ATTACK = "under_attack"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class GuardRules:
    challenge: ChallengeRule = ChallengeRule.UNDER_ATTACK
    attack_failures: int = 120
    """A minute, of all accounts together."""


@dataclass(frozen=True, slots=True)
class Rules:
    password: PasswordRules = PasswordRules()
    reset: ResetRules = ResetRules()
    second_factor: SecondFactor = SecondFactor.OPTIONAL
    lifetimes: Lifetimes = Lifetimes()
    guard: GuardRules = GuardRules()


@dataclass(frozen=True, slots=True)
class Branding:
    logo: str | None = None
    color: str | None = None
    """`#rrggbb`, checked for contrast when the configuration loads; core/brand says how pages use it."""
    color_dark: str | None = None
    """The same for the dark scheme; None: derived from `color`."""
    support_url: str | None = None
    support_email: str | None = None


@dataclass(frozen=True, slots=True)
class MailRules:
    sender: str
    """An RFC 5322 mailbox: `Acme <no-reply@acme.example>`."""
    transport: str = field(repr=False)
    """May hold a password: `smtp://user:pass@host`. A relative folder was made absolute."""
    only_to: tuple[str, ...] = ()
    """Patterns such as `*@acme.example`; empty allows every recipient. For environments that hold real addresses."""


@dataclass(frozen=True, slots=True)
class Client:
    """A relying party. Field names are those of RFC 7591. `secret_digests` are SHA-256 of its secrets, hex."""

    client_id: ClientId
    client_name: str
    secret_digests: tuple[str, ...] = field(default=(), repr=False)
    redirect_uris: tuple[str, ...] = ()
    post_logout_redirect_uris: tuple[str, ...] = ()
    initiate_login_uri: str | None = None
    client_uri: str | None = None
    logo_uri: str | None = None
    policy_uri: str | None = None
    tos_uri: str | None = None
    grant_types: tuple[str, ...] = ("authorization_code",)
    response_types: tuple[str, ...] = ("code",)
    scope: str = "openid profile email address phone offline_access"
    token_endpoint_auth_method: str = "client_secret_basic"
    """`client_secret_basic`, `client_secret_post` or `none`: the registered method only. `client_secret` (ours, when
    the configuration states no method for a client with a secret) accepts basic and post."""
    application_type: str = "web"
    """`web` or `native` (OIDC Registration 2); native apps may use any port of a loopback literal (RFC 8252 7.3)."""
    id_token_signed_response_alg: str = "RS256"
    connections: tuple[ConnectionId, ...] | None = None
    """Those it may use, in the order of their buttons; None: all of the tenant's."""
    default_max_age: int | None = None
    require_auth_time: bool = False
    first_party: bool = True
    """Ours: no consent is asked. Third-party clients ask."""
    require_pkce: bool = True
    access_token_audience: str | None = None
    internal: bool = False
    """`/account`, `/admin` and a bare `/login`: ordinary transactions of ours (ARCHITECTURE 5.4)."""

    def within(self, live: Client) -> Client:
        """This client as it was, with the addresses and connections that it still has, and asked for consent as now."""
        connections = self.connections if live.connections is None else tuple(
            id for id in live.connections if self.connections is None or id in self.connections
        )  # fmt: skip
        return replace(
            self,
            secret_digests=live.secret_digests,
            redirect_uris=tuple(uri for uri in self.redirect_uris if uri in live.redirect_uris),
            connections=connections,
            first_party=live.first_party,
        )

    @property
    def origins(self) -> frozenset[str]:
        """Scheme and host of every place this client may be sent to, for a page's `form-action`."""
        found = set()
        for uri in (*self.redirect_uris, *self.post_logout_redirect_uris):
            parts = urlsplit(uri)
            found.add(f"{parts.scheme}://{parts.netloc}" if parts.netloc else f"{parts.scheme}:")
        return frozenset(found)


@dataclass(frozen=True, slots=True)
class ConnectionEntry:
    """One connection in the configuration; `settings` is the frozen model of its type."""

    id: ConnectionId
    type: str
    title: str
    domains: tuple[str, ...]
    settings: Any


@dataclass(frozen=True, slots=True)
class AdminEntry:
    connection: ConnectionId
    identifier: str
    role: Role


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant in one environment: its own directory, keys, issuer, cookies and mail rules."""

    id: TenantId
    name: str
    issuer: str
    directory: DirectoryId
    environment: str
    mail: MailRules
    connections: tuple[ConnectionEntry, ...] = ()
    clients: Mapping[ClientId, Client] = field(default_factory=dict)
    rules: Rules = Rules()
    branding: Branding = Branding()
    languages: tuple[str, ...] = ("en",)
    admins: tuple[AdminEntry, ...] = ()

    def connections_of(self, client: Client | None) -> tuple[ConnectionEntry, ...]:
        """The connections that a client offers, in the order of their buttons."""
        if client is None or client.connections is None:
            return self.connections
        by_id = {entry.id: entry for entry in self.connections}
        return tuple(by_id[name] for name in client.connections if name in by_id)

    def client(self, id: str) -> Client | None:
        """A relying party of this tenant, its own internal pages included."""
        return self.internal_client if id == INTERNAL_CLIENT else self.clients.get(ClientId(id))

    @property
    def internal_client(self) -> Client:
        """Our own pages as an ordinary client: there is one way to sign in, not two (ARCHITECTURE 5.4)."""
        return Client(
            client_id=INTERNAL_CLIENT,
            client_name=self.name,
            redirect_uris=tuple(f"{self.issuer}{path}" for path in ("/account", "/admin", "/login")),
            client_uri=f"{self.issuer}/account",
            scope="openid",
            internal=True,
        )

    def connection(self, id: str) -> ConnectionEntry | None:
        return next((entry for entry in self.connections if entry.id == id), None)

    def within(self, live: Tenant) -> Tenant:
        """This tenant as it was when a login began, without what is not there any more (SECURITY 3).

        What was switched off since then is off at once: connections, clients, their addresses, administrators. What
        was added or changed is for logins that begin now.
        """
        kinds = {entry.id: entry.type for entry in live.connections}
        connections = tuple(entry for entry in self.connections if kinds.get(entry.id) == entry.type)
        clients = {id: client.within(live.clients[id]) for id, client in self.clients.items() if id in live.clients}
        # How guesses are met is never as it was: whoever guesses would keep logins from before the defence was raised.
        rules = replace(self.rules, guard=live.rules.guard)
        return replace(self, connections=connections, clients=clients, rules=rules, admins=live.admins, mail=live.mail)


@dataclass(frozen=True, slots=True)
class Egress:
    """What outgoing HTTP may reach beyond public https (CONTRACT 2)."""

    allow: tuple[str, ...] = ()
    """Addresses or networks in CIDR notation, or host names; http is permitted to these as well."""
    ca_bundle: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """A whole configuration. Replaced whole, never changed."""

    base_url: str
    database: str = field(repr=False)
    key_value: str = field(repr=False)
    secret_key: bytes = field(repr=False)
    tenants: Mapping[TenantId, Tenant]
    version: str
    """Changes with the content; a login in progress keeps the version that it began with."""
    root: str
    """The folder that relative paths start at: the parent of the configuration folder."""
    config_dir: str
    other_secret_keys: tuple[bytes, ...] = field(default=(), repr=False)
    """What was made with one of these is recognised, too: while one secret key takes the place of another."""
    trusted_proxies: tuple[str, ...] = ()
    egress: Egress = Egress()
    metrics: str | None = None
    """`host:port` of the internal listener."""
