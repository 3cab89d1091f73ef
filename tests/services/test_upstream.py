"""OAuth 2.0 towards providers, in the formats that they answer in."""

from __future__ import annotations

import base64
import hashlib
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx2
import pytest
from flask import Flask, Response, jsonify, request

from broker.core.errors import ConnectionFailed
from broker.core.tenant import Egress
from broker.services.fetcher import HttpFetcher
from broker.services.upstream import AuthlibClients

TOKEN = "https://idp.example/token"


class Provider:
    def __init__(self) -> None:
        self.answer: Any = lambda: jsonify(access_token="at", token_type="Bearer", id_token="it", expires_in=60)
        self.form: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        self.app = Flask("provider")
        self.app.add_url_rule("/token", "token", self._token, methods=["POST"])

    def _token(self) -> Any:
        assert request.content_type == "application/x-www-form-urlencoded"
        self.form, self.headers = request.form.to_dict(), dict(request.headers)
        return self.answer()


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def clients(provider: Provider) -> AuthlibClients:
    return AuthlibClients(HttpFetcher(Egress(), transport=httpx2.WSGITransport(app=provider.app)))


def leave(clients: AuthlibClients, endpoint: str = "https://idp.example/authorize", **changed: Any) -> str:
    return clients.authorization_url(
        endpoint,
        **{
            "client_id": "homerealm",
            "redirect_uri": "https://login.example/callback/staff",
            "scope": "openid email",
            "state": "st",
            "code_verifier": "v" * 43,
            "extra": {"nonce": "no", "login_hint": "ada+x@acme.example"},
            **changed,
        },
    )


def exchange(clients: AuthlibClients, **changed: Any) -> Any:
    return clients.exchange(
        TOKEN,
        **{
            "client_id": "homerealm",
            "client_secret": "s3cret",
            "auth_method": "client_secret_basic",
            "code": "the code",
            "redirect_uri": "https://login.example/callback/staff",
            "code_verifier": "v" * 43,
            **changed,
        },
    )


def failure(clients: AuthlibClients, **changed: Any) -> ConnectionFailed:
    with pytest.raises(ConnectionFailed) as failed:
        exchange(clients, **changed)
    return failed.value


def test_the_authorization_request_has_everything_once(clients: AuthlibClients) -> None:
    url = urlsplit(leave(clients))
    challenge = base64.urlsafe_b64encode(hashlib.sha256(b"v" * 43).digest()).rstrip(b"=").decode()
    assert url._replace(query="").geturl() == "https://idp.example/authorize"
    assert parse_qs(url.query) == {
        "response_type": ["code"],
        "client_id": ["homerealm"],
        "redirect_uri": ["https://login.example/callback/staff"],
        "scope": ["openid email"],
        "state": ["st"],
        "nonce": ["no"],
        "login_hint": ["ada+x@acme.example"],
        "code_challenge": [challenge],
        "code_challenge_method": ["S256"],
    }


def test_the_query_of_an_endpoint_is_kept(clients: AuthlibClients) -> None:
    query = parse_qs(urlsplit(leave(clients, "https://idp.example/authorize?p=policy&x=a%20b")).query)
    assert (query["p"], query["x"], query["state"]) == (["policy"], ["a b"], ["st"])


def test_without_a_verifier_there_is_no_challenge_and_without_scope_no_scope(clients: AuthlibClients) -> None:
    query = parse_qs(urlsplit(leave(clients, code_verifier=None, scope="", extra={})).query)
    assert set(query) == {"response_type", "client_id", "redirect_uri", "state"}


@pytest.mark.parametrize("name", ["state", "redirect_uri", "client_id", "response_type", "code_challenge", "url"])
def test_an_extra_parameter_cannot_replace_ours(clients: AuthlibClients, name: str) -> None:
    with pytest.raises(ConnectionFailed) as failed:
        leave(clients, extra={name: "evil"})
    assert failed.value.code == "connection.misconfigured"


def test_an_endpoint_that_is_no_address_is_misconfigured(clients: AuthlibClients) -> None:
    with pytest.raises(ConnectionFailed) as failed:
        leave(clients, "https://[idp.example/authorize")
    assert failed.value.code == "connection.misconfigured"


def test_a_code_is_exchanged(clients: AuthlibClients, provider: Provider) -> None:
    token = exchange(clients)
    assert (token["access_token"], token["id_token"]) == ("at", "it")
    assert provider.form == {
        "grant_type": "authorization_code",
        "code": "the code",
        "redirect_uri": "https://login.example/callback/staff",
        "code_verifier": "v" * 43,
    }
    assert provider.headers["Accept"] == "application/json"


def test_basic_credentials_are_form_encoded_first(clients: AuthlibClients, provider: Provider) -> None:
    """RFC 6749 2.3.1: a colon, a percent sign or an umlaut must not change what arrives."""
    exchange(clients, client_id="a:b", client_secret="ü%+ &")
    sent = base64.b64decode(provider.headers["Authorization"].removeprefix("Basic ")).decode()
    assert sent == "a%3Ab:%C3%BC%25%2B+%26"


def test_credentials_go_into_the_form_where_a_provider_wants_that(clients: AuthlibClients, provider: Provider) -> None:
    exchange(clients, auth_method="client_secret_post", client_secret="ü%+ &")
    assert (provider.form["client_id"], provider.form["client_secret"]) == ("homerealm", "ü%+ &")
    assert "Authorization" not in provider.headers


def test_a_public_client_sends_its_id_alone(clients: AuthlibClients, provider: Provider) -> None:
    exchange(clients, auth_method="none", client_secret=None)
    assert provider.form["client_id"] == "homerealm"
    assert "client_secret" not in provider.form
    assert "Authorization" not in provider.headers


def test_githubs_form_encoded_answer_is_read(clients: AuthlibClients, provider: Provider) -> None:
    provider.answer = lambda: Response(
        "access_token=gho_16C7e42F292c6912E7710c838347Ae178B4a&scope=repo%2Cgist&token_type=bearer",
        content_type="application/x-www-form-urlencoded; charset=utf-8",
    )
    assert exchange(clients)["access_token"] == "gho_16C7e42F292c6912E7710c838347Ae178B4a"


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (400, "invalid_grant", "connection.invalid"),
        (401, "invalid_client", "connection.misconfigured"),
        (400, "unauthorized_client", "connection.misconfigured"),
        (200, "bad_verification_code", "connection.invalid"),
        (200, "incorrect_client_credentials", "connection.misconfigured"),
        (200, "redirect_uri_mismatch", "connection.misconfigured"),
        (400, {"code": 7}, "connection.invalid"),
        (400, None, "connection.invalid"),
    ],
)
def test_an_error_answer_is_a_typed_failure(
    clients: AuthlibClients, provider: Provider, status: int, error: Any, code: str
) -> None:
    provider.answer = lambda: (jsonify(error=error, error_description="said the provider"), status)
    failed = failure(clients)
    assert failed.code == code
    assert "said the provider" in failed.detail


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (500, "{}", "connection.unavailable"),
        (503, "<html>", "connection.unavailable"),
        (429, "slow down", "connection.unavailable"),
        (302, "", "connection.invalid"),
        (200, "<html>", "connection.invalid"),
        (200, "[]", "connection.invalid"),
        (200, "null", "connection.invalid"),
        (200, "{}", "connection.invalid"),
        (200, '{"access_token": 7}', "connection.invalid"),
        (200, '{"access_token": "at", "expires_in": "soon"}', "connection.invalid"),
        (200, "\xff", "connection.invalid"),
    ],
)
def test_an_answer_without_a_token_is_a_typed_failure(
    clients: AuthlibClients, provider: Provider, status: int, body: str, code: str
) -> None:
    provider.answer = lambda: Response(body.encode("latin-1"), status, content_type="application/json")
    assert failure(clients).code == code


def test_a_way_to_authenticate_that_we_do_not_have_is_misconfigured(clients: AuthlibClients) -> None:
    assert failure(clients, auth_method="tls_client_auth").code == "connection.misconfigured"


def test_a_dead_provider_is_unavailable() -> None:
    clients = AuthlibClients(HttpFetcher(Egress(allow=("127.0.0.1",))))
    with pytest.raises(ConnectionFailed) as failed:
        clients.exchange(
            "http://127.0.0.1:1/token",
            client_id="a",
            client_secret="hush",
            auth_method="client_secret_basic",
            code="hush",
            redirect_uri="https://login.example/callback/staff",
            code_verifier=None,
        )
    assert failed.value.code == "connection.unavailable"
    assert "hush" not in failed.value.detail


def test_nothing_is_remembered_between_two_exchanges(clients: AuthlibClients, provider: Provider) -> None:
    exchange(clients)
    exchange(clients, code_verifier=None, client_secret=None, auth_method="none")
    assert "code_verifier" not in provider.form
    assert dict(parse_qsl(urlsplit(leave(clients)).query))["state"] == "st"
