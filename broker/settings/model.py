"""What may stand in broker.yaml and in tenants/*.yaml. The JSON Schema, the example and the reference are generated
from these models: the docstring below an attribute is its documentation."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from broker.core import brand
from broker.core.errors import InvalidIdentifier
from broker.core.identifiers import parse_email
from broker.core.tenant import (
    AfterReset,
    ChallengeRule,
    GuardRules,
    Lifetimes,
    PasswordRules,
    ResetRules,
    Role,
    SecondFactor,
)
from broker.settings.addresses import (
    DatabaseAddress,
    KeyValueAddress,
    Mailbox,
    Network,
    Reachable,
    RecipientPattern,
    TransportAddress,
)
from broker.settings.client import ClientSettings
from broker.settings.connection import ConnectionSettings, SettingsModel
from broker.settings.types import (
    ConnectionName,
    Duration,
    EmailAddress,
    EnvironmentName,
    IssuerAddress,
    SecretText,
    TenantName,
    WebAddress,
    between,
    wrong,
)

SHORTEST_SECRET_KEY = 32
"""Characters."""


# --- broker.yaml ---------------------------------------------------------------------------------------------------


class Mail(SettingsModel):
    """How mail leaves, and from whom."""

    sender: Mailbox = Field(
        default="Homerealm <no-reply@localhost>", alias="from", examples=["Acme <no-reply@acme.example>"]
    )
    """The sender that people see."""
    transport: TransportAddress = Field(
        default="maildir:var/mail", examples=["smtp://user:password@mail.acme.example:587?tls=starttls", "console:"]
    )
    """`smtp://user:password@host:587?tls=starttls` (STARTTLS is the default but on loopback; `?tls=none` turns it off),
    `smtps://host` (both take `ca_bundle=file`, too), `maildir:folder`, or `console:`."""
    only_to: tuple[RecipientPattern, ...] = Field(default=(), examples=[["*@acme.example"]])
    """Mail goes to these addresses only, and to nobody else: for environments that hold real addresses."""


class EgressSettings(SettingsModel):
    """What the broker itself may reach over HTTP, beyond public addresses by https."""

    allow: tuple[Reachable, ...] = Field(default=(), examples=[["10.20.0.0/16", "sso.internal"]])
    """Networks, addresses or host names that are private and may be reached all the same; by http, too."""
    ca_bundle: str | None = Field(default=None, min_length=1, examples=["etc/internal-ca.pem"])
    """A file of certificates (PEM) to trust besides the public ones."""


def _listener(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise wrong("is no address to listen on; 127.0.0.1:9464 would be right")
    return value


class MetricsSettings(SettingsModel):
    """Metrics of all processes of a machine."""

    listen: Annotated[str, AfterValidator(_listener)] | None = Field(default=None, examples=["127.0.0.1:9464"])
    """Where `/metrics` and a `/readyz` with reasons are answered: an address that only your own systems reach. Replicas
    on one machine get one each from `--metrics` of `homerealm serve`, which is instead of this. Off by default."""


class BrokerFile(SettingsModel):
    """broker.yaml: what holds for the whole installation."""

    base_url: IssuerAddress = Field(default="http://localhost:8000", examples=["https://login.acme.example"])
    """Where the broker is reached. Public addresses come from here and from issuers, never from request headers."""
    database: DatabaseAddress = Field(
        default="sqlite:///var/homerealm.db", examples=["postgresql://homerealm@db.acme.example/homerealm"]
    )
    """`sqlite:///file` or `postgresql://user:password@host/name`. Relative files start at the configuration folder's
    parent, here and everywhere."""
    key_value: KeyValueAddress = Field(
        default="embedded", examples=["rediss://:${ENV:REDIS_PASSWORD}@cache.acme.example:6379/0"]
    )
    """`embedded` (a Valkey server that we start), `redis://`, `rediss://`, `unix:///socket`,
    `redis+sentinel://host,host/service` or `redis+cluster://host,host`; the operators' guide has their options."""
    secret_key: SecretText | None = Field(default=None, examples=["${ENV:HOMEREALM_SECRET_KEY}"])
    """At least 32 characters. Everything that is encrypted or signed with a key of the installation depends on it."""
    secret_key_file: str | None = Field(default=None, min_length=1, examples=["var/secret.key"])
    """The file of the secret key, made at the first start and readable by its owner only. `var/secret.key` unless
    `secret_key` is given."""
    other_secret_keys: tuple[SecretText, ...] = Field(
        default=(), max_length=4, examples=[["${ENV:HOMEREALM_EARLIER_SECRET_KEY}"]]
    )
    """Secret keys that are recognised, too, while one takes the place of another: the next one before it is used, the
    earlier one until nothing is left that was made with it (see the guide for operators)."""
    other_secret_key_files: tuple[str, ...] = Field(default=(), max_length=4, examples=[["var/earlier-secret.key"]])
    """The same in files, which must be there."""
    mail: Mail = Mail()
    """For every tenant that does not say otherwise."""
    trusted_proxies: tuple[Network, ...] = Field(default=(), examples=[["10.0.0.0/8"]])
    """Networks of the reverse proxies. Only they may say where a request came from (`X-Forwarded-For`)."""
    egress: EgressSettings = EgressSettings()
    """What the broker itself may reach over HTTP, beyond public addresses by https."""
    metrics: MetricsSettings = MetricsSettings()
    """Numbers for Prometheus, on a listener of their own. A change needs a restart."""

    @model_validator(mode="after")
    def _one_key(self) -> BrokerFile:
        if self.secret_key is not None and self.secret_key_file is not None:
            raise wrong("is given and secret_key, too; one of the two would be right", key="secret_key_file")
        if self.secret_key is not None and len(self.secret_key.reveal()) < SHORTEST_SECRET_KEY:
            raise wrong(
                f"is too short; at least {SHORTEST_SECRET_KEY} random characters would be right", key="secret_key"
            )
        if any(len(key.reveal()) < SHORTEST_SECRET_KEY for key in self.other_secret_keys):
            raise wrong(
                f"has a key of less than {SHORTEST_SECRET_KEY} characters; the keys of before or after would be right",
                key="other_secret_keys",
            )
        return self


# --- tenants/*.yaml ------------------------------------------------------------------------------------------------


def _color(page: str) -> AfterValidator:
    def check(value: str) -> str:
        try:
            complaint = brand.complaint(value, page)
        except ValueError:
            raise wrong('is not a colour; "#0b5fff" would be right (with quotes: # begins a comment)') from None
        if complaint:
            raise wrong(complaint)
        return value.lower()

    return AfterValidator(check)


_COLOR_SCHEMA = WithJsonSchema({"type": "string", "pattern": "^#[0-9a-fA-F]{6}$"})


class BrandingSettings(SettingsModel):
    """How the pages and mails look."""

    logo: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\.(svg|png|webp|jpg)$", examples=["acme.svg"]
    )
    """A file in the configuration folder's `branding/`: svg, png, webp or jpg."""
    color: Annotated[str, _color(brand.LIGHT_PAGE), _COLOR_SCHEMA] | None = Field(default=None, examples=["#0b5fff"])
    """For buttons and links in the light scheme, `#rrggbb` in quotes. Must contrast 4.5 to 1 with white."""
    color_dark: Annotated[str, _color(brand.DARK_PAGE), _COLOR_SCHEMA] | None = Field(
        default=None, examples=["#7aa7ff"]
    )
    """The same in the dark scheme, where it must contrast 4.5 to 1 with a nearly black page. Made from `color` by
    default."""
    support_url: WebAddress | None = Field(default=None, examples=["https://acme.example/help"])
    """Where people get help who cannot sign in."""
    support_email: EmailAddress | None = Field(default=None, examples=["help@acme.example"])
    """Whom people write to who cannot sign in."""

    @model_validator(mode="after")
    def _both(self) -> BrandingSettings:
        if self.color_dark is not None and self.color is None:
            raise wrong("is given without color; both would be right", key="color_dark")
        return self


def _no_history(value: int) -> int:
    if value:
        raise wrong("is not possible yet: earlier passwords are not kept; 0 would be right")
    return value


class PasswordSettings(SettingsModel):
    """NIST SP 800-63B-4: a length and a blocklist, no rules about kinds of characters."""

    min_length: int = Field(default=PasswordRules().min_length, ge=8, le=128)
    """Characters, for people who sign in by password alone."""
    min_length_with_factor: int = Field(default=PasswordRules().min_length_with_factor, ge=8, le=128)
    """Characters, for people with a second factor."""
    max_length: int = Field(default=PasswordRules().max_length, ge=128, le=1024)
    """Characters."""
    blocklist: bool = PasswordRules().blocklist
    """Refuse passwords that are known from leaks. Nothing is sent anywhere for it."""
    history: Annotated[int, AfterValidator(_no_history)] = Field(default=PasswordRules().history, ge=0, le=24)
    """How many earlier passwords cannot be used again. 0 until they are kept."""
    ask_twice: bool = PasswordRules().ask_twice
    """Ask for a new password in two fields instead of one with a "Show" button."""


class ResetSettingsOfTenant(SettingsModel):
    """Forgotten passwords that are reset here."""

    lifetime: Annotated[Duration, between("5m", "24h")] = ResetRules().lifetime
    """How long a mailed link works."""
    after: AfterReset = ResetRules().after
    """Where people land: `sign_in_page` = they sign in with the new password; `signed_in` = they are signed in, and a
    page leads to the app; `app` = signed in and straight on to the app."""
    unknown_account_mail: bool = ResetRules().unknown_account_mail
    """Write to addresses without an account that they have none, at most once a day."""
    max_mails_per_hour: int = Field(default=ResetRules().max_mails_per_hour, ge=1, le=100)
    """To one address."""


class LifetimeSettings(SettingsModel):
    """How long things are valid."""

    code: Annotated[Duration, between("1s", "60s")] = Lifetimes().code
    """An authorization code (RFC 9700 wants it short)."""
    access_token: Annotated[Duration, between("30s", "1d")] = Lifetimes().access_token
    """An access token."""
    id_token: Annotated[Duration, between("30s", "1d")] = Lifetimes().id_token
    """An ID token."""
    refresh_token: Annotated[Duration, between("1m", "400d")] = Lifetimes().refresh_token
    """A refresh token and all that replace it."""
    session: Annotated[Duration, between("1m", "90d")] = Lifetimes().session
    """Signed in on a browser."""
    transaction: Annotated[Duration, between("10m", "2d")] | None = Field(default=None, examples=["2h"])
    """How long an app's request waits for somebody to sign in: longer than a reset link works. By default `2h`, or
    half an hour longer than `rules.reset.lifetime`."""


def _not_required(value: SecondFactor) -> SecondFactor:
    # Nothing asks for one yet. A rule that is written down and not carried out would be worse than a refusal.
    if value is SecondFactor.REQUIRED:
        raise wrong("is not possible yet: there are no second factors here; off or optional would be right")
    return value


class GuardSettings(SettingsModel):
    """Against people who try passwords in masses. Counting attempts and letting them wait is always on."""

    challenge: ChallengeRule = GuardRules().challenge
    """When a form asks the browser for a small computation first: `off`, `under_attack` or `always`. No third party
    takes part, people notice a moment's wait at most, and without JavaScript a minute's wait does instead."""
    attack_failures: int = Field(default=GuardRules().attack_failures, ge=10, le=100_000)
    """So many failed attempts within a minute, all accounts together, are an attack. It is over when they stayed below
    half of it for five minutes."""


class RulesSettings(SettingsModel):
    """What holds for everybody who signs in."""

    password: PasswordSettings = PasswordSettings()
    """NIST SP 800-63B-4: a length and a blocklist, no rules about kinds of characters."""
    reset: ResetSettingsOfTenant = ResetSettingsOfTenant()
    """Forgotten passwords that are reset here."""
    second_factor: Annotated[SecondFactor, AfterValidator(_not_required)] = SecondFactor.OPTIONAL
    """`off` or `optional`, which are the same until there are second factors here. `required` is refused until then."""
    lifetimes: LifetimeSettings = LifetimeSettings()
    """How long things are valid: a number with s, m, h or d."""
    guard: GuardSettings = GuardSettings()
    """Against people who try passwords in masses."""

    @model_validator(mode="after")
    def _order(self) -> RulesSettings:
        if self.password.min_length > self.password.max_length:
            raise wrong("is more than max_length", key="password.min_length")
        if self.lifetimes.transaction is not None and self.lifetimes.transaction <= self.reset.lifetime:
            raise wrong(
                "is not longer than rules.reset.lifetime; the app's request must still wait when the link is used",
                key="lifetimes.transaction",
            )
        return self

    def transaction_lifetime(self) -> timedelta:
        shortest = self.reset.lifetime + timedelta(minutes=30)
        return self.lifetimes.transaction or max(Lifetimes().transaction, shortest)


def _identifier(value: str) -> str:
    try:
        parse_email(value)
    except InvalidIdentifier:
        raise wrong("is not one e-mail address; ada@acme.example would be right") from None
    return value


class AdminSettings(SettingsModel):
    """Somebody who may use `/admin`: whoever signs in by this connection as this person."""

    connection: ConnectionName = Field(examples=["users"])
    """The connection that says who it is."""
    identifier: Annotated[str, AfterValidator(_identifier)] = Field(examples=["ada@acme.example"])
    """An e-mail address, which must be verified. Never a username: whoever takes a name first would be in charge."""
    role: Role = Field(examples=["owner"])
    """`owner`, `admin` or `helpdesk`."""


class TenantMail(SettingsModel):
    """What differs from `mail` in broker.yaml."""

    sender: Mailbox | None = Field(default=None, alias="from", examples=["Acme <no-reply@acme.example>"])
    """The sender that people see."""
    transport: TransportAddress | None = Field(default=None, examples=["maildir:var/mail-test"])
    """As in broker.yaml."""
    only_to: tuple[RecipientPattern, ...] | None = Field(default=None, examples=[["*@acme.example"]])
    """Mail goes to these addresses only, and to nobody else."""


LanguageTag = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$")]


class TenantFile(SettingsModel):
    """tenants/*.yaml: one tenant, and its environments."""

    tenant: TenantName = Field(examples=["acme"])
    """Its name in addresses (`/t/acme`) and in the database, where people are stored with it: it never changes."""
    name: str | None = Field(default=None, min_length=1, max_length=60, examples=["Acme"])
    """What pages and mails call it."""
    issuer: IssuerAddress | None = Field(default=None, examples=["https://login.acme.example"])
    """Its address. `{base_url}/t/{tenant}` by default. Environments do not inherit it."""
    environments: dict[EnvironmentName, dict[str, Any]] = Field(
        default_factory=dict, examples=[{"live": {}, "test": {"mail": {"only_to": ["*@acme.example"]}}}]
    )
    """`live` is the tenant itself. Every other one (`test`, `dev`, ...) is a tenant of its own, `test-acme`, with its
    own people, keys and issuer. It inherits everything and may change any key but `tenant` and `environments`:
    mappings are merged key by key, `connections` and `clients` by their id, any other list is replaced, `null`
    restores the default."""
    branding: BrandingSettings = BrandingSettings()
    """How the pages and mails look."""
    languages: tuple[LanguageTag, ...] = Field(default=("en",), min_length=1, examples=[["en", "de"]])
    """Of its pages and mails; the first is for people whose browser asks for none of them."""
    rules: RulesSettings = RulesSettings()
    """What holds for everybody who signs in."""
    connections: tuple[ConnectionSettings, ...] = ()
    """The ways to sign in, in the order of their buttons."""
    clients: tuple[ClientSettings, ...] = ()
    """The apps that people sign in to."""
    admins: tuple[AdminSettings, ...] = ()
    """Who may use `/admin`."""
    mail: TenantMail = TenantMail()
    """What differs from `mail` in broker.yaml."""
