"""OpenID Connect RP-Initiated Logout 1.0."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from broker.core.errors import BadRequest
from broker.core.values import Actor, TenantId
from broker.oidc.provider import EndSession, Request
from broker.oidc.signing import OVERLAP, RETENTION
from tests.oidc.op import BYE, ISSUER, Op


def end(op: Op, method: str = "GET", **parameters: str) -> EndSession:
    pairs = list(parameters.items())
    where = {"query": pairs} if method == "GET" else {"form": pairs}
    return op.provider.end_session(op.tenant, Request(method, f"{ISSUER}/end-session", {}, **where))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_rp_logout_with_a_hint_and_a_registered_uri_goes_back_to_the_app_with_its_state(op: Op, method: str) -> None:
    token = op.tokens()["id_token"]
    asked = end(op, method, id_token_hint=token, post_logout_redirect_uri=BYE, state="a&b")
    assert asked.redirect == f"{BYE}?state=a%26b"
    assert asked.confirmed
    assert asked.client is not None
    assert (asked.client.client_id, asked.session, asked.subject) == ("shop", op.session.id, op.ada.id)


def test_rp_logout_without_state_goes_back_without_state(op: Op) -> None:
    asked = end(op, id_token_hint=op.tokens()["id_token"], post_logout_redirect_uri=BYE)
    assert asked.redirect == BYE


def test_rp_logout_with_a_hint_alone_signs_out_and_says_so(op: Op) -> None:
    asked = end(op, id_token_hint=op.tokens()["id_token"])
    assert asked.confirmed
    assert asked.redirect is None


def test_rp_logout_without_any_parameter_signs_out_and_says_so(op: Op) -> None:
    assert end(op) == EndSession(None, None, None, None, None, confirmed=True)


def test_rp_logout_without_a_hint_never_redirects_and_asks_first(op: Op) -> None:
    asked = end(op, post_logout_redirect_uri=BYE, client_id="shop", state="x")
    assert asked.redirect is None
    assert not asked.confirmed
    assert not end(op, state="x").confirmed


def test_rp_logout_with_a_bad_hint_never_redirects_and_asks_first(op: Op) -> None:
    tokens = op.tokens()
    for bad in ("x", tokens["access_token"], tokens["id_token"][:-6] + "AAAAAA"):
        asked = end(op, id_token_hint=bad, post_logout_redirect_uri=BYE)
        assert asked.redirect is None
        assert not asked.confirmed


@pytest.mark.parametrize("uri", ["https://evil.example/", BYE + "?x=1", BYE + "/", "https://shop.example/other"])
def test_rp_logout_to_an_unregistered_uri_never_redirects(op: Op, uri: str) -> None:
    with pytest.raises(BadRequest) as refused:
        end(op, id_token_hint=op.tokens()["id_token"], post_logout_redirect_uri=uri)
    assert refused.value.code == "logout.redirect_uri"


def test_rp_logout_accepts_an_id_token_that_has_expired(op: Op) -> None:
    token = op.tokens()["id_token"]
    op.clock.advance(timedelta(days=3))
    assert end(op, id_token_hint=token, post_logout_redirect_uri=BYE).redirect == BYE


def test_rp_logout_by_another_client_than_the_one_of_the_hint_is_refused(op: Op) -> None:
    token = op.tokens()["id_token"]
    assert end(op, id_token_hint=token, client_id="shop").confirmed
    with pytest.raises(BadRequest) as refused:
        end(op, id_token_hint=token, client_id="forum")
    assert refused.value.code == "id_token_hint.client"
    with pytest.raises(BadRequest):
        end(op, client_id="nobody")


def test_rp_logout_with_a_parameter_twice_is_refused(op: Op) -> None:
    pairs = [("post_logout_redirect_uri", BYE), ("post_logout_redirect_uri", "https://evil.example/")]
    with pytest.raises(BadRequest):
        op.provider.end_session(op.tenant, Request("GET", ISSUER, {}, pairs))


def test_rp_logout_accepts_an_audience_that_is_a_list_of_one(op: Op) -> None:
    claims = {"iss": ISSUER, "sub": op.ada.id, "aud": ["shop"], "sid": op.session.id}
    token = op.signing.sign(op.tenant.id, "RS256", claims)
    assert end(op, id_token_hint=token, post_logout_redirect_uri=BYE).redirect == BYE


def test_rp_logout_with_an_id_token_of_another_issuer_or_of_no_single_client_asks_first(op: Op) -> None:
    for changed in ({"iss": "https://other.example"}, {"aud": ["shop", "forum"]}, {"aud": 7}, {"sub": None}):
        claims = {"iss": ISSUER, "sub": op.ada.id, "aud": "shop"} | changed
        token = op.signing.sign(op.tenant.id, "RS256", claims)
        try:
            asked = end(op, id_token_hint=token, post_logout_redirect_uri=BYE)
        except BadRequest:
            continue
        assert asked.redirect is None
        assert not asked.confirmed


def test_rp_logout_with_an_id_token_that_a_key_of_before_the_rotation_signed(op: Op) -> None:

    op.tenant = replace(op.tenant, id=TenantId("logout-rotation"))  # of its own, since keys are rotated
    token = op.signing.sign(op.tenant.id, "RS256", {"iss": ISSUER, "sub": op.ada.id, "aud": "shop"})
    op.signing.rotate(op.tenant, Actor.command_line("ops"))
    op.clock.advance(OVERLAP)
    op.signing.rotate_due([op.tenant])
    op.clock.advance(RETENTION)
    op.signing.rotate_due([op.tenant])
    assert end(op, id_token_hint=token, post_logout_redirect_uri=BYE).redirect == BYE
