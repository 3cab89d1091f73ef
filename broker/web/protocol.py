"""The endpoints that programs call: discovery, keys, tokens. All the thinking is in broker.oidc."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from broker.oidc.provider import Answer, Request
from broker.web.visit import Visit, visit

if TYPE_CHECKING:
    from werkzeug.wrappers import Response as AnyResponse

views = Blueprint("homerealm_protocol", __name__)


OPEN = frozenset(f"{views.name}.{name}" for name in (
    "openid_configuration", "authorization_server", "jwks", "token", "userinfo", "revoke",
))  # fmt: skip
"""Called by apps that live in a browser, from any origin: they bring a token or a code, never a cookie, so `*` gives
nothing away (RFC 9700 2.6 leaves out the authorization endpoint; introspection is for servers)."""


@views.after_request
def for_every_origin(response: Response) -> Response:
    """CORS, errors included, and the preflight that flask answers by itself."""
    if request.endpoint in OPEN:
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["Access-Control-Expose-Headers"] = "WWW-Authenticate, Retry-After"
        if request.method == "OPTIONS":
            response.headers["Access-Control-Allow-Methods"] = "GET, POST"
            response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, DPoP"
            response.headers["Access-Control-Max-Age"] = "600"
    return response


def protocol_request(current: Visit) -> Request:
    """The request as the protocol floor sees it: raw pairs, so that it sees duplicates."""
    return Request(
        method=request.method,
        url=f"{current.tenant.issuer}{request.path[len(current.base):]}",
        headers={"Authorization": request.headers["Authorization"]} if "Authorization" in request.headers else {},
        query=current.query.pairs,
        form=current.form.pairs,
    )  # fmt: skip


def _answer(answer: Answer) -> AnyResponse:
    body = answer.body
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body, separators=(",", ":")).encode()
    response = Response(body or b"", answer.status, mimetype="application/json")
    for name, value in answer.headers.items():
        response.headers[name] = value
    return response


def _document(body: bytes, seconds: int) -> AnyResponse:
    response = Response(body, 200, mimetype="application/json")
    response.headers["Cache-Control"] = f"public, max-age={seconds}"
    return response


@views.get("/.well-known/openid-configuration")
def openid_configuration() -> AnyResponse:
    current = visit()
    return _document(current.runtime.provider.metadata(current.tenant), 3600)


@views.get("/.well-known/oauth-authorization-server")
def authorization_server() -> AnyResponse:
    """RFC 8414, at the address that it would have without a path; root.py has the one of section 3.1."""
    return openid_configuration()


@views.get("/jwks")
def jwks() -> AnyResponse:
    current = visit()
    return _document(current.runtime.provider.jwks(current.tenant), 300)


@views.post("/token")
def token() -> AnyResponse:
    current = visit()
    return _answer(current.runtime.provider.token(current.tenant, protocol_request(current)))


@views.route("/userinfo", methods=["GET", "POST"])
def userinfo() -> AnyResponse:
    current = visit()
    return _answer(current.runtime.provider.userinfo(current.tenant, protocol_request(current)))


@views.post("/revoke")
def revoke() -> AnyResponse:
    current = visit()
    return _answer(current.runtime.provider.revoke(current.tenant, protocol_request(current)))


@views.post("/introspect")
def introspect() -> AnyResponse:
    current = visit()
    return _answer(current.runtime.provider.introspect(current.tenant, protocol_request(current)))
