"""The short way for the requests of every login: from the web server to the view, without Flask's dispatch around it.

Flask makes two contexts, matches the address, opens a session, sends signals and looks for hooks, which takes as long
as what our views do themselves (docs/decisions/hot-paths.md). Only what is plain goes this way, and only while nobody
else listens: a host app with hooks sees every request. Whatever is odd, and whatever fails, goes the long way and is
answered there; `tests/web/test_lane.py` compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flask import Blueprint, Flask, request_finished, request_started

from broker.core.errors import Misdirected, NotFound
from broker.web.parameters import Pairs, form_of
from broker.web.reply import AnyReply, Environ, WsgiApp
from broker.web.visit import FAILED, House, Visit, arrive, visit

View = Callable[[Visit], AnyReply]

VIEWS: dict[tuple[str, str], View] = {}
"""By method and path below the tenant."""


def often(views: Blueprint, path: str, *methods: str) -> Callable[[View], View]:
    """An ordinary route of Flask whose view takes the visit, so that it can also be called from here."""

    def register(view: View) -> View:
        views.add_url_rule(path, view.__name__, lambda: view(visit()), methods=methods)
        VIEWS.update({(method, path): view for method in methods})
        return view

    return register


class Lane:
    """In front of an app's own WSGI application."""

    def __init__(self, app: Flask, house: House, prefix: str, ours: list[Callable[..., Any]]) -> None:
        self._app = app
        self._long_way: WsgiApp = app.wsgi_app
        self._house = house
        self._place = f"{prefix}/t/"
        self._ours = ours
        """The hooks that we have put into the app ourselves; they mean nothing to our own pages."""

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        place, path = self._place, environ.get("PATH_INFO", "")
        if not path.startswith(place) or environ.get("SCRIPT_NAME"):
            return self._long_way(environ, start_response)
        tenant, slash, rest = path[len(place) :].partition("/")
        view = VIEWS.get((environ["REQUEST_METHOD"], slash + rest))
        if view is None or not self._alone():
            return self._long_way(environ, start_response)
        current = None
        try:
            current = arrive(
                self._house, tenant, environ, environ.get("HTTP_HOST", ""), lambda: Pairs(form_of(environ))
            )
            answer = view(current)
        except Exception as error:  # Flask knows what to do with each
            if current is not None or not isinstance(error, (NotFound, Misdirected)):
                environ[FAILED] = current, error
            return self._long_way(environ, start_response)
        answer.headers.extend(current.jar.lines())
        return answer(environ, start_response)

    def _alone(self) -> bool:
        """Whether nobody else wants to see this request."""
        app = self._app
        return (
            app.before_request_funcs.get(None) == self._ours
            and not app.after_request_funcs.get(None)
            and not app.teardown_request_funcs.get(None)
            and not app.url_value_preprocessors.get(None)
            and not app.teardown_appcontext_funcs
            and not request_started.receivers
            and not request_finished.receivers
        )
