"""Every request as a span, by its route. Only where traces are on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from broker.core.metrics import OTHER
from broker.core.watching import NO_METER, Spans
from broker.web.measured import METHODS, Measured, WsgiApp


class Traced:
    """A WSGI app in front of all others."""

    def __init__(self, app: WsgiApp, spans: Spans, known: Mapping[str, str], prefix: str) -> None:
        self._app, self._spans = app, spans
        self._route = Measured(app, NO_METER, known, prefix).route

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        method = environ.get("REQUEST_METHOD", "")
        method = method if method in METHODS else OTHER
        route = self._route(environ.get("PATH_INFO", ""))
        facts = {"http.request.method": method, "http.route": route}
        with self._spans.span(f"{method} {route}", **facts) as note:

            def started_response(line: str, *rest: Any) -> Any:
                note("http.response.status_code", line[:3])
                return start_response(line, *rest)

            return self._app(environ, started_response)
