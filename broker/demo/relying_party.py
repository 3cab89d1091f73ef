"""The demo's app: a relying party like anybody's, which shows what it received.

It knows nothing of the broker but the issuer's address, its client id and its secret.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from flask import Flask, redirect, request
from jinja2 import Environment, FileSystemLoader, select_autoescape

from broker import resources
from broker.core.errors import ConnectionFailed
from broker.core.tenant import Egress
from broker.services.clock import SystemClock
from broker.services.fetcher import HttpFetcher
from broker.services.secrets import SystemEntropy
from broker.services.upstream import AuthlibClients
from broker.services.verifier import UpstreamVerifier

if TYPE_CHECKING:
    from werkzeug.wrappers import Response as AnyResponse

CLIENT_ID = "demo"
SECRET = "demo-app-secret-91f0c6d3"
TENANTS = ("acme", "test-acme", "globex")
SCOPE = "openid profile email offline_access"
COOKIE = "demo-app"


@dataclass
class Visitor:
    """One browser, kept in memory: a demo forgets when it stops."""

    waiting: dict[str, dict[str, str]] = field(default_factory=dict)
    tenant: str = ""
    claims: dict[str, Any] = field(default_factory=dict)
    tokens: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] = field(default_factory=dict)


class RelyingParty:
    def __init__(self, here: str, broker: str) -> None:
        self.here, self.broker = here, broker
        self.entropy = SystemEntropy()
        self.fetcher = HttpFetcher(Egress(allow=("127.0.0.0/8", "::1/128")))
        self.upstream = AuthlibClients(self.fetcher)
        self.verifier = UpstreamVerifier(self.fetcher, SystemClock())
        self.visitors: dict[str, Visitor] = {}
        folder = resources.templates() / "demo"
        self.pages = Environment(loader=FileSystemLoader(folder), autoescape=select_autoescape())

    def issuer(self, tenant: str) -> str:
        return f"{self.broker}/t/{tenant}"

    def metadata(self, tenant: str) -> dict[str, Any]:
        answer = self.fetcher.get(f"{self.issuer(tenant)}/.well-known/openid-configuration")
        found = answer.json()
        if not isinstance(found, dict) or found.get("issuer") != self.issuer(tenant):
            raise ConnectionFailed("the discovery document is not of this issuer", code="connection.invalid")
        return found

    def start(self, visitor: Visitor, tenant: str, extra: dict[str, str]) -> str:
        state, nonce, verifier = self.entropy.token(16), self.entropy.token(16), self.entropy.token(48)
        visitor.waiting[state] = {"tenant": tenant, "nonce": nonce, "verifier": verifier}
        return self.upstream.authorization_url(
            self.metadata(tenant)["authorization_endpoint"], client_id=CLIENT_ID,
            redirect_uri=f"{self.here}/callback/{tenant}", scope=SCOPE, state=state, code_verifier=verifier,
            extra={"nonce": nonce, **extra},
        )  # fmt: skip

    def finish(self, visitor: Visitor, tenant: str, answer: dict[str, str]) -> None:
        """Raises `ConnectionFailed` for an answer that nobody here asked for, or that says no."""
        waiting = visitor.waiting.pop(answer.get("state", ""), None)
        if waiting is None or waiting["tenant"] != tenant or answer.get("iss") != self.issuer(tenant):
            raise ConnectionFailed("not an answer to a request of this browser", code="connection.invalid")
        if "error" in answer:
            raise ConnectionFailed(
                f"{answer['error']}: {answer.get('error_description', '')}", code="connection.denied"
            )
        metadata = self.metadata(tenant)
        tokens = self.upstream.exchange(
            metadata["token_endpoint"], client_id=CLIENT_ID, client_secret=SECRET, auth_method="client_secret_basic",
            code=answer["code"], redirect_uri=f"{self.here}/callback/{tenant}", code_verifier=waiting["verifier"],
        )  # fmt: skip
        claims = self.verifier.verify(
            tokens["id_token"], jwks_uri=metadata["jwks_uri"], issuer=self.issuer(tenant), audience=CLIENT_ID
        )
        if claims.get("nonce") != waiting["nonce"]:
            raise ConnectionFailed("another nonce", code="connection.invalid")
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        visitor.userinfo = dict(self.fetcher.get(metadata["userinfo_endpoint"], headers=bearer).json())
        visitor.tenant, visitor.claims, visitor.tokens = tenant, dict(claims), dict(tokens)


def create_relying_party(here: str, broker: str) -> Flask:
    """The demo's app at `here`, signing people in at the broker at `broker`."""
    party = RelyingParty(here, broker)
    app = Flask("demo-app", static_folder=None, template_folder=None)

    def me() -> tuple[str, Visitor]:
        key = request.cookies.get(COOKIE, "")
        if key not in party.visitors:
            key = party.entropy.token(16)
            party.visitors[key] = Visitor()
        return key, party.visitors[key]

    def show(name: str, status: int = 200, **facts: Any) -> AnyResponse:
        key, visitor = me()
        html = party.pages.get_template(name).render(
            visitor=visitor, broker=party.broker, here=here, tenants=TENANTS, pretty=_pretty, **facts
        )
        response = app.make_response((html, status))
        response.set_cookie(COOKIE, key, httponly=True, samesite="Lax")
        return response

    def leave(url: str, key: str) -> AnyResponse:
        response = redirect(url, 303)
        response.set_cookie(COOKIE, key, httponly=True, samesite="Lax")
        return response

    @app.get("/")
    def home() -> AnyResponse:
        return show("app.html")

    @app.get("/help")
    def help_page() -> AnyResponse:
        return show("help.html")

    @app.get("/login/<tenant>")
    def login(tenant: str) -> AnyResponse:
        """Also the address that the broker leads back to: the request is always the app's own (OIDC Core 4)."""
        if tenant not in TENANTS:
            return show("problem.html", 404, problem="There is no such tenant.")
        key, visitor = me()
        extra = {name: value for name, value in request.args.items() if name in _PASSED_ON}
        try:
            return leave(party.start(visitor, tenant, extra), key)
        except (ConnectionFailed, ValueError) as failure:
            return show("problem.html", 502, problem=str(failure))

    @app.get("/callback/<tenant>")
    def callback(tenant: str) -> AnyResponse:
        key, visitor = me()
        try:
            party.finish(visitor, tenant, request.args.to_dict())
        except (ConnectionFailed, ValueError, KeyError) as failure:
            return show("problem.html", 400, problem=str(failure))
        return leave("/", key)

    @app.get("/logout")
    def logout() -> AnyResponse:
        key, visitor = me()
        if not visitor.claims:
            return leave("/", key)
        tenant, hint = visitor.tenant, visitor.tokens.get("id_token", "")
        party.visitors[key] = Visitor()
        query = urlencode({"id_token_hint": hint, "post_logout_redirect_uri": f"{here}/bye"})
        return leave(f"{party.metadata(tenant)['end_session_endpoint']}?{query}", key)

    @app.get("/bye")
    def bye() -> AnyResponse:
        return show("app.html", signed_out=True)

    return app


_PASSED_ON = frozenset({"connection", "screen_hint", "prompt", "max_age", "login_hint", "ui_locales"})


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)


def app_from_environment() -> Flask:
    """For the process that `homerealm demo` starts."""
    return create_relying_party(os.environ["HOMEREALM_DEMO_APP"], os.environ["HOMEREALM_DEMO_BROKER"])
