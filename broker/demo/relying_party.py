"""The demo's app: a relying party like anybody's, which shows what it received.

It knows nothing of the broker but the issuer's address, its client id and its secret.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from flask import Flask, Response, redirect, request
from jinja2 import Environment, FileSystemLoader, select_autoescape

from broker import resources
from broker.core.errors import ConnectionFailed
from broker.core.ports import Clock, Fetcher
from broker.core.tenant import Egress
from broker.services.clock import SystemClock
from broker.services.fetcher import HttpFetcher
from broker.services.secrets import SystemEntropy
from broker.services.upstream import AuthlibClients
from broker.services.verifier import UpstreamVerifier
from broker.serving.gateway import Gateway

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
    def __init__(self, here: str, broker: str, fetcher: Fetcher | None, clock: Clock) -> None:
        self.here, self.broker = here, broker
        self.entropy = SystemEntropy()
        self.fetcher = fetcher or HttpFetcher(Egress(allow=("127.0.0.0/8", "::1/128")))
        self.upstream = AuthlibClients(self.fetcher)
        self.verifier = UpstreamVerifier(self.fetcher, clock)
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


class Site:
    """The app's pages."""

    def __init__(self, party: RelyingParty) -> None:
        self.party = party

    def _me(self) -> tuple[str, Visitor]:
        key = request.cookies.get(COOKIE, "")
        if key not in self.party.visitors:
            key = self.party.entropy.token(16)
            self.party.visitors[key] = Visitor()
        return key, self.party.visitors[key]

    def _show(self, name: str, status: int = 200, **facts: Any) -> AnyResponse:
        key, visitor = self._me()
        html = self.party.pages.get_template(name).render(
            visitor=visitor, broker=self.party.broker, here=self.party.here, tenants=TENANTS, pretty=_pretty, **facts
        )
        return _with_cookie(Response(html, status, mimetype="text/html"), key)

    def home(self) -> AnyResponse:
        return self._show("app.html")

    def help(self) -> AnyResponse:
        return self._show("help.html")

    def login(self, tenant: str) -> AnyResponse:
        """Also the address that the broker leads back to: the request is always the app's own (OIDC Core 4)."""
        if tenant not in TENANTS:
            return self._show("problem.html", 404, problem="There is no such tenant.")
        key, visitor = self._me()
        extra = {name: value for name, value in request.args.items() if name in _PASSED_ON}
        try:
            return _with_cookie(redirect(self.party.start(visitor, tenant, extra), 303), key)
        except (ConnectionFailed, ValueError) as failure:
            return self._show("problem.html", 502, problem=str(failure))

    def callback(self, tenant: str) -> AnyResponse:
        key, visitor = self._me()
        try:
            self.party.finish(visitor, tenant, request.args.to_dict())
        except (ConnectionFailed, ValueError, KeyError) as failure:
            return self._show("problem.html", 400, problem=str(failure))
        return _with_cookie(redirect("/", 303), key)

    def logout(self) -> AnyResponse:
        key, visitor = self._me()
        if not visitor.claims:
            return _with_cookie(redirect("/", 303), key)
        self.party.visitors[key] = Visitor()
        endpoint = self.party.metadata(visitor.tenant)["end_session_endpoint"]
        hint = visitor.tokens.get("id_token", "")
        query = urlencode({"id_token_hint": hint, "post_logout_redirect_uri": f"{self.party.here}/bye"})
        return _with_cookie(redirect(f"{endpoint}?{query}", 303), key)

    def bye(self) -> AnyResponse:
        return self._show("app.html", signed_out=True)


def _with_cookie(response: AnyResponse, key: str) -> AnyResponse:
    response.set_cookie(COOKIE, key, httponly=True, samesite="Lax")
    return response


def create_relying_party(here: str, broker: str, fetcher: Fetcher | None = None, clock: Clock | None = None) -> Flask:
    """The demo's app at `here`, signing people in at the broker at `broker`."""
    site = Site(RelyingParty(here, broker, fetcher, clock or SystemClock()))
    app = Flask("demo-app", static_folder=None, template_folder=None)
    for rule, view in (
        ("/", site.home), ("/help", site.help), ("/login/<tenant>", site.login), ("/callback/<tenant>", site.callback),
        ("/logout", site.logout), ("/bye", site.bye),
    ):  # fmt: skip
        app.add_url_rule(rule, view.__name__, view)
    return app


_PASSED_ON = frozenset({"connection", "screen_hint", "prompt", "max_age", "login_hint", "ui_locales"})


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)


def gateway() -> Gateway:
    """For the process that `homerealm demo` starts."""
    return Gateway(create_relying_party(os.environ["HOMEREALM_DEMO_APP"], os.environ["HOMEREALM_DEMO_BROKER"]))


if __name__ == "__main__":
    from broker.wsgi import listen, run

    run(listen(sys.argv[1], int(sys.argv[2])), gateway())
