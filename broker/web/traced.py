"""Every request as a span, by its route. Only where traces are on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from broker.core.watching import Spans
from broker.web.measured import Routes
from broker.web.reply import Environ, WsgiApp


class Traced:
    """A WSGI app in front of all others."""

    def __init__(self, app: WsgiApp, spans: Spans, routes: Routes) -> None:
        self._app, self._spans, self._routes = app, spans, routes

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        method, route = self._routes.of(environ)
        facts = {"http.request.method": method, "http.route": route}
        with self._spans.span(f"{method} {route}", **facts) as note:

            def started_response(line: str, *rest: Any) -> Any:
                note("http.response.status_code", line[:3])
                return start_response(line, *rest)

            return self._app(environ, started_response)
