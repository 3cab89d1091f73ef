"""Addresses at the root of the host, where the standards put them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import Blueprint, Response, redirect, request

from broker.core.errors import Misdirected, NotFound
from broker.core.tenant import Tenant
from broker.web.cookies import Jar
from broker.web.headers import security_headers
from broker.web.pages import Chrome
from broker.web.pages_error import ChooseTenantPage
from broker.web.visit import host_app, house

if TYPE_CHECKING:
    from werkzeug.wrappers import Response as AnyResponse

views = Blueprint("homerealm_root", __name__)


@views.get("/healthz")
def healthz() -> AnyResponse:
    """Alive: answers any Host, touches nothing."""
    return Response("ok\n", 200, mimetype="text/plain")


@views.get("/readyz")
def readyz() -> AnyResponse:
    """Ready: what a login needs is there. Says what is not by name; why is in the log, since anybody may ask."""
    missing = house().runtime.readiness.missing()
    told = {"ready": not missing, "missing": list(missing), "configuration_refused": bool(house().refused)}
    response = Response(json.dumps(told) + "\n", 503 if missing else 200, mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response


@views.get("/static/<name>")
def static(name: str) -> AnyResponse:
    asset = house().asset(name)
    if asset is None:
        if host_app().has_static_folder:
            # At the root of somebody's app their files have the same address; ours carry a digest in their names.
            return host_app().send_static_file(name)
        raise NotFound
    headers, body = asset.answer(request.headers.get("Accept-Encoding", ""))
    return Response(body, 200, headers=dict(headers))


@views.get("/.well-known/oauth-authorization-server/<path:rest>")
def authorization_server(rest: str) -> AnyResponse:
    """RFC 8414 3.1: the well-known part stands before the issuer's path."""
    runtime = house().runtime
    for tenant in _tenants_here():
        if urlsplit(tenant.issuer).path.strip("/") == rest.strip("/"):
            response = Response(runtime.provider.metadata(tenant), 200, mimetype="application/json")
            response.headers["Cache-Control"] = "public, max-age=3600"
            response.headers["Access-Control-Allow-Origin"] = "*"
            return response
    raise NotFound(code="tenant.unknown")


def _tenants_here() -> list[Tenant]:
    """Those whose issuer is on this host. Raises `Misdirected` for a host that is nobody's."""
    here = [
        one for one in house().runtime.settings.tenants.values()
        if urlsplit(one.issuer).netloc == request.host
    ]  # fmt: skip
    if not here:
        raise Misdirected
    return here


@views.get("/.well-known/change-password")
def change_password() -> AnyResponse:
    """W3C "A Well-Known URL for Changing Passwords": the only tenant here, the remembered one, else a list."""
    here = _tenants_here()
    entropy = house().runtime.entropy
    known = [one for one in here if Jar(one.issuer, request.cookies, entropy).has_browser]
    chosen = here[0] if len(here) == 1 else known[0] if len(known) == 1 else None
    if chosen is not None:
        return redirect(f"{chosen.issuer}/change-password", 303)
    content = ChooseTenantPage(tuple((one.name, f"{one.issuer}/change-password") for one in known or here))
    frame = Chrome("Homerealm", "", lambda _: "", reference="")
    response = Response(house().render(content, frame), 200, mimetype="text/html")
    response.headers.extend(security_headers())
    return response


@views.get("/.well-known/passkey-endpoints")
def passkey_endpoints() -> AnyResponse:
    """Nothing is enrolled or managed here yet; the document is valid without members."""
    return Response("{}", 200, mimetype="application/json")
