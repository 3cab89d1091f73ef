"""The composition root: settings, stores, services, connections, flows, one frozen Runtime. Plain constructors."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from broker import registry, resources
from broker.core.attempts import Puzzles
from broker.core.connection import Connection
from broker.core.errors import ConfigurationError, Unavailable
from broker.core.happenings import EVENTS
from broker.core.ports import (
    Blocklist,
    Clock,
    Database,
    Entropy,
    Fetcher,
    Grants,
    Hasher,
    Leases,
    Logins,
    Sessions,
    Throttle,
    TokenVerifier,
    Transactions,
    UpstreamClients,
    Vault,
)
from broker.core.story import Story
from broker.core.tenant import Branding, Settings, Tenant
from broker.core.values import ConnectionId, TenantId
from broker.core.watching import NO_METER, Meter, Spans, Stories, count_event
from broker.flows.accounts import Accounts
from broker.flows.desk import Desk
from broker.flows.guard import Guard
from broker.flows.known_device import KnownDevices
from broker.flows.ledger import Ledger
from broker.flows.means import Means
from broker.flows.passwords import Passwords
from broker.flows.readiness import WRONG_KEY, Readiness
from broker.flows.recovery import Recovery
from broker.flows.recovery_mail import RecoveryMail
from broker.flows.redemption import Redemption
from broker.flows.sign_in import SignIn
from broker.flows.sign_out import SignOut
from broker.oidc.provider import Provider
from broker.oidc.signing import Signing
from broker.processes.environment import CONFIG, HASHING_LANES, KEY_VALUE_URL, METRICS, NO_UPGRADE, ROLE
from broker.services import event_log
from broker.tracing import open_traces, traced

if TYPE_CHECKING:
    from broker.services.fetcher import HttpFetcher
    from broker.services.mail_render import MailRenderer
    from broker.services.mailer import Transport
    from broker.settings.load import Loader
    from broker.stores.kv.redis import RedisKeyValue


@dataclass(frozen=True)
class Tools:
    """What one connection may touch (broker.core.ports.Toolbox)."""

    fetcher: Fetcher
    verifier: TokenVerifier
    upstream: UpstreamClients
    clock: Clock
    entropy: Entropy
    hasher: Hasher
    database: Database
    tenant: Tenant


@dataclass(frozen=True)
class Engines:
    """Everything that touches the world. Tests hand in their own clock, entropy and fetcher."""

    clock: Clock
    entropy: Entropy
    vault: Vault
    hasher: Hasher
    blocklist: Blocklist
    fetcher: Fetcher
    verifier: TokenVerifier
    upstream: UpstreamClients
    database: Database
    transactions: Transactions
    sessions: Sessions
    grants: Grants
    logins: Logins
    throttle: Throttle
    stories: Stories
    leases: Leases
    ping: Callable[[], None]
    """Raises `Unavailable` when the key-value store does not answer."""
    inspect: Callable[[], tuple[list[str], list[str]]]
    """What the key-value store is, and what of it should be otherwise. Raises `Unavailable`."""
    close: Callable[[], None] = field(default=lambda: None)
    meter: Meter = NO_METER
    spans: Spans | None = None
    """None: no traces, and nothing is wrapped for them."""


class Runtime:
    """One configuration, built. Immutable: another configuration is another Runtime."""

    def __init__(self, settings: Settings, engines: Engines, before: Runtime | None = None) -> None:
        """`before` is the Runtime that this one takes the place of: what did not change is taken over."""
        self.settings = settings
        self.engines = engines
        self.clock = engines.clock
        self.entropy = engines.entropy
        self.vault = engines.vault
        self.database = engines.database
        self.sessions = engines.sessions
        self.leases = engines.leases
        # JWKS, discovery documents and open connections live in these instances.
        self._connections = _unchanged(before, settings, engines) if before else {}
        self._http_origins: dict[TenantId, frozenset[str]] = {}
        self._transports: dict[str, Transport] = before._transports if before else {}
        self._log = event_log.logger("homerealm")
        self.meter = engines.meter
        means = Means(
            clock=engines.clock,
            entropy=engines.entropy,
            vault=engines.vault,
            hasher=engines.hasher,
            blocklist=engines.blocklist,
            database=engines.database,
            transactions=engines.transactions,
            sessions=engines.sessions,
            grants=engines.grants,
            logins=engines.logins,
            throttle=engines.throttle,
            tenants=self.tenant,
            connections=self.connection,
        )
        self.means = means
        devices = KnownDevices(engines.vault, engines.entropy)
        self.guard = Guard(engines.throttle, engines.vault, engines.clock, devices, lambda: engines.hasher.strained)
        self.passwords = Passwords(means, self.guard)
        self.accounts = Accounts(means)
        self.sign_in = _sign_in(means, self.accounts, self.guard, engines.spans)
        self.sign_out = SignOut(means)
        self.recovery = Recovery(means, self.guard)
        self.recovery_mail = RecoveryMail(means)
        self.redemption = Redemption(means, self.guard, self.passwords)
        self.desk = Desk(means, self.passwords, self.recovery_mail)
        asked = {"database": engines.database.ping, "key_value": engines.ping, "signing_keys": self._keys}
        self.readiness: Readiness = Readiness(asked, self.log, before.readiness.down if before else {})
        self.ledger = Ledger(engines.database, engines.clock, engines.vault)
        self.signing: Signing = before.signing if before else Signing(engines.database, engines.clock)
        self.provider = Provider(
            clock=engines.clock,
            entropy=engines.entropy,
            vault=engines.vault,
            database=engines.database,
            grants=engines.grants,
            sessions=engines.sessions,
            signing=self.signing,
        )

    def tenant(self, id: TenantId) -> Tenant | None:
        return self.settings.tenants.get(id)

    def connection(self, tenant: Tenant, id: ConnectionId) -> Connection[Any] | None:
        """The instance behind a configured connection, built on first use and kept."""
        key, entry = (tenant.id, id), tenant.connection(id)
        if entry is None:
            return None
        found = self._connections.get(key)
        if found is None:
            kind = registry.resolve(entry.type)
            if kind is None:
                return None
            engines = self.engines
            tools = Tools(
                engines.fetcher, engines.verifier, engines.upstream, engines.clock, engines.entropy, engines.hasher,
                engines.database, tenant,
            )  # fmt: skip
            # Two threads may both build one; they are equal, and one of them is kept.
            found = self._connections.setdefault(key, kind(id, entry.settings, tools))
        return found

    def http_origins(self, tenant: Tenant) -> frozenset[str]:
        """Providers on plain http (loopback), which `form-action https:` does not cover."""
        found = self._http_origins.get(tenant.id)
        if found is None:
            built = (self.connection(tenant, entry.id) for entry in tenant.connections)
            found = frozenset(origin for one in built if one is not None for origin in one.http_origins())
            self._http_origins[tenant.id] = found
        return found

    @cached_property
    def puzzles(self) -> Puzzles:
        """Challenges for forms; nothing of it is imported before somebody attacks."""
        from broker.services.puzzles import AltchaPuzzles

        return AltchaPuzzles(self.vault, self.clock, self.entropy)

    @cached_property
    def mail_renderer(self) -> MailRenderer:
        """For the worker: a web process never renders a mail, and never imports what that takes."""
        from broker.services.mail_render import MailRenderer
        from broker.web.texts import catalogs

        templates = resources.templates()
        return MailRenderer(templates, catalogs(templates / "translations").of)

    def transports(self, url: str) -> Transport:
        """The transport behind an address such as `smtp://...`, opened once."""
        found = self._transports.get(url)
        if found is None:
            from broker.services.mailer import open_transport

            found = self._transports[url] = open_transport(url, Path(self.settings.root))
        return found

    def log(self, event: str, reference: str, **facts: str | int) -> None:
        """One JSON line, as loud as core/happenings says. Facts never hold a secret; empty ones are left out."""
        said = {name: value for name, value in facts.items() if value != ""}
        getattr(self._log, EVENTS[event].level)(event, reference=reference, **said)
        count_event(self.meter, event, facts)

    def log_exception(self, reference: str, error: Exception) -> None:
        # As text, and without the values of variables: a host application's renderer might print those.
        count_event(self.meter, "internal", {})
        self._log.error("internal", reference=reference, traceback="".join(traceback.format_exception(error)))

    def _keys(self) -> None:
        """Raises `Unavailable` when they do not open: a backup that was restored without its secret key."""
        for tenant in list(self.settings.tenants.values())[:1]:
            try:
                self.signing.keys(tenant.id)
            except ValueError as error:
                raise Unavailable(f"signing keys: {error}; {WRONG_KEY}") from None

    def keep(self, story: Story) -> None:
        """For `homerealm explain`."""
        self.engines.stories.keep(story)

    def close(self) -> None:
        self.engines.close()


def _sign_in(means: Means, accounts: Accounts, guard: Guard, spans: Spans | None) -> SignIn:
    if spans is None:
        return SignIn(means, accounts, guard)
    from broker.flows.traced import TracedSignIn

    return TracedSignIn(means, accounts, guard, spans)


def _unchanged(
    before: Runtime, settings: Settings, engines: Engines
) -> dict[tuple[TenantId, ConnectionId], Connection[Any]]:
    """The instances whose own settings, and what their toolbox holds, are the same as before."""
    if engines is not before.engines:
        return {}
    kept = {}
    for key, instance in list(before._connections.items()):
        old, new = before.settings.tenants.get(key[0]), settings.tenants.get(key[0])
        if old is None or new is None:
            continue
        if old is new or (_seen_by_connections(old) == _seen_by_connections(new)
                          and old.connection(key[1]) == new.connection(key[1])):  # fmt: skip
            kept[key] = instance
    return kept


def _seen_by_connections(tenant: Tenant) -> Tenant:
    return replace(tenant, connections=(), clients={}, branding=Branding())


def successor(before: Runtime, settings: Settings) -> Runtime:
    """Another configuration on the same engines; only outgoing HTTP is built anew, where `egress` changed."""
    engines = before.engines
    if settings.egress != before.settings.egress:
        from broker.services.fetcher import HttpFetcher

        inner: Any = engines.fetcher
        while hasattr(inner, "inner"):
            inner = inner.inner
        if isinstance(inner, HttpFetcher):
            engines = _with_fetcher(engines, HttpFetcher(settings.egress))
    return Runtime(settings, engines, before)


def _with_fetcher(engines: Engines, new: HttpFetcher) -> Engines:
    def close() -> None:
        new.close()
        engines.close()

    return replace(engines, close=close, **_way_out(new, engines.clock, engines.meter, engines.spans))


def _way_out(inner: Fetcher, clock: Clock, meter: Meter, spans: Spans | None) -> dict[str, Any]:
    """Outgoing HTTP, counted and traced where somebody looks, and what goes out through it."""
    from broker.services.upstream import AuthlibClients
    from broker.services.verifier import UpstreamVerifier

    fetcher = inner
    if meter is not NO_METER:
        from broker.services.measured import MeasuredFetcher

        fetcher = MeasuredFetcher(fetcher, meter)
    if spans is not None:
        from broker.services.traces import TracedFetcher

        fetcher = TracedFetcher(fetcher, spans)
    return {
        "fetcher": fetcher,
        "verifier": UpstreamVerifier(fetcher, clock),
        "upstream": AuthlibClients(fetcher),
    }


def load_settings(config: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read a configuration folder. Raises `ConfigurationError` with every mistake in it."""
    return loader(config, environ).load()


def loader(config: Path, environ: Mapping[str, str] = os.environ) -> Loader:
    """Reads a configuration folder as often as it changes, with the types of connections that there are."""
    from broker.services.secrets import read_or_make_key
    from broker.settings.load import Loader

    return Loader(config, registry.settings_of, registry.known, environ, read_or_make_key)


def must_lie_at(prefix: str, settings: Settings) -> None:
    """`base_url` is the one truth: worker and commands make the links of mails from it, and never see a host app.

    Raises `ConfigurationError` when it does not end with where the broker lies in its host app.
    """
    url = urlsplit(settings.base_url)
    if not url.path.endswith(prefix):
        raise ConfigurationError(
            [
                f"{Path(settings.config_dir) / 'broker.yaml'}:1:1: base_url: is {settings.base_url}, and "
                f'Broker(url_prefix="{prefix}") puts the pages below {prefix}: links in mails would lead nowhere. '
                f"Write base_url: {url.scheme}://{url.netloc}{prefix}"
            ]
        )


def config_folder(given: str | Path | None = None) -> Path:
    """`--config`, else `$HOMEREALM_CONFIG`, else `./config`."""
    if given is not None:
        return Path(given)
    if CONFIG in os.environ:
        return Path(os.environ[CONFIG])
    return Path("config")


def open_engines(settings: Settings, *, environ: Mapping[str, str] = os.environ, upgrade: bool = True,
                 clock: Clock | None = None, entropy: Entropy | None = None, fetcher: Fetcher | None = None,
                 hasher: Hasher | None = None, spans: Spans | None = None) -> Engines:  # fmt: skip
    """Connect to the stores and build the services. Raises `Unavailable`, `ConfigurationError`."""
    from broker.services.blocklist import OfflineBlocklist
    from broker.services.clock import SystemClock
    from broker.services.fetcher import HttpFetcher
    from broker.services.hashing import Argon2Hasher
    from broker.services.secrets import SecretVault, SystemEntropy
    from broker.stores.kv.grants import KvGrants
    from broker.stores.kv.leases import KvLeases
    from broker.stores.kv.logins import KvLogins
    from broker.stores.kv.redis import RedisKeyValue
    from broker.stores.kv.sessions import KvSessions
    from broker.stores.kv.stories import KvStories
    from broker.stores.kv.throttle import KvThrottle
    from broker.stores.kv.transactions import KvTransactions
    from broker.stores.sql.database import SqlDatabase

    clock = clock or SystemClock()
    entropy = entropy or SystemEntropy()
    vault = SecretVault(settings.secret_key, settings.other_secret_keys)
    database = SqlDatabase(settings.database, clock, entropy, vault)
    if upgrade and not environ.get(NO_UPGRADE):
        database.upgrade()
    else:
        database.check()
    url, release = _key_value(settings, environ)
    kv = RedisKeyValue.connect(url)
    ours = ExitStack()
    meter = open_meter(environ)
    _say_revision(meter, database)
    spans = spans or _traces(environ, ours)
    fetcher = fetcher or ours.enter_context(closing(HttpFetcher(settings.egress)))
    if hasher is None:
        hasher = ours.enter_context(closing(Argon2Hasher(lanes := int(environ.get(HASHING_LANES, 0)), apart=lanes > 0)))
    stories = KvStories(kv, clock, meter=meter)

    def close() -> None:
        ours.close()
        stories.close()
        kv.close()
        database.close()
        release()

    engines = Engines(
        clock=clock,
        entropy=entropy,
        vault=vault,
        hasher=_measured_hasher(hasher, meter),
        blocklist=OfflineBlocklist(),
        database=database,
        transactions=KvTransactions(kv, clock),
        sessions=KvSessions(kv, vault, clock),
        grants=KvGrants(kv, vault, clock),
        logins=KvLogins(kv, vault, clock, entropy),
        throttle=KvThrottle(kv, clock, database.marker()),
        stories=stories,
        leases=KvLeases(kv),
        meter=meter,
        ping=kv.ping,
        inspect=partial(_inspect, kv),
        close=close,
        spans=spans,
        **_way_out(fetcher, clock, meter, spans),
    )
    return engines if spans is None else traced(engines, kv, spans)


def _traces(environ: Mapping[str, str], ours: ExitStack) -> Spans | None:
    traces = open_traces(environ)
    return None if traces is None else ours.enter_context(closing(traces))


def _inspect(kv: RedisKeyValue) -> tuple[list[str], list[str]]:
    from broker.stores.kv.inspection import inspect

    return inspect(kv)


def _measured_hasher(hasher: Hasher, meter: Meter) -> Hasher:
    if meter is NO_METER:
        return hasher
    from broker.services.measured import MeasuredHasher

    return MeasuredHasher(hasher, meter)


def open_meter(environ: Mapping[str, str]) -> Meter:
    """The numbers of this process, where a supervisor says that there is a listener for them."""
    folder = environ.get(METRICS)
    if not folder:
        return NO_METER
    from broker.services.tally import Tally

    try:
        meter = Tally(Path(folder), environ.get(ROLE, "web"))
    except OSError as error:  # a full disk: people sign in all the same
        event_log.logger("homerealm.metrics").error("metrics.lost", why=f"{folder}: {error.strerror}")
        return NO_METER
    event_log.count_losses(meter)
    return meter


def _say_revision(meter: Meter, database: Database) -> None:
    if meter is not NO_METER:
        meter.level("schema_revision", int(database.ping()))


def _key_value(settings: Settings, environ: Mapping[str, str]) -> tuple[str, Callable[[], None]]:
    """Where the key-value store is, and how to let go of it."""
    if settings.key_value != "embedded":
        return settings.key_value, lambda: None
    if url := environ.get(KEY_VALUE_URL):
        return url, lambda: None
    from broker.stores.kv.embedded import EmbeddedValkey

    # Nobody supervises us (the command line, a mounted Flask app): attach to the store of a running server, or
    # start one of our own for as long as we live.
    server = EmbeddedValkey(Path(settings.root) / "var" / "valkey", tell=event_log.logger("homerealm.store").warning)
    return server.start(), server.stop


def build(config: str | Path | None = None, **engines: Any) -> Runtime:
    """A Runtime from a configuration folder."""
    settings = load_settings(config_folder(config))
    return Runtime(settings, open_engines(settings, **engines))


@contextmanager
def running(config: str | Path | None = None, **engines: Any) -> Iterator[Runtime]:
    """A Runtime for one command: everything is let go of at the end."""
    runtime = build(config, **engines)
    try:
        yield runtime
    finally:
        runtime.close()
