"""Whatever a client sends: a typed refusal, never another exception, and never an address that is not registered."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.core.errors import BadRequest
from broker.oidc.provider import Answer, AuthorizationRequest, RefusedToApp, Request
from broker.oidc.requests import KNOWN
from tests.oidc.op import BYE, CALLBACK, CHALLENGE, ISSUER, NONCE, SECRET, STATE, VERIFIER, Op, basic

GOOD = [
    ("client_id", "shop"), ("redirect_uri", CALLBACK), ("response_type", "code"), ("scope", "openid"), ("state", STATE),
    ("nonce", NONCE), ("code_challenge", CHALLENGE), ("code_challenge_method", "S256"),
]  # fmt: skip
NAMES = st.sampled_from(sorted(KNOWN | {"request", "request_uri", "registration", "hinted_subject", "x"})) | st.text()
TELLING = st.sampled_from([
    "", " ", "none", "login none", "code", "code id_token", "plain", "S256", CHALLENGE, CALLBACK, CALLBACK + "#", "{}",
    '{"id_token":{"sub":{"value":1}}}', '{"id_token":{"acr":{"essential":true,"values":[null,{}]}}}', "[" * 3000,
    '{"userinfo":null,"id_token":{"acr":null}}', "1" * 5000, "\ud800", "\0", "ü", "%00", "javascript:alert(1)",
    "https://evil.example/", "http://127.0.0.1:99999999/cb", "http://[::1", "shop", "~homerealm", "phone", "spa", "svc",
])  # fmt: skip
VALUES = TELLING | st.text(max_size=40) | st.text(alphabet=st.characters(), max_size=10)
QUIET = settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@st.composite
def mutated(draw: st.DrawFn, good: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """A good request in which something is changed, doubled, missing or added."""
    pairs = list(good)
    for _ in range(draw(st.integers(1, 4))):
        kind, where = (
            draw(st.sampled_from(["change", "add", "double", "remove", "name"])),
            draw(st.integers(0, len(pairs))),
        )
        if kind == "add" or not pairs:
            pairs.insert(where, (draw(NAMES), draw(VALUES)))
            continue
        index = min(where, len(pairs) - 1)
        name, value = pairs[index]
        if kind == "change":
            pairs[index] = (name, draw(VALUES))
        elif kind == "double":
            pairs.append((name, draw(st.just(value) | VALUES)))
        elif kind == "remove":
            del pairs[index]
        else:
            pairs[index] = (draw(NAMES), value)
    return pairs


@given(pairs=mutated(GOOD), method=st.sampled_from(["GET", "POST"]))
@QUIET
def test_an_authorization_request_is_accepted_refused_to_the_app_or_refused_here_and_nothing_else(
    op: Op, pairs: list[tuple[str, str]], method: str
) -> None:
    try:
        asked = op.send(pairs, method)
    except BadRequest:
        return
    except RefusedToApp as refusal:
        url = refusal.url
    else:
        check_accepted(op, asked)
        return
    assert url.isascii()
    assert url.startswith((CALLBACK + "&error=", "http://127.0.0.1"))
    assert f"iss={ISSUER.replace(':', '%3A').replace('/', '%2F')}" in url


def check_accepted(op: Op, asked: AuthorizationRequest) -> None:
    assert isinstance(asked, AuthorizationRequest)
    assert asked.parameters["redirect_uri"].startswith((CALLBACK, "http://127.0.0.1"))
    assert asked.parameters["code_challenge_method"] == "S256"
    assert set(asked.parameters) <= KNOWN | {"hinted_subject"}
    json.loads(asked.parameters.get("claims", "{}"))
    transaction = op.transaction(asked)
    assert transaction.max_age is None or transaction.max_age >= 0
    assert op.provider.respond(op.tenant, transaction, "c")


HEADERS = st.sampled_from([
    {}, {"Authorization": basic("shop", SECRET)}, {"authorization": "Basic /w=="}, {"Authorization": "Bearer x"},
    {"Authorization": "Basic " + base64.b64encode(b"a" * 9000).decode()}, {"Authorization": "\ud800"},
])  # fmt: skip
FORMS = [
    [("grant_type", "authorization_code"), ("code", "a.b"), ("redirect_uri", CALLBACK), ("code_verifier", VERIFIER)],
    [("grant_type", "refresh_token"), ("refresh_token", "a.b.c"), ("scope", "openid")],
    [("grant_type", "client_credentials"), ("client_id", "svc"), ("client_secret", SECRET), ("scope", "orders")],
    [("token", "a.b.c"), ("token_type_hint", "access_token"), ("client_id", "shop"), ("client_secret", SECRET)],
]
STATUSES = {200, 400, 401, 403}


@pytest.mark.parametrize("path", ["token", "revoke", "introspect", "userinfo"])
@given(data=st.data())
@QUIET
def test_an_endpoint_for_programs_always_answers(op: Op, path: str, data: st.DataObject) -> None:
    form = data.draw(mutated(data.draw(st.sampled_from(FORMS))))
    sent = Request(
        data.draw(st.sampled_from(["POST", "POST", "GET", "DELETE"])), ISSUER, data.draw(HEADERS),
        data.draw(st.just([]) | mutated(FORMS[0])), form,
    )  # fmt: skip
    endpoint: Any = getattr(op.provider, path)
    answer = endpoint(op.tenant, sent)
    assert isinstance(answer, Answer)
    assert answer.status in STATUSES
    assert answer.headers["Cache-Control"] == "no-store"
    json.dumps(answer.body)
    assert all(value.isascii() and value.isprintable() for value in answer.headers.values())


@given(pairs=mutated([("id_token_hint", "a.b.c"), ("post_logout_redirect_uri", BYE), ("state", "x")]))
@QUIET
def test_a_logout_request_without_a_hint_of_ours_never_redirects(op: Op, pairs: list[tuple[str, str]]) -> None:
    try:
        asked = op.provider.end_session(op.tenant, Request("GET", ISSUER, {}, pairs))
    except BadRequest:
        return
    assert asked.redirect is None


@given(token=st.text(max_size=80) | st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
@QUIET
def test_what_looks_like_a_token_and_is_none_is_none(op: Op, token: str) -> None:
    head = base64.urlsafe_b64encode(token.encode("utf-8", "replace")).decode().rstrip("=")
    for attempt in (token, f"{head}.{head}.{head}", f"eyJhbGciOiJFUzI1NiJ9.{head}."):
        assert op.signing.verify(op.tenant.id, attempt, "JWT") is None


@QUIET
@given(mutated(GOOD))
def test_what_was_found_right_makes_nothing_else_right(op: Op, pairs: list[tuple[str, str]]) -> None:
    """The verdict on a request is kept without what is random in it; the next one gets its own."""

    def verdict() -> object:
        try:
            return op.send(pairs).parameters
        except (BadRequest, RefusedToApp) as refusal:
            return type(refusal), str(refusal)

    op.provider._server(op.tenant)._right.clear()
    first = verdict()
    op.send(GOOD)
    assert (verdict(), verdict()) == (first, first)
