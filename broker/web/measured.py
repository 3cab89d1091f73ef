"""Every request as a number: route, method, class of status, seconds. Only where metrics are on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from broker.core.metrics import OTHER
from broker.core.watching import Meter
from broker.web.protocol import ENDPOINTS

if TYPE_CHECKING:
    from flask import Flask

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]
METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS"})


class Measured:
    """A WSGI app in front of all others."""

    def __init__(self, app: WsgiApp, meter: Meter, known: Mapping[str, str], prefix: str) -> None:
        self._app, self._meter, self._known = app, meter, known
        self._below = f"{prefix}/t/"

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        started, status = time.perf_counter(), ["5xx"]

        def started_response(line: str, *rest: Any) -> Any:
            status[0] = f"{line[0]}xx"
            return start_response(line, *rest)

        method = environ.get("REQUEST_METHOD", "")
        route = self.route(environ.get("PATH_INFO", ""))
        try:
            return self._app(environ, started_response)
        finally:
            taken = time.perf_counter() - started
            self._meter.observe("http", taken, route, method if method in METHODS else OTHER, status[0])

    def route(self, path: str) -> str:
        """The name of a route, never what was asked for: `/callback/`, not `/callback/google`."""
        if path.startswith(self._below):
            path = "/" + path[len(self._below) :].partition("/")[2]
        return self._known.get(path) or self._known.get(path[: path.find("/", 1) + 1]) or OTHER


def routes(app: Flask, prefix: str) -> Mapping[str, str]:
    """The addresses that there are, without their tenant; where a rule has a variable part, its beginning."""
    found = {f"/{name}": f"/{name}" for name in ENDPOINTS}
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("homerealm_"):
            path = rule.rule.removeprefix(prefix).removeprefix("/t/<tenant>")
            fixed = path.partition("<")[0]
            found[fixed] = fixed
    return found
