"""`Broker(app)`: the whole broker inside somebody's Flask app. Their templates, session and CSRF stay theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Flask

from broker import resources, web
from broker.core.tenant import Tenant
from broker.core.values import TenantId
from broker.web.assets import Asset, Assets
from broker.web.pages import Chrome, Page
from broker.web.protocol import Protocol
from broker.web.render import Renderer
from broker.web.visit import EXTENSION
from broker.wiring import Runtime, build

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Broker:
    """A Flask extension.

    `config` is a configuration folder (default: `$HOMEREALM_CONFIG`, else `./config`), or a `Runtime` that was built
    elsewhere. `url_prefix` is where it lies in the host app; `base_url` need not repeat it.
    Raises `ConfigurationError` with every mistake in the configuration. `init_app` raises `RuntimeError` for an app
    that has a broker already.
    """

    def __init__(
        self, app: Flask | None = None, *, config: str | Path | Runtime | None = None, url_prefix: str = ""
    ) -> None:
        self.url_prefix = f"/{url_prefix.strip('/')}" if url_prefix.strip("/") else ""
        self.runtime = config if isinstance(config, Runtime) else build(config, url_prefix=self.url_prefix)
        templates = resources.templates()
        self.assets = Assets(templates / "static", f"{self.url_prefix}/static")
        self.renderer = Renderer(templates, self.assets)
        self._logos = dict(self._find_logos())
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Add the pages to an app."""
        if EXTENSION in app.extensions:
            raise RuntimeError("this app has a broker already; one broker serves as many tenants as there are")
        app.extensions[EXTENSION] = self
        web.register(app, self.url_prefix)
        app.wsgi_app = OwnHosts(Protocol(app.wsgi_app, self, self.url_prefix), self)  # type: ignore[method-assign]
        self._leave_our_forms_alone(app)

    def _leave_our_forms_alone(self, app: Flask) -> None:
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

    # --- For views (broker.web.visit.House) -----------------------------------------------------------------------

    def render(self, content: Page, frame: Chrome) -> str:
        return self.renderer.render(content, frame)

    def logo(self, tenant: Tenant) -> str | None:
        return self._logos.get(tenant.id)

    def asset(self, name: str) -> Asset | None:
        return self.assets.find(name)

    def _find_logos(self) -> Mapping[TenantId, str]:
        """Addresses of the tenants' logos; a file that is missing or too large is no reason not to start."""
        found = {}
        folder = Path(self.runtime.settings.config_dir)
        for tenant in self.runtime.settings.tenants.values():
            if tenant.branding.logo:
                for place in (folder / "branding", folder / "tenants", folder):
                    path = place / tenant.branding.logo
                    if path.is_file():
                        try:
                            found[tenant.id] = self.assets.add_logo(path)
                        except (ValueError, OSError) as problem:
                            self.runtime.log("branding.logo", "", tenant=tenant.id, detail=str(problem))
                        break
        return found


class OwnHosts:
    """Tenants with an issuer of their own: what comes for that host is below `/t/<tenant>` inside.

    The host is compared with the configuration, and chooses among what is configured; it never makes an address.
    """

    def __init__(self, app: WsgiApp, broker: Broker) -> None:
        self.app = app
        base, prefix = broker.runtime.settings.base_url, broker.url_prefix
        self.at_the_root = tuple(f"{prefix}{path}" for path in _AT_THE_ROOT)
        self.hosts = {
            urlsplit(tenant.issuer).netloc: (urlsplit(tenant.issuer).path, f"{prefix}/t/{tenant.id}")
            for tenant in broker.runtime.settings.tenants.values()
            if tenant.issuer != f"{base}/t/{tenant.id}"
        }

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        found = self.hosts.get(environ.get("HTTP_HOST", ""))
        path = environ.get("PATH_INFO", "")
        if found is not None and path.startswith(f"{found[0]}/") and not path.startswith(self.at_the_root):
            environ = {**environ, "PATH_INFO": found[1] + path[len(found[0]) :]}
        return self.app(environ, start_response)


_AT_THE_ROOT = ("/healthz", "/readyz", "/static/", "/.well-known/change-password", "/.well-known/passkey-endpoints")
