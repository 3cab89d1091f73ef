"""How relying parties prove who they are (RFC 6749 2.3)."""

from __future__ import annotations

import base64

import pytest

from broker.oidc.provider import Answer
from tests.oidc.op import SECRET, Op, body

FORM = {"grant_type": "refresh_token", "refresh_token": "x"}


def raw(text: bytes) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text).decode()}


def passed(answer: Answer) -> bool:
    """Authenticated: the refusal is about the refresh token."""
    return body(answer)["error"] == "invalid_grant"


def test_by_basic_by_post_and_public(op: Op) -> None:
    assert passed(op.post("token", FORM, client="forum"))
    assert passed(op.post("token", {**FORM, "client_id": "poster", "client_secret": SECRET}, client=None))
    assert passed(op.post("token", {**FORM, "client_id": "spa"}, client=None))


def test_by_the_registered_method_only(op: Op) -> None:
    tries = [
        op.post("token", FORM, client="poster"),
        op.post("token", {**FORM, "client_id": "forum", "client_secret": SECRET}, client=None),
        op.post("token", {**FORM, "client_id": "forum"}, client=None),
        op.post("token", FORM, client="spa"),
    ]
    assert {(answer.status, body(answer)["error"]) for answer in tries} == {(401, "invalid_client")}


def test_where_no_method_is_registered_basic_and_post_both_do(op: Op) -> None:
    assert passed(op.post("token", FORM, client="shop"))
    assert passed(op.post("token", {**FORM, "client_id": "shop", "client_secret": SECRET}, client=None))
    assert op.post("token", {**FORM, "client_id": "shop"}, client=None).status == 401


def test_every_secret_of_a_rotation_is_good_and_a_wrong_one_is_401_with_a_challenge(op: Op) -> None:
    assert passed(op.post("token", FORM, secret="an older secret"))
    for wrong in ("wrong", "", SECRET + " ", SECRET[:-1]):
        answer = op.post("token", FORM, secret=wrong)
        assert (answer.status, body(answer)["error"]) == (401, "invalid_client")
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")


def test_names_and_secrets_are_percent_decoded_and_taken_as_sent_where_a_client_forgot_to_encode(op: Op) -> None:
    assert passed(op.post("token", FORM, headers=raw(b"shop:" + SECRET.encode())))
    encoded = SECRET.replace("%", "%25").replace("+", "%2B").replace(" ", "%20").replace(",", "%2C")
    assert passed(op.post("token", FORM, headers=raw(b"shop:" + encoded.encode())))
    assert passed(op.post("token", FORM, headers=raw(b"sho%70:" + encoded.encode())))


def test_the_scheme_is_read_in_any_case(op: Op) -> None:
    sent = raw(b"shop:" + SECRET.encode())["Authorization"]
    assert passed(op.post("token", FORM, headers={"AUTHORIZATION": sent.replace("Basic", "bAsIC")}))


@pytest.mark.parametrize("text", [b"shop:\xff", b"\xff\xfe:x", b"shop", b"", b":", b"shop:%ff", b"~homerealm:x"])
def test_credentials_that_are_not_utf_8_or_incomplete_are_401_never_500(op: Op, text: bytes) -> None:
    answer = op.post("token", FORM, headers=raw(text))
    assert (answer.status, body(answer)["error"]) == (401, "invalid_client")


@pytest.mark.parametrize("header", ["Basic", "Basic ", "Basic !!!", "Basic ü", "Bearer x", "", "x" * 9000])
def test_headers_that_are_no_basic_credentials_are_401(op: Op, header: str) -> None:
    answer = op.post("token", FORM, headers={"Authorization": header})
    assert (answer.status, body(answer)["error"]) == (401, "invalid_client")


def test_two_methods_at_once_are_an_invalid_request(op: Op) -> None:
    answer = op.post("token", {**FORM, "client_id": "shop", "client_secret": SECRET})
    assert (answer.status, body(answer)["error"]) == (400, "invalid_request")
    assert body(op.post("token", {**FORM, "client_id": "forum"}))["error"] == "invalid_request"
    assert passed(op.post("token", {**FORM, "client_id": "shop"})), "naming oneself twice is no contradiction"


def test_our_own_pages_cannot_authenticate(op: Op) -> None:
    for form in ({"client_id": "~homerealm"}, {"client_id": "~homerealm", "client_secret": "x"}):
        assert op.post("token", {**FORM, **form}, client=None).status == 401
