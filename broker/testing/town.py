"""A whole town for stories: a broker, an app that relies on it, an upstream provider, their mail, and a clock.

Everything is the real thing on real engines; only the network between the hosts is a table of WSGI
apps, the time stands still unless a story moves it, and hashing is cheap.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from flask import Flask

from broker.app import create_app
from broker.background.schedule import Worker
from broker.core.tenant import Tenant
from broker.core.values import Actor, TenantId, User
from broker.core.watching import Spans
from broker.demo.relying_party import create_relying_party
from broker.extension import Broker
from broker.reload import Live
from broker.services.hashing import Argon2Hasher
from broker.testing.clock import FixedClock
from broker.testing.entropy import SeededEntropy
from broker.testing.mailbox import Mailbox
from broker.testing.world import Browser, World, WorldFetcher
from broker.wiring import Engines, Runtime, loader, open_engines

PASSWORD = "correct horse battery staple"
"""Everybody's, until a story changes it."""

BROKER_YAML = """\
base_url: https://login.test
database: {database}
key_value: {key_value}
secret_key_file: var/secret.key
mail: {{from: "Homerealm <no-reply@login.test>", transport: "maildir:var/mail"}}
"""

ACME = """\
tenant: acme
name: Acme
environments: {live: {}, test: {}, dev: {}}
branding: {support_url: "https://acme.test/help", support_email: help@acme.test}
rules: {reset: {after: app}}
connections:
  - {id: users, type: database, title: "Acme account", identifiers: [email, username], signup: true}
  - id: contoso
    type: oidc
    title: Contoso
    issuer: https://contoso.test/t/contoso
    client_id: homerealm
    client_secret: upstream-secret-0123456789
    domains: [contoso.test]
    upstream_logout: true
    reset: {how: deep_link, url: "https://contoso.test/t/contoso/forgot"}
clients:
  - client_id: demo
    client_name: Demo app
    client_secret: demo-app-secret-91f0c6d3
    redirect_uris: [https://app.test/callback/acme]
    post_logout_redirect_uris: [https://app.test/bye]
    initiate_login_uri: https://app.test/login/acme
    client_uri: https://app.test/
    grant_types: [authorization_code, refresh_token]
admins:
  - {connection: users, identifier: grace@acme.test, role: owner}
  - {connection: users, identifier: heidi@acme.test, role: helpdesk}
"""

GLOBEX = """\
tenant: globex
name: Globex
connections:
  - {id: users, type: database, title: "Globex account", identifiers: [username, email]}
clients:
  - client_id: demo
    client_name: Demo app
    client_secret: demo-app-secret-91f0c6d3
    redirect_uris: [https://app.test/callback/globex]
    post_logout_redirect_uris: [https://app.test/bye]
    initiate_login_uri: https://app.test/login/globex
    client_uri: https://app.test/
    grant_types: [authorization_code, refresh_token]
    first_party: false
"""

CONTOSO = """\
tenant: contoso
name: Contoso
connections:
  - {id: users, type: database, title: "Contoso account", identifiers: [email]}
clients:
  - client_id: homerealm
    client_name: Acme
    client_secret: upstream-secret-0123456789
    redirect_uris: [@broker@/t/acme/callback/contoso, @broker@/t/test-acme/callback/contoso]
    post_logout_redirect_uris: [@broker@/t/acme/end-session/done]
    client_uri: @broker@/t/acme/login
"""


@dataclass
class House:
    """One broker of the town: its host, its stores, its worker and its mail."""

    base: str
    app: Flask
    live: Live
    mailbox: Mailbox
    worker: Worker

    @property
    def runtime(self) -> Runtime:
        return self.live.runtime

    @property
    def config(self) -> Path:
        return Path(self.runtime.settings.config_dir)

    def write(self, yaml: str, name: str = "tenants/acme.yaml") -> bool:
        """Change a file of the configuration, and reload it; whether it was taken."""
        (self.config / name).write_text(yaml)
        return self.live.reload()

    def tenant(self, id: str) -> Tenant:
        found = self.runtime.tenant(TenantId(id))
        if found is None:
            raise LookupError(id)
        return found

    def add(
        self,
        tenant: str,
        *,
        email: str | None = None,
        username: str | None = None,
        password: str | None = PASSWORD,
        name: str | None = None,
        connection: str | None = None,
    ) -> User:
        """A person with an account here."""
        return self.runtime.desk.add(
            self.tenant(tenant), email=email, username=username, name=name, password=password,
            by=Actor.command_line("town"), connection=connection,
        )  # fmt: skip

    def work(self) -> int:
        """Let the worker do everything that is due. Returns how many jobs that was."""
        return self.worker.tick()


@dataclass
class Town:
    """`mounted` puts the broker into somebody's Flask app at /sso; stories are told both ways."""

    folder: Path
    key_values: tuple[str, str]
    """Addresses of two empty key-value stores: the broker's and the upstream's."""
    mounted: bool = False
    acme: str = ACME
    globex: str = GLOBEX
    contoso: str = CONTOSO
    broker_yaml: str = BROKER_YAML
    databases: tuple[str, str] | None = None
    """Addresses of two databases without people, the broker's and the upstream's; files of SQLite by default."""
    seed: str = "town"
    clock: FixedClock = field(default_factory=FixedClock)
    world: World = field(default_factory=World)
    closing: list[Engines] = field(default_factory=list)
    spans: Spans | None = None

    def __post_init__(self) -> None:
        self.fetcher = WorldFetcher(self.world)
        base = "https://login.test/sso" if self.mounted else "https://login.test"
        tenants = {"acme": self.acme, "globex": self.globex}
        self.broker = self._house("broker", "https://login.test", base, tenants, 0)
        contoso = {"contoso": self.contoso.replace("@broker@", base)}
        self.upstream = self._house("upstream", "https://contoso.test", "https://contoso.test", contoso, 1)
        self.world["login.test"] = self.broker.app
        self.world["contoso.test"] = self.upstream.app
        self.world["app.test"] = create_relying_party("https://app.test", base, self.fetcher, self.clock)

    def _house(self, name: str, host: str, base: str, tenants: dict[str, str], number: int) -> House:
        databases = self.databases or ("sqlite:///var/broker.db", "sqlite:///var/upstream.db")
        config = self.folder / name / "config"
        (config / "tenants").mkdir(parents=True)
        text = self.broker_yaml.format(
            name=name, key_value=self.key_values[number], database=databases[number]
        ).replace("https://login.test", base)
        (config / "broker.yaml").write_text(text)
        for id, yaml in tenants.items():
            (config / "tenants" / f"{id}.yaml").write_text(yaml)
        return self._start(name, host, base)

    def _start(self, name: str, host: str, base: str) -> House:
        reader = loader(self.folder / name / "config")
        settings = reader.load()
        engines = open_engines(
            settings, clock=self.clock, entropy=SeededEntropy(f"{self.seed}-{name}"), fetcher=self.fetcher,
            hasher=Argon2Hasher(workers=1, memory_kib=8, time_cost=1), spans=self.spans,
        )  # fmt: skip
        self.closing.append(engines)
        live = Live(Runtime(settings, engines), reader)
        app = host_app(live) if base != host else create_app(live)
        mailbox = Mailbox(Path(settings.root) / "var" / "mail")
        return House(base, app, live, mailbox, Worker(lambda: live.runtime, self.spans))

    def restart(self) -> None:
        """The broker starts anew, from the configuration that lies there now."""
        self.closing.pop(0).close()
        self.broker = self._start("broker", "https://login.test", self.broker.base)
        self.closing.insert(0, self.closing.pop())
        self.world["login.test"] = self.broker.app

    def browser(self, address: str = "192.0.2.1") -> Browser:
        return Browser(self.world, clock=self.clock, address=address)

    def later(self, **by: float) -> None:
        """Time passes: `town.later(minutes=31)`."""
        self.clock.advance(timedelta(**by))

    def mail(self) -> Mailbox:
        """The broker's mailbox, after its worker has done what is due."""
        self.broker.work()
        return self.broker.mailbox

    def close(self) -> None:
        for engines in self.closing:
            engines.close()


def host_app(config: Runtime | Live) -> Flask:
    """Somebody's Flask app with a layout, a session and a CSRFProtect of its own, and the broker at /sso."""
    from flask_wtf import CSRFProtect
    from jinja2 import DictLoader

    app = Flask("somebodys-app", static_folder=None)
    app.config.update(SECRET_KEY="somebody's", TESTING=False)
    app.jinja_loader = DictLoader({"layout.html": "<title>not ours</title>", "pages/login.html": "not ours either"})
    CSRFProtect(app)
    Broker(app, config=config, url_prefix="/sso")

    @app.get("/")
    def home() -> str:
        return "somebody's own page"

    @app.post("/own")
    def own() -> str:
        return "only with somebody's own CSRF token"

    return app
