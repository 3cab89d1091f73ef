"""Every request as a number: route, method, class of status, seconds. Only where metrics are on."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from broker.core.metrics import OTHER
from broker.core.watching import Meter
from broker.web.protocol import ENDPOINTS
from broker.web.reply import Environ, WsgiApp

if TYPE_CHECKING:
    from flask import Flask

METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS"})


class Routes:
    """The names of requests: what is counted, and what a trace shows, and never what was asked for."""

    def __init__(self, known: Mapping[str, str], prefix: str) -> None:
        """`known`: see `routes`."""
        self._known = known
        self._below = f"{prefix}/t/"

    def of(self, environ: Environ) -> tuple[str, str]:
        """Method and route of a request: `/callback/`, not `/callback/google`."""
        method, path = environ.get("REQUEST_METHOD", ""), environ.get("PATH_INFO", "")
        if path.startswith(self._below):
            path = "/" + path[len(self._below) :].partition("/")[2]
        route = self._known.get(path) or self._known.get(path[: path.find("/", 1) + 1]) or OTHER
        return method if method in METHODS else OTHER, route


class Measured:
    """A WSGI app in front of all others."""

    def __init__(self, app: WsgiApp, meter: Meter, routes: Routes) -> None:
        self._app, self._meter, self._routes = app, meter, routes

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        started, status = time.perf_counter(), ["5xx"]

        def started_response(line: str, *rest: Any) -> Any:
            status[0] = f"{line[0]}xx"
            return start_response(line, *rest)

        method, route = self._routes.of(environ)
        try:
            return self._app(environ, started_response)
        finally:
            taken = time.perf_counter() - started
            self._meter.observe("http", taken, route, method, status[0])


def routes(app: Flask, prefix: str) -> Routes:
    """The addresses that there are, without their tenant; where a rule has a variable part, its beginning."""
    found = {f"/{name}": f"/{name}" for name in ENDPOINTS}
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("homerealm_"):
            path = rule.rule.removeprefix(prefix).removeprefix("/t/<tenant>")
            fixed = path.partition("<")[0]
            found[fixed] = fixed
    return Routes(found, prefix)
