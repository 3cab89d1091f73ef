"""`Broker(app)`: the whole broker inside somebody's Flask app. Their templates, session and CSRF stay theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Flask

from broker import resources, web
from broker.core.tenant import Settings, Tenant
from broker.core.values import TenantId
from broker.core.watching import NO_METER
from broker.reload import Live
from broker.web.assets import Asset, Assets
from broker.web.drawn import Pieces, UsualPage
from broker.web.lane import Lane
from broker.web.measured import Measured, Routes, routes
from broker.web.pages import Chrome, Page
from broker.web.protocol import Protocol
from broker.web.render import Renderer
from broker.web.reply import Environ, WsgiApp
from broker.web.visit import EXTENSION, RUNTIME
from broker.wiring import Runtime, must_lie_at


@dataclass(frozen=True)
class Front:
    """A Runtime, and what the web pages need of its configuration."""

    runtime: Runtime
    logos: Mapping[TenantId, str]
    hosts: Mapping[str, tuple[str, str]]
    settled: dict[Any, Any] = field(default_factory=dict)
    """See `House.settled`."""


class Broker:
    """A Flask extension.

    `config` is a configuration folder (default: `$HOMEREALM_CONFIG`, else `./config`), or what was built elsewhere: a
    `Runtime`, which stays as it is, or a `Live`. A folder is watched: what changes there holds within two seconds.
    `url_prefix` is where it lies in the host app; `base_url` ends with it.
    Raises `ConfigurationError` with every mistake in the configuration. `init_app` raises `RuntimeError` for an app
    that has a broker already.
    """

    def __init__(
        self, app: Flask | None = None, *, config: str | Path | Runtime | Live | None = None, url_prefix: str = ""
    ) -> None:
        self.url_prefix = f"/{url_prefix.strip('/')}" if url_prefix.strip("/") else ""
        ours = not isinstance(config, Runtime | Live)
        if isinstance(config, Live):
            self.live = config
        else:
            self.live = Live(config) if isinstance(config, Runtime) else Live.open(config, url_prefix=self.url_prefix)
        must_lie_at(self.url_prefix, self.live.runtime.settings)
        templates = resources.templates()
        self.assets = Assets(templates / "static", f"{self.url_prefix}/static")
        self.renderer = Renderer(templates, self.assets)
        self._front(self.live.runtime)
        self.live.swapping = self._front
        if ours:
            self.live.watch()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Add the pages to an app."""
        if EXTENSION in app.extensions:
            raise RuntimeError("this app has a broker already; one broker serves as many tenants as there are")
        app.extensions[EXTENSION] = self
        web.register(app, self.url_prefix)
        hook = self._leave_our_forms_alone(app)
        lane = Lane(app, self, self.url_prefix, [hook])
        front = OwnHosts(Protocol(lane, self, self.url_prefix), self)
        meter = self.runtime.meter
        known = routes(app, self.url_prefix)
        measured = front if meter is NO_METER else Measured(front, meter, known)
        app.wsgi_app = self._traced(measured, known)  # type: ignore[method-assign,assignment]

    def _traced(self, app: WsgiApp, known: Routes) -> WsgiApp:
        spans = self.runtime.engines.spans
        if spans is None:
            return app
        from broker.web.traced import Traced

        return Traced(app, spans, known)

    def _leave_our_forms_alone(self, app: Flask) -> Callable[[], None]:
        """A CSRFProtect of the host app would refuse our forms, which carry a token of their own (ARCHITECTURE 4).

        It may be made after us, so it is told before its first check.
        """

        def exempt() -> None:
            protection: Any = app.extensions.get("csrf")
            if protection is not None:
                for one in (*web.ROOT_VIEWS, *web.TENANT_VIEWS):
                    protection.exempt(one)

        exempt()
        app.before_request_funcs.setdefault(None, []).insert(0, exempt)
        return exempt

    def _front(self, runtime: Runtime) -> None:
        """One reference, swapped whole."""
        self.front = Front(runtime, self._find_logos(runtime), _own_hosts(runtime.settings, self.url_prefix))

    # --- For views (broker.web.visit.House) -----------------------------------------------------------------------

    @property
    def runtime(self) -> Runtime:
        """The configuration of the moment; within a request, `Visit.runtime` is that of the whole request."""
        return self.front.runtime

    @property
    def refused(self) -> tuple[str, ...]:
        return self.live.refused

    def at_version(self, version: str) -> Runtime | None:
        return self.live.at_version(version)

    def render(self, content: Page, frame: Chrome) -> str:
        return self.renderer.render(content, frame)

    def pieces(self, content: UsualPage, frame: Chrome) -> Pieces:
        return self.renderer.pieces(content, frame)

    def duration(self, language: str, seconds: int) -> str:
        return self.renderer.duration(language, seconds)

    @property
    def settled(self) -> dict[Any, Any]:
        return self.front.settled

    def logo(self, tenant: Tenant) -> str | None:
        return self.front.logos.get(tenant.id)

    def asset(self, name: str) -> Asset | None:
        return self.assets.find(name)

    def _find_logos(self, runtime: Runtime) -> Mapping[TenantId, str]:
        """Addresses of the tenants' logos; a file that is missing or too large is no reason not to start."""
        found = {}
        folder = Path(runtime.settings.config_dir)
        for tenant in runtime.settings.tenants.values():
            if tenant.branding.logo:
                for place in (folder / "branding", folder / "tenants", folder):
                    path = place / tenant.branding.logo
                    if path.is_file():
                        try:
                            found[tenant.id] = self.assets.add_logo(path)
                        except (ValueError, OSError) as problem:
                            runtime.log("branding.logo", "", tenant=tenant.id, detail=str(problem))
                        break
        return found


class OwnHosts:
    """Takes the configuration of the moment, once for a whole request; and tenants with an issuer of their own: what
    comes for that host is below `/t/<tenant>` inside.

    The host is compared with the configuration, and chooses among what is configured; it never makes an address.
    """

    def __init__(self, app: WsgiApp, broker: Broker) -> None:
        self.app = app
        self.broker = broker
        self.at_the_root = tuple(f"{broker.url_prefix}{path}" for path in _AT_THE_ROOT)

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        front = self.broker.front
        found = front.hosts.get(environ.get("HTTP_HOST", ""))
        path = environ.get("PATH_INFO", "")
        if found is not None and path.startswith(f"{found[0]}/") and not path.startswith(self.at_the_root):
            environ = {**environ, "PATH_INFO": found[1] + path[len(found[0]) :]}
        environ[RUNTIME] = front.runtime
        return self.app(environ, start_response)


def _own_hosts(settings: Settings, prefix: str) -> Mapping[str, tuple[str, str]]:
    """For a host of its own: the issuer's path there, and the tenant's place inside."""
    return {
        urlsplit(tenant.issuer).netloc: (urlsplit(tenant.issuer).path, f"{prefix}/t/{tenant.id}")
        for tenant in settings.tenants.values()
        if tenant.issuer != f"{settings.base_url}/t/{tenant.id}"
    }


_AT_THE_ROOT = ("/healthz", "/readyz", "/static/", "/.well-known/change-password", "/.well-known/passkey-endpoints")
