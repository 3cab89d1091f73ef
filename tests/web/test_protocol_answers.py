"""What the endpoints for programs answer to odd requests, byte for byte: alone, in somebody's app, on their own host.

These requests do not go through Flask, so nothing of Flask's checks them: whatever it did for us stands here.
"""

from __future__ import annotations

import io
import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, update

from broker.core.values import Actor
from broker.stores.kv.embedded import EmbeddedValkey
from broker.stores.sql.tables import signing_keys
from broker.testing.town import ACME, Town
from tests.stories.conftest import build_town, key_values  # noqa: F401 - fixtures

FORM = "application/x-www-form-urlencoded"
SECRET = "demo-app-secret-91f0c6d3"
TENANT = ACME.replace(
    "[authorization_code, refresh_token]",
    "[authorization_code, refresh_token, client_credentials]\n    scope: openid email offline_access api write",
).replace(
    "admins:",
    """  - {client_id: spa, client_name: Spa, token_endpoint_auth_method: none, redirect_uris: [https://spa.test/cb]}
admins:""",
)


def basic(text: str | bytes) -> dict[str, str]:
    raw = text if isinstance(text, bytes) else text.encode()
    return {"HTTP_AUTHORIZATION": f"Basic {b64encode(raw).decode()}"}


DEMO = basic(f"demo:{SECRET}")
ORIGIN = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "WWW-Authenticate, Retry-After"}
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, DPoP",
    "Access-Control-Max-Age": "600",
}
JSON = {"Content-Type": "application/json"}
REFUSED = JSON | {"Cache-Control": "no-store"}
"""By whoever reads the request."""
ANSWERED = REFUSED | {"Pragma": "no-cache"}
"""By the protocol."""
UNKNOWN_CLIENT = '{"error":"invalid_client","error_description":"Client authentication failed"}'
CHALLENGE = ANSWERED | ORIGIN | {"WWW-Authenticate": 'Basic realm="client"'}
TOKEN = '{"access_token":"...","token_type":"Bearer","expires_in":600,"scope":"api write"}'
NOT_OURS = "The access token is expired, revoked or not ours"


def refused(code: str) -> str:
    return json.dumps({"error": "invalid_request", "error_description": f"{code} (reference ...)"})


def says(error: str, description: str) -> str:
    return json.dumps({"error": error, "error_description": description}, separators=(",", ":"))


def bearer(error: str, description: str) -> dict[str, str]:
    challenge = f'Bearer realm="userinfo", error="{error}", error_description="{description}"'
    return ANSWERED | ORIGIN | {"WWW-Authenticate": challenge}


@dataclass(frozen=True)
class Row:
    ask: str
    """Method, path, and what the CGI variables say beyond a plain request."""
    status: str
    headers: dict[str, str]
    body: str
    content: bytes = b""
    environ: dict[str, Any] | None = None


def posts(path: str, content: bytes, status: str, headers: dict[str, str], body: str, **environ: Any) -> Row:
    return Row(f"POST {path}", status, headers, body, content, environ)


BAD, NOT, LOST = "400 BAD REQUEST", "405 METHOD NOT ALLOWED", "421 MISDIRECTED REQUEST"
WHO, OK = "401 UNAUTHORIZED", "200 OK"
CC = b"grant_type=client_credentials"
DOCUMENTS = ("/jwks", "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server")
FORMS = ("/token", "/userinfo", "/revoke", "/introspect")


def _of_the_request() -> Iterator[Row]:
    """Method, host, tenant, query: the same for all."""
    for path in (*DOCUMENTS, *FORMS):
        open = {} if path == "/introspect" else ORIGIN
        get, post = path in (*DOCUMENTS, "/userinfo"), path in FORMS
        allow = ", ".join(["GET", "HEAD"] * get + ["OPTIONS"] + ["POST"] * post)
        for method in ["PUT", "DELETE", "TRACE", "FOO"] + ["GET"] * (not get) + ["POST"] * (not post):
            yield Row(f"{method} {path}", NOT, REFUSED | {"Allow": allow}, refused("request.method"))
        method = "GET" if get else "POST"
        options = {"Content-Type": "text/html; charset=utf-8", "Allow": allow} | open | (PREFLIGHT if open else {})
        yield Row(f"OPTIONS {path}", OK, options, "")
        for host in ("evil.test", "", "@:8443", "@.", "@:80", "x@", "user:x@@"):
            yield Row(f"{method} {path}", LOST, REFUSED | open, refused("host.unknown"), environ={"HTTP_HOST": host})
        yield Row(f"{method} {path}", LOST, REFUSED | open, refused("host.unknown"), environ={"HTTP_HOST": None})
        yield Row(f"{method} nobody{path}", "404 NOT FOUND", REFUSED | open, refused("tenant.unknown"))
        for query, code in (
            ("a=%ff", "request.encoding: not UTF-8"),
            ("a=\xc3\xa9", "request.encoding: not UTF-8"),
            ("a=%00", "request.encoding: has a NUL character"),
            ("&".join(f"a{number}=1" for number in range(101)), "request.too_large: too many fields"),
            ("a=" + "x" * 17_000, "request.too_large"),
        ):
            yield Row(f"{method} {path}", BAD, REFUSED | open, refused(code), environ={"QUERY_STRING": query})


def _of_the_body() -> Iterator[Row]:
    for path in FORMS:
        open = {} if path == "/introspect" else ORIGIN
        for kind in ("", "application/json", "multipart/form-data; boundary=x", "text/plain", f"{FORM}x"):
            text = refused(f"request.media_type: forms are {FORM}")
            yield posts(path, b"a=1", BAD, REFUSED | open, text, CONTENT_TYPE=kind, **DEMO)
        for content, code in (
            (b"a=%ff", "request.encoding: not UTF-8"),
            ("a=\xe9".encode(), "request.encoding: not UTF-8"),
            (b"a=%00", "request.encoding: has a NUL character"),
            (b"&".join(b"a%d=1" % number for number in range(101)), "request.too_large: too many fields"),
            (b"a=" + b"x" * 70_000, "request.too_large"),
        ):
            yield posts(path, content, BAD, REFUSED | open, refused(code), **DEMO)
        large = says("invalid_request", "more than 16384 bytes of parameters")
        twice = says("invalid_request", "a parameter is there more than once")
        told = ANSWERED | open
        if path == "/userinfo":
            told = bearer("invalid_request", "more than 16384 bytes of parameters")
        yield posts(path, b"a=" + b"x" * 20_000, BAD, told, large)
        if path == "/userinfo":
            told = bearer("invalid_request", "a parameter is there more than once")
        yield posts(path, b"a=1&a=1", BAD, told, twice)
        short = {"CONTENT_LENGTH": "99"}
        yield posts(path, b"a=1", BAD, REFUSED | open, refused("request.invalid"), **short)
        longer = {"CONTENT_LENGTH": "9999999", "wsgi.input_terminated": True}
        yield posts(path, b"a=1", BAD, REFUSED | open, refused("request.too_large"), **longer)
        unsaid = {"CONTENT_LENGTH": None, "wsgi.input_terminated": True}
        yield posts(path, b"a=" + b"x" * 70_000, BAD, REFUSED | open, refused("request.too_large"), **unsaid)
    for path in ("/token", "/revoke", "/introspect"):
        told = ANSWERED | ({} if path == "/introspect" else ORIGIN)
        text = says("invalid_request", "parameters belong in the body")
        yield posts(path, b"a=1", BAD, told, text, QUERY_STRING="b=2", **DEMO)
    for kind in (f"{FORM}; charset=utf-8", FORM.upper(), f" {FORM} ;x=y"):
        yield posts("/token", CC, OK, ANSWERED | ORIGIN, TOKEN, CONTENT_TYPE=kind, **DEMO)
    whole = {"CONTENT_LENGTH": None, "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    yield posts("/token", CC, OK, ANSWERED | ORIGIN, TOKEN, **whole, **DEMO)
    missing = says("invalid_request", "grant_type is missing")
    yield posts("/token", CC, BAD, ANSWERED | ORIGIN, missing, CONTENT_LENGTH=None, **DEMO)


def _of_the_client() -> Iterator[Row]:
    good = (
        DEMO,
        basic("demo:demo%2Dapp%2Dsecret%2D91f0c6d3"),
        {"HTTP_AUTHORIZATION": DEMO["HTTP_AUTHORIZATION"].replace("Basic ", "bAsIc   ")},
    )
    for authorization in good:
        yield posts("/token", CC, OK, ANSWERED | ORIGIN, TOKEN, **authorization)
    yield posts("/token", CC + b"&client_id=demo", OK, ANSWERED | ORIGIN, TOKEN, **DEMO)
    yield posts("/token", CC + f"&client_id=demo&client_secret={SECRET}".encode(), OK, ANSWERED | ORIGIN, TOKEN)
    wrong: tuple[dict[str, str], ...] = (
        {}, basic("demo:wrong"), basic("demo:"), basic("demo"), basic(""), basic("nobody:x"), basic(b"\xff:\xff"),
        basic("demo:%ed%a0%80"), basic("~homerealm:"), basic("spa:"), basic(f"Demo:{SECRET}"), basic(f"demo:{SECRET} "),
        {"HTTP_AUTHORIZATION": "Basic !!!"}, {"HTTP_AUTHORIZATION": "Basic"}, {"HTTP_AUTHORIZATION": "Basic \xe9"},
        {"HTTP_AUTHORIZATION": DEMO["HTTP_AUTHORIZATION"].rstrip("=")[:-1]}, {"HTTP_AUTHORIZATION": "Bearer x"},
    )  # fmt: skip
    for path in ("/token", "/revoke", "/introspect"):
        told = CHALLENGE if path != "/introspect" else {k: v for k, v in CHALLENGE.items() if k not in ORIGIN}
        for authorization in wrong:
            yield posts(path, CC + b"&token=x", WHO, told, UNKNOWN_CLIENT, **authorization)
        for ids in (b"demo", b"demo&client_secret=x", b"%7Ehomerealm", b"spa&client_secret=x", b"demo&client_secret="):
            yield posts(path, CC + b"&token=x&client_id=" + ids, WHO, told, UNKNOWN_CLIENT)
        both = says("invalid_request", "More than one way to authenticate the client")
        told = ANSWERED | ({} if path == "/introspect" else ORIGIN)
        yield posts(path, CC + b"&client_secret=x", BAD, told, both, **DEMO)
        yield posts(path, CC + b"&client_assertion=x", BAD, told, both, **DEMO)
        other = says("invalid_request", "client_id is not the client that authenticates")
        yield posts(path, CC + b"&client_id=spa", BAD, told, other, **DEMO)
    yield posts("/token", CC + b"&client_id=spa", WHO, CHALLENGE, UNKNOWN_CLIENT)
    yield posts("/revoke", b"token=x&client_id=spa", OK, ANSWERED | ORIGIN, "")
    yield posts("/introspect", b"token=x", OK, ANSWERED, '{"active":false}', **DEMO)
    yield posts("/introspect", b"a=1", BAD, ANSWERED, says("invalid_request", "token is missing"), **DEMO)


def _of_the_grant() -> Iterator[Row]:
    for content, error, description in (
        (b"a=1", "invalid_request", "grant_type is missing"),
        (b"grant_type=", "invalid_request", "grant_type is missing"),
        (b"grant_type=authorization_code", "invalid_request", "Missing 'code' in request."),
        (b"grant_type=authorization_code&code=x.y", "invalid_grant", "Invalid 'code' in request."),
        (b"grant_type=refresh_token", "invalid_request", "Missing 'refresh_token' in request."),
    ):
        yield posts("/token", content, BAD, ANSWERED | ORIGIN, says(error, description), **DEMO)
    for content, error in (
        (b"grant_type=password", "unsupported_grant_type"),
        (b"grant_type=%C3%A9", "unsupported_grant_type"),
        (b"grant_type=refresh_token&refresh_token=%C3%A9.y.z", "invalid_grant"),
        (b"grant_type=refresh_token&refresh_token=x.y.z", "invalid_grant"),
    ):
        yield posts("/token", content, BAD, ANSWERED | ORIGIN, f'{{"error":"{error}"', **DEMO)
    yield posts("/token", CC + b"&scope=openid", BAD, ANSWERED | ORIGIN, '{"error":"invalid_scope"', **DEMO)
    one = TOKEN.replace("api write", "write")
    yield posts("/token", CC + b"&scope=write+openid+write", OK, ANSWERED | ORIGIN, one, **DEMO)


def _of_the_bearer() -> Iterator[Row]:
    unasked = ANSWERED | ORIGIN | {"WWW-Authenticate": 'Bearer realm="userinfo"'}
    no = says("invalid_token", NOT_OURS)
    for ask in ("GET /userinfo", "POST /userinfo", "HEAD /userinfo"):
        yield Row(ask, WHO, unasked, "")
        yield Row(ask, WHO, unasked, "", environ={"HTTP_AUTHORIZATION": "DPoP x"})
    for value in ("x", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "a b", "x" * 9000, "\xe9", ""):
        env = {"HTTP_AUTHORIZATION": f"bearer {value}"}
        yield Row("GET /userinfo", WHO, bearer("invalid_token", NOT_OURS), no, environ=env)
    yield posts("/userinfo", b"access_token=x", WHO, bearer("invalid_token", NOT_OURS), no)
    two = "the access token came in two ways"
    env = {"HTTP_AUTHORIZATION": "Bearer x"}
    yield posts(
        "/userinfo", b"access_token=x", BAD, bearer("invalid_request", two), says("invalid_request", two), **env
    )
    address = "access tokens are not accepted in the address"
    env = {"QUERY_STRING": "access_token=x"}
    told = bearer("invalid_request", address)
    yield Row("GET /userinfo", BAD, told, says("invalid_request", address), environ=env)


ROWS = [*_of_the_request(), *_of_the_body(), *_of_the_client(), *_of_the_grant(), *_of_the_bearer()]


@dataclass(frozen=True)
class Place:
    """Where the broker is reached: host, and what comes before the path."""

    town: Town
    host: str
    base: str

    def ask(self, row: Row) -> tuple[str, dict[str, str], str]:
        method, _, path = row.ask.partition(" ")
        tenant, _, rest = path.partition("/")
        base = self.base if not tenant else f"{self.base.removesuffix('/t/acme')}/t/{tenant}"
        environ = {
            "REQUEST_METHOD": method, "PATH_INFO": f"{base}/{rest}", "QUERY_STRING": "", "SCRIPT_NAME": "",
            "SERVER_NAME": "10.0.0.1", "SERVER_PORT": "8000", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": self.host,
            "wsgi.url_scheme": "https", "wsgi.input": io.BytesIO(row.content), "wsgi.errors": io.StringIO(),
            "wsgi.version": (1, 0), "wsgi.multithread": True, "wsgi.multiprocess": True, "wsgi.run_once": False,
            "REMOTE_ADDR": "192.0.2.1",
        }  # fmt: skip
        if method == "POST":
            environ |= {"CONTENT_TYPE": FORM, "CONTENT_LENGTH": str(len(row.content))}
        for name, value in (row.environ or {}).items():
            environ.pop(name, None)
            if value is not None:
                environ[name] = value.replace("@", self.host) if name == "HTTP_HOST" else value
        told: list[Any] = []
        parts = self.town.broker.app.wsgi_app(environ, lambda *answer: told.append(answer))
        body = b"".join(parts)
        headers = dict(told[-1][1])
        assert len(headers) == len(told[-1][1]), "no header twice"
        length = int(headers.pop("Content-Length", 0))
        assert length == len(body) or method == "HEAD"
        text = re.sub(r"\b[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{2}\b", "...", body.decode())
        return told[-1][0], headers, re.sub(r'(?<="access_token":")[^"]+', "...", text)


@pytest.fixture(params=["alone", "mounted", "own host"])
def place(build_town: Callable[..., Town], request: pytest.FixtureRequest) -> Place:  # noqa: F811 - a fixture
    if request.param == "own host":
        town = build_town(acme=f"issuer: https://login.acme.test\n{TENANT}")
        return Place(town, "login.acme.test", "")
    town = build_town(mounted=request.param == "mounted", acme=TENANT)
    return Place(town, "login.test", "/sso/t/acme" if town.mounted else "/t/acme")


def test_every_odd_request_has_its_answer(place: Place) -> None:
    for row in ROWS:
        elsewhere = "HTTP_HOST" in (row.environ or {}) or row.ask.partition("/")[0].endswith("nobody")
        if elsewhere and place.host != "login.test":
            continue  # its host is part of the address there: elsewhere is any page that does not exist
        status, headers, body = place.ask(row)
        assert (status, headers) == (row.status, row.headers), row
        complete = row.body.endswith("}") or not row.body
        assert body == row.body if complete else body.startswith(row.body), row


def test_the_port_that_goes_without_saying_may_be_said(place: Place) -> None:
    for path in DOCUMENTS if place.host == "login.test" else ():
        env = {"HTTP_HOST": "@:443"}
        assert place.ask(Row(f"GET {path}", OK, {}, "", environ=env))[0] == OK


def test_a_document_is_kept_as_long_as_it_says_and_asked_for_by_its_tag(place: Place) -> None:
    for path, seconds in zip(DOCUMENTS, (300, 3600, 3600), strict=True):
        status, headers, body = place.ask(Row(f"GET {path}", OK, {}, ""))
        tag = headers.pop("ETag")
        assert (status, headers) == (OK, JSON | ORIGIN | {"Cache-Control": f"public, max-age={seconds}"})
        assert json.loads(body)
        assert place.ask(Row(f"HEAD {path}", OK, {}, ""))[2] == ""
        again = place.ask(Row(f"GET {path}", OK, {}, "", environ={"HTTP_IF_NONE_MATCH": tag}))
        kept = ORIGIN | {"Cache-Control": f"public, max-age={seconds}", "ETag": tag}
        assert again == ("304 NOT MODIFIED", kept, "")
        assert place.ask(Row(f"GET {path}", OK, {}, "", environ={"HTTP_IF_NONE_MATCH": '"x"'}))[0] == OK
    place.town.broker.runtime.signing.rotate(place.town.broker.tenant("acme"), by=Actor.command_line("test"))
    asked = Row("GET /jwks", OK, {}, "", environ={"HTTP_IF_NONE_MATCH": tag})
    assert place.ask(asked)[0] == OK, "and other keys have another tag"


def test_other_addresses_go_to_the_app(place: Place) -> None:
    for path in ("/token/", "//token", "/Token", "/x/token", "/jwks/x"):
        assert place.ask(Row(f"POST {path}", "", {}, ""))[0] == "404 NOT FOUND"


def test_a_mistake_of_ours_is_500_with_a_reference_that_the_log_knows(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    assert place.ask(Row("GET /jwks", OK, {}, ""))[0] == OK
    url = place.town.broker.runtime.settings.database.replace("postgresql:", "postgresql+psycopg:")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(update(signing_keys).values(private=b"no key"))
    engine.dispose()
    place.town.later(minutes=1)
    answer = place.ask(Row("POST /token", "", {}, "", CC, DEMO))
    body = '{"error": "server_error", "error_description": "internal (reference ...)"}'
    assert answer == ("500 INTERNAL SERVER ERROR", REFUSED | ORIGIN, body)
    assert "not a sealed value" in caplog.text
    assert re.search(r"\b[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{2}\b", caplog.text)


def test_a_store_that_is_gone_is_503_and_says_when_to_come_back(
    tmp_path: Path,
    key_values: tuple[str, str],  # noqa: F811 - a fixture
) -> None:
    server = EmbeddedValkey(tmp_path / "kv")
    town = Town(tmp_path / "town", (server.start(), key_values[1]), acme=TENANT)
    try:
        server.stop()
        place = Place(town, "login.test", "/t/acme")
        code = b"grant_type=authorization_code&code=x.y"
        status, headers, body = place.ask(Row("POST /token", "", {}, "", code, DEMO))
        assert (status, headers) == ("503 SERVICE UNAVAILABLE", REFUSED | ORIGIN | {"Retry-After": "5"})
        assert body.startswith('{"error": "temporarily_unavailable", "error_description": "')
        assert "key-value" not in body, "which store it is, is for the log"
        assert place.ask(Row("POST /token", "", {}, "", CC, DEMO))[0] == OK, "this one needs no store"
    finally:
        town.close()
