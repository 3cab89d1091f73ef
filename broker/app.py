"""The broker as an app of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Flask

from broker.extension import Broker
from broker.web import errors

if TYPE_CHECKING:
    from broker.wiring import Runtime

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]


def create_app(config: str | Path | Runtime | None = None) -> Flask:
    """A Flask app with nothing but the broker. Raises `ConfigurationError`, `Unavailable`."""
    app = Flask("broker", static_folder=None, template_folder=None)
    broker = Broker(app, config=config)
    errors.register(app)
    app.wsgi_app = OwnHosts(app.wsgi_app, broker)  # type: ignore[method-assign]
    return app


class OwnHosts:
    """Tenants with an issuer of their own: what comes for that host is below `/t/<tenant>` inside.

    The host is compared with the configuration, and chooses among what is configured; it never makes an address.
    """

    def __init__(self, app: WsgiApp, broker: Broker) -> None:
        self.app = app
        base = broker.runtime.settings.base_url
        self.hosts = {
            urlsplit(tenant.issuer).netloc: (urlsplit(tenant.issuer).path, f"/t/{tenant.id}")
            for tenant in broker.runtime.settings.tenants.values()
            if tenant.issuer != f"{base}/t/{tenant.id}"
        }

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        found = self.hosts.get(environ.get("HTTP_HOST", ""))
        path = environ.get("PATH_INFO", "")
        if found is not None and path.startswith(f"{found[0]}/") and not path.startswith(_AT_THE_ROOT):
            environ = {**environ, "PATH_INFO": found[1] + path[len(found[0]) :]}
        return self.app(environ, start_response)


_AT_THE_ROOT = ("/healthz", "/readyz", "/static/", "/.well-known/change-password", "/.well-known/passkey-endpoints")
