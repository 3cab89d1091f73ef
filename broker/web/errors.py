"""What is said when something goes wrong: a page with a reference for people, JSON for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from flask import Response, g, request
from werkzeug.exceptions import HTTPException

from broker.core.errors import BrokerError, Busy, Throttled, Unavailable
from broker.core.values import ClientId
from broker.web.answers import chrome, form_targets, home_of
from broker.web.headers import security_headers
from broker.web.pages import Chrome
from broker.web.pages_error import ErrorPage, WayOut
from broker.web.protocol import error_for_programs
from broker.web.telling import tell
from broker.web.visit import Visit, house

if TYPE_CHECKING:
    from flask import Blueprint, Flask

_HTTP_CODES = {404: "page.not_found", 405: "request.method", 413: "request.too_large", 400: "request.invalid"}
TOO_OLD = frozenset({
    "transaction.gone", "transaction.finished", "transaction.step", "transaction.raced", "form.stale",
    "connection.state", "session.gone",
})  # fmt: skip
"""A page that was open for too long: one button starts again, with the app kept (PAGES)."""
PROTOCOL_PATHS = ("/token", "/userinfo", "/revoke", "/introspect", "/jwks", "/.well-known/")


def register(target: Flask | Blueprint) -> None:
    """On a blueprint: for its views. On our own app: for addresses that nobody has, too."""
    target.register_error_handler(BrokerError, broker_error)
    target.register_error_handler(HTTPException, http_error)
    target.register_error_handler(Exception, unexpected)


def broker_error(error: BrokerError) -> Response:
    retry = error.retry_after if isinstance(error, (Throttled, Busy)) else 5 if isinstance(error, Unavailable) else 0
    _tell(error.status, error.code, error.detail, type(error).__name__)
    return answer(error.status, error.code, error.detail if error.status < 500 else "", retry)


def http_error(error: HTTPException) -> Response:
    status = error.code or 500
    code = _HTTP_CODES.get(status, f"http.{status}")
    _tell(status, code)
    response = answer(status, code)
    if status == 405 and (allowed := error.get_headers()):
        for name, value in allowed:
            if name == "Allow":
                response.headers[name] = value
    return response


def unexpected(error: Exception) -> Response:
    """A bug of ours. The traceback goes to the log; the page has the reference to find it by."""
    house().runtime.log_exception(_reference(), error)
    _tell(500, "internal", error=type(error).__name__)
    return answer(500, "internal")


def answer(status: int, code: str, detail: str = "", retry_after: int = 0) -> Response:
    # Whatever is wrong with a request by a program is 400 (RFC 6749 5.2), and 405 where the method is.
    if _is_protocol():
        response = _json(400 if status in (413, 415) else status, code, detail)
    else:
        response = _page(status, code, detail, retry_after)
    if retry_after:
        response.headers["Retry-After"] = str(retry_after)
    return response


def _is_protocol() -> bool:
    path = request.path
    return any(path.endswith(one) or (one.endswith("/") and one in path) for one in PROTOCOL_PATHS)


def _json(status: int, code: str, detail: str) -> Response:
    response = Response(error_for_programs(status, code, detail, _reference()), status, mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response


def _page(status: int, code: str, detail: str, retry_after: int) -> Response:
    drawn_by, current = house(), _visit()
    way_out, url = _way_out(current, status, code)
    content = ErrorPage(status, code, way_out, url, retry_after, detail)
    frame = chrome(current) if current else Chrome("Homerealm", "", lambda _: "", reference=_reference())
    response = Response(drawn_by.render(content, frame), status, mimetype="text/html")
    response.headers.extend(security_headers(form_targets(current) if current else ()))
    return response


def _way_out(current: Visit | None, status: int, code: str) -> tuple[WayOut, str | None]:
    """The one button: on with the app where one is known, else to the login page."""
    if current is None:
        return WayOut.NONE, None
    client = current.client
    if status in (502, 503, 429) and request.method == "GET":
        return WayOut.RETRY, _here(current)
    if code == "session.gone":
        own = "admin" if f"/t/{current.tenant.id}/admin" in request.path else "account"
        return WayOut.RESTART, f"{current.base}/{own}"
    if code in TOO_OLD:
        client = client or current.tenant.clients.get(ClientId(current.jar.app))
        door = home_of(current, client)
        if door is not None:
            current.client = client
        return WayOut.RESTART, door or f"{current.base}/login"
    if client is not None and not client.internal and (client.initiate_login_uri or client.client_uri):
        return WayOut.APP, home_of(current, client)
    if code.startswith(("client.", "redirect_uri.")):
        return WayOut.NONE, None
    if code == "desk.not_admin":
        return WayOut.HOME, f"{current.base}/account"
    return WayOut.SIGN_IN, f"{current.base}/login"


def _here(current: Visit) -> str:
    """The address of this very request, as it is outside: a tenant with a host of its own has no `/t/<tenant>`."""
    _, _, rest = request.path.partition(f"/t/{current.tenant.id}")
    query = request.query_string.decode("ascii", "ignore")
    return f"{current.base}{rest}{'?' + query if query else ''}"


def _visit() -> Visit | None:
    return cast("Visit | None", g.get("homerealm_visit"))


def _reference() -> str:
    current = _visit()
    if current is not None:
        return current.reference
    if "homerealm_reference" not in g:
        g.homerealm_reference = house().runtime.entropy.reference()
    return str(g.homerealm_reference)


def _tell(status: int, code: str, detail: str = "", error: str = "") -> None:
    event = {429: "attempts.throttled"}.get(status) or ("request.failed" if status >= 500 else "request.refused")
    if code == "service.busy":
        event = "service.busy"
    tell(house().runtime, _visit(), request.environ, _reference(), event, code, status, detail=detail, error=error)
