"""What every stand-in does: a login page, a reset page, authorization codes with PKCE.

It is strict as the provider is: an unregistered redirect URI gets a page and no redirect, a code works once, PKCE
and the client's secret are checked. What a test wants to be wrong is a function that it sets.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus, urlencode

from flask import Flask, Response, redirect, request

from broker.core.ports import Clock, Entropy
from broker.testing.entropy import SeededEntropy

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from broker.testing.world import World

CODE_LIVES = 60
"""Seconds."""
Change = Callable[[dict[str, Any]], dict[str, Any]]


def unchanged(value: dict[str, Any]) -> dict[str, Any]:
    return value


@dataclass
class Person:
    """Somebody with an account at the provider."""

    subject: str
    password: str
    claims: dict[str, Any] = field(default_factory=dict)
    """In the provider's own words."""


@dataclass(frozen=True)
class Registration:
    """What the provider knows of us."""

    client_id: str
    secret: str
    redirect_uris: tuple[str, ...]


@dataclass
class Login:
    """A browser that is signed in at the provider."""

    person: str
    at: int


@dataclass
class Code:
    parameters: dict[str, str]
    login: Login
    issued_at: int
    used: bool = False


class StandIn:
    """A provider on one or more hosts. `people` sign in with their user name and password."""

    name = "Provider"
    hosts: tuple[str, ...] = ()
    reset_path = "/forgot"
    secure_cookies = True

    def __init__(self, clock: Clock, client: Registration, entropy: Entropy | None = None) -> None:
        self.clock = clock
        self.client = client
        self.entropy = entropy or SeededEntropy(self.name)
        self.people: dict[str, Person] = {}
        self.logins: dict[str, Login] = {}
        self.codes: dict[str, Code] = {}
        self.tokens: dict[str, Code] = {}
        self.resets: list[dict[str, str]] = []
        """What the reset page was asked with."""
        self.change_response: Change = unchanged
        """On the parameters of the authorization response."""
        self.change_token: Change = unchanged
        """On the token answer."""
        self.app = Flask(self.name)
        self.app.testing = True  # what goes wrong in a stand-in is the test's business
        self.routes(self.app)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self.app(environ, start_response)

    def settle(self, world: World) -> None:
        """Stand on its hosts."""
        for host in self.hosts:
            world[host] = self

    def routes(self, app: Flask) -> None:
        """Where everything is. For subclasses."""
        raise NotImplementedError

    def now(self) -> int:
        return int(self.clock.now().timestamp())

    # --- The browser's side ---------------------------------------------------------------------------------------

    def authorize(self) -> Any:
        """A login page, or straight back for a browser that is signed in and may stay so."""
        parameters = dict(request.args)
        if wrong := self.refuses(parameters):
            return wrong
        login = self.logins.get(request.cookies.get("login", ""))
        prompts = parameters.get("prompt", "").split()
        if login is not None and "login" not in prompts and "select_account" not in prompts:
            limit = parameters.get("max_age")
            if limit is None or self.now() - login.at <= int(limit):
                return self.answer(parameters, login)
        if "none" in prompts:
            return self.send_back(parameters, {"error": "login_required"})
        return self.login_page(parameters)

    def refuses(self, parameters: Mapping[str, str]) -> Response | None:
        """A page of the provider's own for what must not be redirected (RFC 6749 4.1.2.1)."""
        if parameters.get("client_id") != self.client.client_id:
            return page(self.name, "Unknown client", 400)
        if parameters.get("redirect_uri") not in self.client.redirect_uris:
            return page(self.name, "redirect_uri is not registered", 400)
        if parameters.get("response_type") != "code" or not parameters.get("state"):
            return page(self.name, "Invalid request", 400)
        return None

    def login_page(self, parameters: Mapping[str, str], message: str = "") -> Response:
        hint = escape(parameters.get("login_hint", parameters.get("login", "")))
        return page(
            self.name,
            f"""<p>{escape(message)}</p>
            <form method="post" action="{escape(request.path)}?{escape(urlencode(parameters))}">
            <input name="username" autocomplete="username" value="{hint}">
            <input name="password" type="password" autocomplete="current-password">
            <button name="do" value="sign-in">Sign in</button><button name="do" value="cancel">Cancel</button></form>
            <a href="{self.reset_path}">Forgot password?</a>""",
        )

    def log_in(self) -> Any:
        """The login form, posted."""
        parameters = dict(request.args)
        if wrong := self.refuses(parameters):
            return wrong
        if request.form.get("do") == "cancel":
            return self.send_back(parameters, self.cancelled())
        name = request.form.get("username", "")
        person = self.people.get(name)
        if person is None or person.password != request.form.get("password"):
            return self.login_page(parameters, "Wrong user name or password")
        login = Login(name, self.now())
        key = self.entropy.token()
        self.logins[key] = login
        answer = self.answer(parameters, login)
        answer.set_cookie("login", key, secure=request.is_secure, httponly=True)
        return answer

    def cancelled(self) -> dict[str, str]:
        return {"error": "access_denied", "error_description": "The user denied the request"}

    def answer(self, parameters: Mapping[str, str], login: Login) -> Any:
        code = self.entropy.token()
        self.codes[code] = Code(dict(parameters), login, self.now())
        return self.send_back(parameters, {"code": code})

    def send_back(self, parameters: Mapping[str, str], values: Mapping[str, str]) -> Any:
        sent = self.change_response({**values, "state": parameters["state"], **self.response_extras()})
        return redirect(f"{parameters['redirect_uri']}?{urlencode(sent)}", 302)

    def response_extras(self) -> dict[str, str]:
        """What the provider puts into every authorization response."""
        return {}

    def forgot(self) -> Any:
        """The provider's own reset page. With an authorization request it comes back with a code afterwards."""
        parameters = dict(request.args)
        if request.method == "GET":
            self.resets.append(parameters)
            return page(
                f"Reset your {self.name} password",
                """<form method="post"><input name="username" autocomplete="username">
                <input name="password" type="password" autocomplete="new-password"><button>Reset</button></form>""",
            )
        name = request.form["username"]
        self.people[name].password = request.form["password"]
        if "redirect_uri" not in parameters:
            return page(self.name, "Your password was changed")
        return self.refuses(parameters) or self.answer(parameters, Login(name, self.now()))

    # --- The client's side ----------------------------------------------------------------------------------------

    def redeem(self) -> tuple[Code | None, str]:
        """A code at the token endpoint: what it stands for, or the error of RFC 6749 5.2."""
        form = request.form
        if not self.authenticated():
            return None, "invalid_client"
        code = self.codes.get(form.get("code", ""))
        if code is None or code.used or self.now() - code.issued_at > CODE_LIVES:
            return None, "invalid_grant"
        code.used = True
        if form.get("redirect_uri") != code.parameters["redirect_uri"]:
            return None, "invalid_grant"
        challenge = code.parameters.get("code_challenge")
        if challenge is not None:
            digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
            if urlsafe_b64encode(digest).rstrip(b"=").decode() != challenge:
                return None, "invalid_grant"
        return code, ""

    def authenticated(self) -> bool:
        """client_secret_basic or client_secret_post, never both (RFC 6749 2.3)."""
        scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            name, _, secret = b64decode(credentials).decode().partition(":")
            given = unquote_plus(name), unquote_plus(secret)
            return given == (self.client.client_id, self.client.secret) and "client_secret" not in request.form
        return (request.form.get("client_id"), request.form.get("client_secret")) == (
            self.client.client_id,
            self.client.secret,
        )

    def bearer(self) -> Code | None:
        """Whose access token came with this request."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return self.tokens.get(token) if scheme.lower() == "bearer" else None


def page(title: str, body: str, status: int = 200) -> Response:
    html = (
        f"<!doctype html><html lang=en><head><title>{escape(title)}</title></head><body><h1>{escape(title)}</h1>{body}"
    )
    return Response(html, status, content_type="text/html; charset=utf-8")
