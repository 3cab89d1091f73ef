"""What an application and its users do at an OpenID Provider, step by step and verified: the operations that `flow.py` measures."""

from __future__ import annotations

import argparse
import base64
import functools
import hashlib
import itertools
import json
import re
import secrets
import time
from collections.abc import Callable
from urllib.parse import parse_qs, quote_plus, urlencode, urlsplit

from browser import FORM, Arrived, Browser, Steps
from engine import Answer, Failure, loopback
from forms import Form, forms

JSON_TYPE = b"Accept: application/json\r\n"
PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "k", "oth"}


class Refused(Failure):
    """The provider sheds load (429, 503): not an error of a flood of wrong passwords."""


def check(condition: object, problem: str, page: Answer | None = None) -> None:
    """Raise `Failure` unless the answer is right; an excerpt of `page` goes with the problem."""
    if not condition:
        raise Failure(f"{problem}: {excerpt(page)}" if page else problem)


def as_json(answer: Answer, what: str) -> dict:
    """The JSON object of a successful answer."""
    check(answer.status == 200, what, answer)
    try:
        value = json.loads(answer.body)
    except ValueError:
        value = None
    check(isinstance(value, dict), f"{what}: not a JSON object: {answer.body[:80]!r}")
    return value


def excerpt(page: Answer) -> str:
    """Status, place and the visible words of a page, for an error sample."""
    text = re.sub(r"(?s)<(script|style|head)\b.*?</\1>|<[^>]*>", " ", page.body.decode("utf-8", "replace"))
    return f"{page.status} at {urlsplit(page.url).path}: {' '.join(text.split())[:160]}"


class Provider:
    """What the driver knows of the provider, the client and the users."""

    def __init__(self, options: argparse.Namespace):
        self.issuer = options.issuer
        parts = urlsplit(self.issuer)
        if options.connect:
            pairs = [address.rpartition(":") for address in options.connect]
            self.addresses = [loopback(host.strip("[]"), int(port)) for host, _, port in pairs]
        else:
            check(
                parts.scheme == "http",
                "an https issuer needs --connect with the plain loopback address behind its proxy",
            )
            self.addresses = [loopback(parts.hostname, parts.port or 80)]
        self.origin = f"{parts.scheme}://{parts.netloc}"
        self.proxied = b"X-Forwarded-Proto: https\r\n" if parts.scheme == "https" else b""
        self.client_id, self.client_secret, self.redirect_uri = (
            options.client_id,
            options.client_secret,
            options.redirect_uri,
        )
        self.scope, self.cc_scope, self.auth, self.forwarded_for = (
            options.scope,
            options.cc_scope,
            options.client_auth,
            options.forwarded_for,
        )
        self.forgot_url = options.forgot_url or self.issuer.rstrip("/") + "/forgot"
        self.forgot_expect = options.forgot_expect and re.compile(options.forgot_expect.encode())
        self.users = itertools.cycle(options.users or [("nobody", "nothing")])
        self.discovery_url = self.issuer.rstrip("/") + "/.well-known/openid-configuration"
        self.metadata: dict = {}
        self.verified: dict[str, bytes] = {}
        self.visitors = itertools.count()

    def visitor(self) -> User:
        """A new virtual user."""
        return User(self)

    @functools.cache
    def authorize_url(self, scope: str, **more: str) -> str:
        """The authorisation request without what differs each time."""
        endpoint = self.metadata["authorization_endpoint"]
        return (
            endpoint
            + ("&" if "?" in endpoint else "?")
            + urlencode(
                {
                    "response_type": "code",
                    "client_id": self.client_id,
                    "redirect_uri": self.redirect_uri,
                    "scope": scope,
                    "code_challenge_method": "S256",
                }
                | more
            )
        )

    @functools.cache
    def credentials(self) -> tuple[bytes, dict[str, str]]:
        """Header lines and form fields that authenticate the client (client_secret_basic or client_secret_post)."""
        methods = self.metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if self.auth == "basic" or (self.auth == "auto" and "client_secret_basic" in methods):
            pair = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret)}".encode()
            return b"Authorization: Basic " + base64.b64encode(pair) + b"\r\n", {}
        return b"", {"client_id": self.client_id, "client_secret": self.client_secret}


class User(Browser):
    """A virtual user: a browser and the application behind it."""

    def __init__(self, provider: Provider):
        super().__init__(provider.origin, provider.redirect_uri, provider.proxied)
        self.provider = provider
        self.marks: list[tuple[str, float]] = []
        self.tokens: dict = {}
        self.subject = ""
        self.page: Answer | None = None
        self.forgot: tuple[Form, dict[str, str]] | None = None

    def mark(self, step: str) -> None:
        """The step that ends now."""
        self.marks.append((step, time.perf_counter()))

    def arrive(self) -> None:
        """A new visitor at the provider's door."""
        number = next(self.provider.visitors)
        self.forget(
            b"X-Forwarded-For: 198.%d.%d.%d\r\n" % (18 + (number >> 16) % 2, number >> 8 & 255, number & 255)
            if self.provider.forwarded_for
            else b""
        )

    # The application's calls

    def document(self, url: str, valid: Callable[[dict], bool]) -> Steps:
        """A public document: equal to one that was verified, or verified now."""
        answer = yield from self.call("GET", url, JSON_TYPE)
        if answer.status != 200 or answer.body != self.provider.verified.get(url):
            check(valid(as_json(answer, url)), f"{url}: wrong content {answer.body[:160]!r}")
            self.provider.verified[url] = answer.body
        return answer

    def token(self, **fields: str) -> Steps:
        """One request to the token endpoint; returns the verified JSON."""
        header, more = self.provider.credentials()
        answer = yield from self.call(
            "POST",
            self.provider.metadata["token_endpoint"],
            JSON_TYPE + FORM + header,
            urlencode(fields | more).encode(),
        )
        tokens = as_json(answer, f"token ({fields['grant_type']})")
        check(
            tokens.get("access_token") and str(tokens.get("token_type")).lower() == "bearer",
            f"token: no bearer token in {sorted(tokens)}",
        )
        return tokens

    def claims(self, tokens: dict, nonce: str | None) -> dict:
        """The claims of the ID token, checked for issuer, audience, expiry and nonce (not its signature)."""
        try:
            body = tokens["id_token"].split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        except (KeyError, IndexError, ValueError, AttributeError):
            raise Failure(f"no readable id_token in {sorted(tokens)}") from None
        audience = claims.get("aud")
        check(claims.get("iss") == self.provider.issuer, f"id_token: iss is {claims.get('iss')}")
        check(
            self.provider.client_id in (audience if isinstance(audience, list) else [audience]),
            f"id_token: aud is {audience}",
        )
        check(claims.get("exp", 0) > time.time(), "id_token: expired")
        check(nonce is None or claims.get("nonce") == nonce, "id_token: another nonce")
        check(claims.get("sub"), "id_token: no sub")
        return claims

    def userinfo(self) -> Steps:
        """The user's claims, for the subject that the ID token named."""
        bearer = b"Authorization: Bearer " + self.tokens["access_token"].encode() + b"\r\n"
        answer = yield from self.call("GET", self.provider.metadata["userinfo_endpoint"], JSON_TYPE + bearer)
        found = as_json(answer, "userinfo")
        check(found.get("sub") == self.subject, f"userinfo: sub {found.get('sub')!r}, id_token: {self.subject!r}")
        return answer

    # The browser's journey

    def authorize(self, scope: str, **more: str) -> Steps:
        """From the application to the first page; leaves what must come back in `self.expected`."""
        self.arrive()
        verifier, state, nonce = secrets.token_urlsafe(32), secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        self.expected = verifier, state, nonce
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        page = yield from self.open(
            f"{self.provider.authorize_url(scope, **more)}&state={state}&nonce={nonce}&code_challenge={challenge}"
        )
        return page

    def sign_in(self, page: Answer, name: str, password: str) -> Steps:
        """Answer every page until the application is reached (`Arrived`); each question may be asked once."""
        asked = set()
        for _ in range(8):
            check(page.status == 200, "page", page)
            step, form, filled = question(page, name, password)
            check(step and step not in asked, f"{step or 'no known form'}, on the page after {sorted(asked)}", page)
            asked.add(step)
            try:
                page = yield from self.submit(page, form, filled, form.yes() if step == "consent" else None)
            finally:
                self.mark(step)
        raise Failure(f"more than 8 pages: {sorted(asked)}")

    def sign_in_fully(self, scope: str, **more: str) -> Steps:
        """Authorisation code flow up to verified tokens."""
        name, password = next(self.provider.users)
        try:
            page = yield from self.authorize(scope, **more)
            self.mark("login page")
            yield from self.sign_in(page, name, password)
        except Arrived as arrived:
            code = self.code(arrived.url)
        verifier, _, nonce = self.expected
        self.tokens = yield from self.token(
            grant_type="authorization_code", code=code, redirect_uri=self.provider.redirect_uri, code_verifier=verifier
        )
        self.subject = self.claims(self.tokens, nonce)["sub"]
        self.mark("token")

    def code(self, url: str) -> str:
        """The code in an authorisation response, checked for state and issuer (RFC 9207)."""
        answer = {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}
        check("error" not in answer, f"authorisation: {answer.get('error')} {answer.get('error_description', '')}")
        check(answer.get("state") == self.expected[1], "authorisation: another state")
        if "iss" in answer or self.provider.metadata.get("authorization_response_iss_parameter_supported"):
            check(answer.get("iss") == self.provider.issuer, f"authorisation: iss is {answer.get('iss')}")
        check(answer.get("code"), "authorisation: no code")
        return answer["code"]


def question(page: Answer, name: str, password: str) -> tuple[str | None, Form | None, dict[str, str]]:
    """What a page asks for (`login`, `identifier`, `password` or `consent`; None if nothing known), in which form, and the answers."""
    found = forms(page.body)
    for form in found:
        if secret := form.password():
            user = form.identifier()
            return (
                ("login" if user else "password"),
                form,
                {secret["name"]: password} | ({user["name"]: name} if user else {}),
            )
    for form in found:
        if user := form.identifier():
            return "identifier", form, {user["name"]: name}
    for form in found:
        if form.yes():
            return "consent", form, {}
    return None, None, {}


# Operations: each is a generator over a user, and an error if it raises Failure


def discovery(user: User) -> Steps:
    """The metadata document."""
    yield from user.document(user.provider.discovery_url, lambda d: d.get("issuer") == user.provider.issuer)


def jwks(user: User) -> Steps:
    """The key set: at least one key, and no private part."""
    yield from user.document(
        user.provider.metadata["jwks_uri"],
        lambda d: bool(d.get("keys")) and not any(PRIVATE & set(k) for k in d["keys"]),
    )


def authorize(user: User) -> Steps:
    """A new visitor comes from the application and gets the login page."""
    try:
        page = yield from user.authorize(user.provider.scope)
    except Arrived as arrived:
        raise Failure(f"no login page, but {arrived.url[:120]}") from None
    check(page.status == 200 and question(page, "", "")[0] in ("login", "identifier"), "no login form", page)


def cc(user: User) -> Steps:
    """Client credentials."""
    yield from user.token(
        grant_type="client_credentials", **({"scope": user.provider.cc_scope} if user.provider.cc_scope else {})
    )


def offline(user: User) -> Steps:
    """Not measured: a login that yields a refresh token."""
    yield from user.sign_in_fully(
        " ".join(dict.fromkeys([*user.provider.scope.split(), "offline_access"])), prompt="consent"
    )
    check(user.tokens.get("refresh_token"), "no refresh_token in the token answer")


def refresh(user: User) -> Steps:
    """A refresh; the next one uses the token that came back, so a provider that rotates is followed."""
    old = user.tokens["refresh_token"]
    tokens = yield from user.token(grant_type="refresh_token", refresh_token=old)
    check(tokens["access_token"] != user.tokens["access_token"], "refresh: the same access token again")
    if "id_token" in tokens:
        check(user.claims(tokens, None)["sub"] == user.subject, "refresh: another sub")
    user.tokens = {"refresh_token": old} | tokens
    user.mark("rotated" if user.tokens["refresh_token"] != old else "not rotated")


def online(user: User) -> Steps:
    """Not measured: a login."""
    yield from user.sign_in_fully(user.provider.scope)


def userinfo(user: User) -> Steps:
    """The userinfo endpoint with the access token of a login."""
    yield from user.userinfo()


def forgot(user: User) -> Steps:
    """A new visitor opens the page for forgotten passwords, types an identifier and gets the answer; every second one is unknown."""
    user.arrive()
    name = (
        next(user.provider.users)[0]
        if next(user.provider.visitors) % 2
        else f"nobody-{secrets.token_hex(6)}@example.org"
    )
    page = yield from user.open(user.provider.forgot_url)
    user.mark("page")
    found = next(((form, field) for form in forms(page.body) if (field := form.identifier())), None)
    check(page.status == 200 and found, "no form for an identifier", page)
    page = yield from user.submit(page, found[0], {found[1]["name"]: name})
    user.mark("answer")
    check(page.status == 200 and b'data-page="error"' not in page.body, "answer", page)
    check(
        not user.provider.forgot_expect or user.provider.forgot_expect.search(page.body),
        "answer without the expected text",
        page,
    )


def forgot_form(user: User) -> Steps:
    """Not measured: the page for forgotten passwords, and the form in it."""
    user.arrive()
    user.page = yield from user.open(user.provider.forgot_url)
    found = next(((form, field) for form in forms(user.page.body) if (field := form.identifier())), None)
    check(user.page.status == 200 and found, "no form for an identifier", user.page)
    user.forgot = found
    user.tokens = {"ready": True}


def send_forgotten(user: User, *, follow: bool) -> Steps:
    """The form again; every second identifier is unknown, each comes from an address of its own."""
    kept = dict(user.jar)
    user.arrive()
    user.jar.update(kept)
    form, field = user.forgot
    name = (
        next(user.provider.users)[0]
        if next(user.provider.visitors) % 2
        else f"nobody-{secrets.token_hex(6)}@example.org"
    )
    page = yield from user.submit(user.page, form, {field["name"]: name}, follow=follow)
    return page


def forgot_post(user: User) -> Steps:
    """The answer to a forgotten password alone, be it a page or where the page is."""
    answer = yield from send_forgotten(user, follow=False)
    check(answer.status in (200, 303) and b'data-page="error"' not in answer.body, "answer", answer)


def forgot_answer(user: User) -> Steps:
    """The answer to a forgotten password, and the page that it leads to."""
    page = yield from send_forgotten(user, follow=True)
    check(page.status == 200 and b'data-page="error"' not in page.body, "answer", page)
    expected = user.provider.forgot_expect
    check(not expected or expected.search(page.body), "answer without the expected text", page)


def full(user: User) -> Steps:
    """A whole login: authorize, pages, code, token, userinfo."""
    yield from user.sign_in_fully(user.provider.scope)
    yield from user.userinfo()
    user.mark("userinfo")


def wrong_password(user: User) -> Steps:
    """One guess by an attacker, who keeps to the form that the last refusal gave back."""
    name, password = next(user.provider.users)
    page, user.page = user.page, None
    try:
        if page is None:
            page = yield from user.authorize(user.provider.scope)
        step, form, filled = question(page, name, "wrong-" + password)
        if step == "identifier":
            page = yield from user.submit(page, form, filled)
            step, form, filled = question(page, name, "wrong-" + password)
        if page.status in (429, 503):
            raise Refused(excerpt(page))
        check(step in ("login", "password"), "no password form", page)
        page = yield from user.submit(page, form, filled)
    except Arrived:
        raise Failure("a wrong password was accepted") from None
    if page.status in (429, 503):
        raise Refused(excerpt(page))
    check(page.status < 500, "guess", page)
    check(question(page, "", "")[0] != "consent", "a wrong password was accepted", page)
    user.page = page if question(page, "", "")[0] in ("login", "password") else None


MODES: dict[str, tuple[Callable[[User], Steps], Callable[[User], Steps] | None]] = {
    "discovery": (discovery, None),
    "jwks": (jwks, None),
    "authorize": (authorize, None),
    "cc": (cc, None),
    "refresh": (refresh, offline),
    "userinfo": (userinfo, online),
    "forgot": (forgot, None),
    "forgot-post": (forgot_post, forgot_form),
    "forgot-answer": (forgot_answer, forgot_form),
    "full": (full, None),
}
