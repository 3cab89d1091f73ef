"""The endpoints that programs call: discovery, keys, tokens. All the thinking is in broker.oidc.

They are answered before Flask: routing, contexts, request and response objects cost more than most of these answers
(docs/decisions/endpoints-before-flask.md). What is not one of their addresses goes on to the app.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException
from werkzeug.wsgi import get_host

from broker.core.errors import BrokerError, Busy, Misdirected, NotFound, Throttled, Unavailable
from broker.core.tenant import Tenant
from broker.core.values import TenantId
from broker.oidc.provider import Answer, Provider, Request
from broker.web.parameters import form_of, query_of
from broker.web.reply import HTML, Environ, Reply, WsgiApp
from broker.web.visit import House, Visit, place_of

if TYPE_CHECKING:
    from broker.wiring import Runtime

Headers = list[tuple[str, str]]

_JSON = ("Content-Type", "application/json")
_EVERY_ORIGIN = [
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Expose-Headers", "WWW-Authenticate, Retry-After"),
]
_PREFLIGHT = [
    ("Access-Control-Allow-Methods", "GET, POST"),
    ("Access-Control-Allow-Headers", "Authorization, Content-Type, DPoP"),
    ("Access-Control-Max-Age", "600"),
]
_RETRY_SECONDS = 5
_compact = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address below the issuer."""

    answer: Callable[[Provider, Tenant, Request], Answer | bytes]
    """Bytes are a public document."""
    methods: tuple[str, ...]
    open: bool = True
    """Called by apps that live in a browser, from any origin: they bring a token or a code, never a cookie, so `*`
    gives nothing away (RFC 9700 2.6 leaves out the authorization endpoint; introspection is for servers)."""
    seconds: int = 0
    """How long a public document may be kept."""

    @property
    def allow(self) -> str:
        return ", ".join(sorted({*self.methods, "OPTIONS"} | ({"HEAD"} if "GET" in self.methods else set())))


_GET, _POST = ("GET",), ("POST",)
_DISCOVERY = Endpoint(lambda provider, tenant, _: provider.metadata(tenant), _GET, seconds=3600)
ENDPOINTS: Mapping[str, Endpoint] = {
    ".well-known/openid-configuration": _DISCOVERY,
    # RFC 8414, at the address that it would have without a path; root.py has the one of section 3.1.
    ".well-known/oauth-authorization-server": _DISCOVERY,
    "jwks": Endpoint(lambda provider, tenant, _: provider.jwks(tenant), _GET, seconds=300),
    "token": Endpoint(Provider.token, _POST),
    "userinfo": Endpoint(Provider.userinfo, (*_GET, *_POST)),
    "revoke": Endpoint(Provider.revoke, _POST),
    "introspect": Endpoint(Provider.introspect, _POST, open=False),
}


class Protocol:
    """A WSGI app in front of another one. `answer` is the one place through which all of these requests go."""

    def __init__(self, app: WsgiApp, house: House, prefix: str) -> None:
        self.app = app
        self._house = house
        self._below = f"{prefix}/t/"
        self._skip = len(self._below)

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        reply = self.answer(environ)
        if reply is None:
            return self.app(environ, start_response)
        return reply(environ, start_response)

    def answer(self, environ: Environ) -> Reply | None:
        """The reply to one request; None for an address that is not one of ours. Never raises."""
        path: str = environ.get("PATH_INFO", "")
        if not path.startswith(self._below):
            return None
        tenant, _, name = path[self._skip :].partition("/")
        endpoint = ENDPOINTS.get(name)
        if endpoint is None or not tenant:
            return None
        reply = _reply(self._house.runtime, tenant, endpoint, environ, path)
        if environ["REQUEST_METHOD"] == "HEAD":
            reply.body = b""
        return reply


def _reply(runtime: Runtime, id: str, endpoint: Endpoint, environ: Environ, path: str) -> Reply:
    method: str = environ["REQUEST_METHOD"]
    if method not in endpoint.methods and method != "OPTIONS" and not (method == "HEAD" and "GET" in endpoint.methods):
        refused = _refused(runtime, 405, "request.method", runtime.entropy.reference())
        refused.headers.append(("Allow", endpoint.allow))
        return refused
    try:
        reply = _ask(runtime, id, endpoint, method, environ)
    except Exception as error:
        reply = _failed(runtime, id, path, error)
    if endpoint.open:
        reply.headers.extend(_EVERY_ORIGIN)
        if method == "OPTIONS":
            reply.headers.extend(_PREFLIGHT)
    return reply


def _ask(runtime: Runtime, id: str, endpoint: Endpoint, method: str, environ: Environ) -> Reply:
    """Raises `NotFound`, `Misdirected`, `BadRequest`, `Unavailable`."""
    tenant = runtime.tenant(TenantId(id))
    if tenant is None:
        raise NotFound(code="tenant.unknown")
    host = place_of(tenant.issuer)[0]
    if environ.get("HTTP_HOST") != host and get_host(environ) != host:  # which leaves out a port that goes without
        raise Misdirected
    query = query_of(environ)
    form = form_of(environ) if method == "POST" else ()
    if method == "OPTIONS":
        return Reply(200, [HTML, ("Allow", endpoint.allow)], b"")
    authorization = environ.get("HTTP_AUTHORIZATION")
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = endpoint.answer(runtime.provider, tenant, Request(method, tenant.issuer, headers, query, form))
    if isinstance(answer, bytes):
        return _document(answer, endpoint.seconds, environ.get("HTTP_IF_NONE_MATCH"))
    body = answer.body
    if body is None:
        body = b""
    elif not isinstance(body, bytes):
        body = _compact(body).encode()
    told: Headers = list(answer.headers.items())
    if "Content-Type" not in answer.headers:
        told.append(_JSON)
    return Reply(answer.status, told, body)


def _document(body: bytes, seconds: int, known: str | None) -> Reply:
    tag = _tag(body)
    kept = [("Cache-Control", f"public, max-age={seconds}"), ("ETag", tag)]
    return Reply(200, [_JSON, *kept], body) if known != tag else Reply(304, kept, b"")


def _failed(runtime: Runtime, tenant: str, path: str, error: Exception) -> Reply:
    """The answer to what went wrong, written down with the reference that is in the answer."""
    reference = runtime.entropy.reference()
    if isinstance(error, HTTPException):  # of the stream that the body comes by
        return _refused(runtime, 400, "request.invalid", reference)
    if not isinstance(error, BrokerError):
        runtime.log_exception(reference, error)
        return _refused(runtime, 500, "internal", reference)
    detail = error.detail
    if error.status >= 500:
        runtime.log(
            "request.failed", reference, code=error.code, status=error.status, tenant=tenant, path=path, detail=detail,
            error=type(error).__name__,
        )  # fmt: skip
        detail = ""
    reply = _refused(runtime, error.status, error.code, reference, detail)
    retry = error.retry_after if isinstance(error, (Throttled, Busy)) else 0
    if isinstance(error, Unavailable):
        retry = _RETRY_SECONDS
    if retry:
        reply.headers.append(("Retry-After", str(retry)))
    return reply


def _refused(runtime: Runtime, status: int, code: str, reference: str, detail: str = "") -> Reply:
    body = error_for_programs(status, code, detail, reference)
    # Whatever is wrong with a request by a program is 400 (RFC 6749 5.2), and 405 where the method is.
    status = 400 if status in (413, 415) else status
    return Reply(status, [_JSON, ("Cache-Control", "no-store")], body)


def error_for_programs(status: int, code: str, detail: str, reference: str) -> bytes:
    """RFC 6749 5.2: programs get JSON, with the reference for whoever reads our log."""
    name = "invalid_request" if status < 500 else "temporarily_unavailable" if status == 503 else "server_error"
    text = detail if detail.isascii() else ""
    body = {"error": name, "error_description": f"{code}{': ' if text else ''}{text} (reference {reference})"}
    return json.dumps(body).encode()


def protocol_request(current: Visit) -> Request:
    """A request to a page, as the protocol floor sees it: raw pairs, so that it sees duplicates."""
    environ = current.environ
    return Request(
        method=environ["REQUEST_METHOD"],
        url=f"{current.tenant.issuer}{environ['PATH_INFO'][len(current.base):]}",
        headers={"Authorization": environ["HTTP_AUTHORIZATION"]} if "HTTP_AUTHORIZATION" in environ else {},
        query=current.query.pairs,
        form=current.form.pairs,
    )  # fmt: skip


@lru_cache(maxsize=4096)
def _tag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:24]}"'
