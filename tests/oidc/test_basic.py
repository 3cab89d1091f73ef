"""OpenID Connect Basic OP profile: what the conformance tests ask of the code flow."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from broker.core.claims import SCOPES
from broker.core.errors import BadRequest
from broker.oidc.provider import RefusedToApp
from tests.oidc.op import CALLBACK, CHALLENGE, ISSUER, NONCE, STATE, Op, body, header, query


def test_basic_a_request_by_get_and_by_post_is_the_same_request(op: Op) -> None:
    by_get, by_post = op.ask(scope="openid email"), op.ask(method="POST", scope="openid email")
    assert by_get == by_post
    assert by_get.parameters["scope"] == "openid email"


def test_basic_the_answer_carries_code_state_and_issuer_and_leaves_a_registered_query_intact(op: Op) -> None:
    asked = op.ask()
    url = op.provider.respond(op.tenant, op.transaction(asked), "the-code")
    assert op.arrived(url) == {"code": "the-code", "state": STATE, "iss": ISSUER}


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        (None, "redirect_uri.missing"),
        ("https://evil.example/", "redirect_uri.unknown"),
        (CALLBACK + "&more=1", "redirect_uri.unknown"),
        ("https://shop.example/callback", "redirect_uri.unknown"),
        (CALLBACK.replace("https://s", "https://S"), "redirect_uri.unknown"),
        (CALLBACK + "#fragment", "redirect_uri.unknown"),
        ("https://shop.example/ümlaut\"'", "redirect_uri.unknown"),
    ],
)
def test_basic_a_redirect_uri_that_is_missing_unregistered_or_altered_is_never_redirected_to(
    op: Op, uri: str | None, code: str
) -> None:
    with pytest.raises(BadRequest) as refused:
        op.ask(redirect_uri=uri)
    assert refused.value.code == code


def test_basic_an_unknown_client_is_never_redirected(op: Op) -> None:
    with pytest.raises(BadRequest) as refused:
        op.ask("nobody")
    assert refused.value.code == "client.unknown"


def test_basic_our_own_pages_are_no_client_that_a_request_can_name(op: Op) -> None:
    with pytest.raises(BadRequest, match="no such client"):
        op.ask("~homerealm", redirect_uri=f"{ISSUER}/account")


def test_basic_an_error_has_no_parameter_beyond_those_of_the_standards(op: Op) -> None:
    refused = op.refused(prompt="none login")
    assert set(refused) == {"error", "error_description", "state", "iss"}
    assert refused["error_description"].isascii()


def test_basic_a_description_is_ascii_whatever_was_to_be_said(op: Op) -> None:
    url = op.provider.refuse(op.tenant, op.ask().parameters, "access_denied", 'Nein, "danke"\n\\ für nichts')
    said = op.arrived(url)["error_description"]
    assert said == "Nein, ?danke??? f?r nichts"


@pytest.mark.parametrize(
    "error", ["login_required", "interaction_required", "consent_required", "account_selection_required"]
)
def test_basic_prompt_none_answers_its_error_with_the_state_intact(op: Op, error: str) -> None:
    asked = op.ask(prompt="none")
    url = op.provider.refuse(op.tenant, asked.parameters, error)
    assert op.arrived(url) == {"error": error, "state": STATE, "iss": ISSUER}


def test_basic_prompt_none_with_another_prompt_is_an_invalid_request(op: Op) -> None:
    assert op.refused(prompt="none login")["error"] == "invalid_request"
    assert op.ask(prompt="none none").parameters["prompt"] == "none none"


@pytest.mark.parametrize("prompt", ["login", "consent", "select_account", "login consent", "none"])
def test_basic_every_prompt_reaches_the_policy(op: Op, prompt: str) -> None:
    assert op.transaction(op.ask(prompt=prompt)).prompts == set(prompt.split())


def test_basic_an_id_token_hint_names_the_person_for_the_policy(op: Op) -> None:
    token = op.tokens()["id_token"]
    asked = op.ask(prompt="none", id_token_hint=token)
    assert asked.parameters["hinted_subject"] == op.ada.id
    assert "id_token_hint" not in asked.parameters, "a token is not kept in a transaction"


def test_basic_an_id_token_hint_by_post_survives_the_redirect_to_the_same_request(op: Op) -> None:
    token = op.tokens()["id_token"]
    assert op.ask(method="POST", id_token_hint=token).parameters["id_token_hint"] == token


def test_basic_an_expired_id_token_is_still_a_hint(op: Op) -> None:
    from datetime import timedelta

    token = op.tokens()["id_token"]
    op.clock.advance(timedelta(days=2))
    assert op.ask(id_token_hint=token).parameters["hinted_subject"] == op.ada.id


def test_basic_a_hint_that_is_not_ours_or_not_an_id_token_or_of_another_client_is_refused(op: Op) -> None:
    tokens = op.tokens()
    mangled = tokens["id_token"][:-4] + "AAAA"
    for hint in ("nonsense", mangled, tokens["access_token"]):
        assert op.refused(id_token_hint=hint)["error"] == "invalid_request"
    assert op.refused("forum", id_token_hint=tokens["id_token"])["error"] == "invalid_request"


def test_basic_nobody_can_name_a_person_to_the_policy_by_a_parameter_of_ours(op: Op) -> None:
    assert "hinted_subject" not in op.ask(hinted_subject="somebody").parameters


def test_basic_max_age_is_read_and_nonsense_refused(op: Op) -> None:
    assert op.transaction(op.ask(max_age="1")).max_age == 1
    assert op.transaction(op.ask(max_age="10000")).max_age == 10000
    for nonsense in ("abc", "-1", "1.5", "١٠", "9" * 40, " 1"):
        assert op.refused(max_age=nonsense)["error"] == "invalid_request"


def test_basic_display_ui_locales_claims_locales_acr_values_login_hint_and_unknown_parameters_are_no_error(
    op: Op,
) -> None:
    asked = op.ask(
        display="wap", ui_locales="se xx", claims_locales="se", acr_values="1 2 urn:none", login_hint="bob@x",
        extra="foobar", resource="https://api.example",
    )  # fmt: skip
    assert asked.parameters["login_hint"] == "bob@x"
    assert "extra" not in asked.parameters


def test_basic_connection_and_screen_hint_reach_the_login(op: Op) -> None:
    asked = op.ask(connection="google", screen_hint="reset").parameters
    assert (asked["connection"], asked["screen_hint"]) == ("google", "reset")


def test_basic_nonce_is_optional_and_comes_back_in_the_id_token(op: Op) -> None:
    assert op.read(op.tokens()["id_token"])["nonce"] == NONCE
    assert "nonce" not in op.read(op.tokens(nonce=None)["id_token"])


@pytest.mark.parametrize(
    ("parameter", "error"),
    [
        ("request", "request_not_supported"),
        ("request_uri", "request_uri_not_supported"),
        ("registration", "registration_not_supported"),
    ],
)
def test_basic_request_objects_are_refused_never_ignored(op: Op, parameter: str, error: str) -> None:
    assert op.refused(**{parameter: "x"})["error"] == error


def test_basic_a_missing_response_type_and_an_unsupported_one_have_their_errors(op: Op) -> None:
    assert op.refused(response_type=None)["error"] == "invalid_request"
    for unsupported in ("token", "id_token", "code token", "none", "cödé"):
        assert op.refused(response_type=unsupported)["error"] == "unsupported_response_type"


def test_basic_pkce_works_for_every_client_and_is_required_by_default(op: Op) -> None:
    assert op.refused(code_challenge=None, code_challenge_method=None)["error"] == "invalid_request"
    assert op.refused(code_challenge_method="plain")["error"] == "invalid_request"
    assert op.refused(code_challenge_method=None)["error"] == "invalid_request"
    assert op.refused(code_challenge="short")["error"] == "invalid_request"
    op.ask("old", code_challenge=None, code_challenge_method=None)
    assert op.tokens("old")["id_token"]


def test_basic_a_wrong_or_missing_code_verifier_yields_nothing_and_ends_the_code(op: Op) -> None:
    for wrong in ("w" * 43, None, "x"):
        code = op.code()
        assert op.exchange(code, code_verifier=wrong).status == 400
        assert op.exchange(code).status == 400


def test_basic_a_code_verifier_without_a_challenge_is_refused(op: Op) -> None:
    code = op.code("old", code_challenge=None, code_challenge_method=None)
    assert op.exchange(code, "old").status == 400


def test_basic_the_token_response(op: Op) -> None:
    answer = op.exchange(op.code(scope="openid email"))
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    got = body(answer)
    assert set(got) == {"access_token", "token_type", "expires_in", "refresh_token", "scope", "id_token"}
    assert (got["token_type"], got["expires_in"], got["scope"]) == ("Bearer", 600, "openid email")


def test_basic_the_id_token_says_who_when_and_how_and_nothing_that_userinfo_can_say(op: Op) -> None:
    tokens = op.tokens(scope="openid profile email address phone")
    claims, now = op.read(tokens["id_token"]), int(op.clock.now().timestamp())
    left_half = hashlib.sha256(tokens["access_token"].encode()).digest()[:16]
    assert claims == {
        "iss": ISSUER,
        "sub": op.ada.id,
        "aud": "shop",
        "iat": now,
        "exp": now + 600,
        "auth_time": now,
        "acr": "1",
        "amr": ["pwd"],
        "sid": op.session.id,
        "nonce": NONCE,
        "at_hash": base64.urlsafe_b64encode(left_half).rstrip(b"=").decode(),
    }
    assert header(tokens["id_token"])["alg"] == "RS256"
    assert header(tokens["id_token"])["kid"] in {key["kid"] for key in op.jwks()["keys"]}


def test_basic_the_id_token_is_signed_as_the_client_is_registered(op: Op) -> None:
    assert op.read(op.tokens("old")["id_token"], "ES256")["aud"] == "old"


def test_basic_without_the_scope_openid_there_is_no_id_token(op: Op) -> None:
    tokens = op.tokens(scope="orders")
    assert "id_token" not in tokens
    assert op.userinfo(tokens["access_token"]).status == 403


def test_basic_auth_time_is_that_of_the_browser_session_not_of_the_grant(op: Op) -> None:
    from datetime import timedelta

    first = op.read(op.tokens()["id_token"])
    op.clock.advance(timedelta(minutes=5))
    second = op.read(op.tokens(max_age="10000")["id_token"])
    assert second["auth_time"] == first["auth_time"]
    assert second["iat"] == first["iat"] + 300


def test_basic_scope_all_gives_the_whole_standard_set_at_userinfo(op: Op) -> None:
    told = body(op.userinfo(op.tokens(scope="openid profile email address phone")["access_token"]))
    assert set(told) == {"sub", *(name for names in SCOPES.values() for name in names)}
    assert len(SCOPES["profile"]) == 14
    assert isinstance(told["address"], dict)
    assert isinstance(told["updated_at"], int)
    assert told["email_verified"] is True


@pytest.mark.parametrize("scope", ["profile", "email", "address", "phone"])
def test_basic_each_scope_gives_its_claims_and_no_others(op: Op, scope: str) -> None:
    told = body(op.userinfo(op.tokens(scope=f"openid {scope}")["access_token"]))
    assert set(told) == {"sub", *SCOPES[scope]}


def test_basic_userinfo_by_get_by_post_with_header_and_by_post_with_body(op: Op) -> None:
    token = op.tokens()["access_token"]
    answers = [
        op.userinfo(token),
        op.userinfo(token, "POST"),
        op.userinfo(None, "POST", form=[("access_token", token)]),
    ]
    assert [body(answer) for answer in answers] == [{"sub": op.ada.id}] * 3


def test_basic_userinfo_refuses_an_access_token_that_comes_in_two_ways_or_in_the_address(op: Op) -> None:
    token = op.tokens()["access_token"]
    twice = op.userinfo(token, "POST", form=[("access_token", token)])
    in_address = op.userinfo(None, query=[("access_token", token)])
    doubled = op.userinfo(None, "POST", form=[("access_token", token), ("access_token", token)])
    for answer in (twice, in_address, doubled):
        assert answer.status == 400
        assert 'error="invalid_request"' in answer.headers["WWW-Authenticate"]


def test_basic_userinfo_without_a_token_asks_for_one_and_names_no_error(op: Op) -> None:
    answer = op.userinfo(None)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="userinfo"'


def test_basic_userinfo_refuses_what_is_no_access_token_of_ours(op: Op) -> None:
    tokens = op.tokens()
    head, payload, _ = tokens["access_token"].split(".")
    none = base64.urlsafe_b64encode(json.dumps({**header(head + "."), "alg": "none"}).encode()).rstrip(b"=").decode()
    for wrong in (tokens["id_token"], "x", "a.b.c", f"{head}.{payload}.AAAA", f"{none}.{payload}.", "ü", "x" * 20_000):
        answer = op.userinfo(wrong)
        assert answer.status == 401
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


def test_basic_a_code_that_comes_twice_is_refused_and_the_tokens_made_of_it_are_dead(op: Op) -> None:
    code = op.code()
    tokens = body(op.exchange(code))
    assert op.userinfo(tokens["access_token"]).status == 200
    again = op.exchange(code)
    assert (again.status, body(again)["error"]) == (400, "invalid_grant")
    assert op.userinfo(tokens["access_token"]).status == 401
    assert op.refresh(tokens["refresh_token"]).status == 400
    assert ("shop", "code.reused") in op.events(code.partition(".")[0])


def test_basic_claims_asks_for_claims_at_userinfo_and_in_the_id_token(op: Op) -> None:
    claims = {"userinfo": {"name": {"essential": True}}, "id_token": {"email": None, "auth_time": {"essential": True}}}
    tokens = op.tokens(claims=json.dumps(claims))
    assert body(op.userinfo(tokens["access_token"])) == {"sub": op.ada.id, "name": "Ada Lovelace"}
    id_token = op.read(tokens["id_token"])
    assert id_token["email"] == op.ada.email
    assert "name" not in id_token


@pytest.mark.parametrize(
    "claims",
    ["{", "[]", "1", '"x"', "NaN", '{"id_token": []}', '{"id_token": {"acr": 1}}', '{"userinfo": {"a": {"values": 1}}}',
     '{"userinfo": {"a": {"essential": "yes"}}}', "[" * 1900, "1" * 1990],
)  # fmt: skip
def test_basic_claims_that_are_no_claims_request_are_refused(op: Op, claims: str) -> None:
    assert op.refused(claims=claims)["error"] == "invalid_request"


def test_basic_claims_with_too_many_members_are_refused(op: Op) -> None:
    many = json.dumps({"userinfo": {f"c{i}": None for i in range(65)}})
    assert op.refused(claims=many)["error"] == "invalid_request"


def test_basic_a_subject_demanded_by_claims_is_the_person_for_the_policy(op: Op) -> None:
    claims = json.dumps({"id_token": {"sub": {"value": "user-7"}}})
    assert op.ask(claims=claims).parameters["hinted_subject"] == "user-7"
    hint = op.tokens()["id_token"]
    assert op.refused(claims=claims, id_token_hint=hint)["error"] == "login_required"


def test_basic_a_requested_acr_comes_back_where_we_can_honestly_give_it(op: Op) -> None:
    wanted = json.dumps({"id_token": {"acr": {"essential": True, "values": ["2", "1"]}}})
    assert op.read(op.tokens(claims=wanted)["id_token"])["acr"] == "1"
    upstream = op.tokens(claims=wanted, grant={"acr": "urn:upstream:silver"})
    assert op.read(upstream["id_token"])["acr"] == "1"
    assert op.read(op.tokens(grant={"acr": "urn:upstream:silver"})["id_token"])["acr"] == "urn:upstream:silver"
    assert op.read(op.tokens(acr_values="1 2")["id_token"])["acr"] == "1"


def test_basic_an_essential_acr_that_cannot_be_met_is_refused(op: Op) -> None:
    wanted = json.dumps({"id_token": {"acr": {"essential": True, "value": "urn:gold"}}})
    assert op.refused(claims=wanted)["error"] == "unmet_authentication_requirements"
    voluntary = json.dumps({"id_token": {"acr": {"value": "urn:gold"}}})
    assert op.read(op.tokens(claims=voluntary)["id_token"])["acr"] == "1"


def test_basic_scopes_that_the_client_may_not_have_are_left_out_and_none_left_is_an_error(op: Op) -> None:
    assert op.ask("plain", scope="openid profile email offline_access x").parameters["scope"] == "openid email"
    assert op.refused("plain", scope="profile x")["error"] == "invalid_scope"
    assert op.refused(scope='openid "x"')["error"] == "invalid_scope"


def test_basic_the_redirect_uri_at_the_token_endpoint_must_be_the_one_of_the_request(op: Op) -> None:
    for wrong in ("https://shop.example/other", None):
        answer = op.exchange(op.code(), redirect_uri=wrong)
        assert (answer.status, body(answer)["error"]) == (400, "invalid_grant")


def test_basic_a_code_is_good_for_its_own_client_alone(op: Op) -> None:
    code = op.code("shop")
    assert body(op.exchange(code, "forum"))["error"] == "invalid_grant"


def test_basic_a_code_expires(op: Op) -> None:
    code = op.code()
    op.clock.advance(op.tenant.rules.lifetimes.code)
    assert body(op.exchange(code))["error"] == "invalid_grant"


def test_basic_a_native_app_may_use_any_port_of_a_loopback_literal(op: Op) -> None:
    op.ask("phone", redirect_uri="http://127.0.0.1:51004/cb")
    with pytest.raises(BadRequest):
        op.ask("phone", redirect_uri="http://127.0.0.1:51004/other")


def test_basic_two_of_what_decides_where_the_answer_goes_is_our_own_error_page(op: Op) -> None:
    good = [("client_id", "shop"), ("redirect_uri", CALLBACK), ("state", "a"), ("response_type", "code")]
    for name in ("client_id", "redirect_uri", "state"):
        with pytest.raises(BadRequest) as refused:
            op.send([*good, (name, "again")])
        assert refused.value.code == "request.duplicate"


def test_basic_two_of_another_parameter_is_told_to_the_app_and_unknown_ones_may_repeat(op: Op) -> None:
    pkce = [("code_challenge", CHALLENGE), ("code_challenge_method", "S256")]
    good = [("client_id", "shop"), ("redirect_uri", CALLBACK), ("response_type", "code"), ("scope", "openid"), *pkce]
    with pytest.raises(RefusedToApp) as refused:
        op.send([*good, ("nonce", "1"), ("nonce", "2")])
    assert query(refused.value.url)["error"] == ["invalid_request"]
    op.send([*good, ("resource", "https://a.example"), ("resource", "https://b.example")])


def test_basic_what_is_too_large_is_refused(op: Op) -> None:
    with pytest.raises(BadRequest):
        op.ask(state="s" * 2049)
    with pytest.raises(BadRequest):
        op.ask(extra="x" * 17_000)
    assert op.refused(nonce="n" * 2049)["error"] == "invalid_request"
    assert op.ask(state="s" * 2048)


def test_basic_an_app_that_was_removed_while_somebody_signed_in_gets_no_code(op: Op) -> None:
    transaction = op.transaction(op.ask())
    op.change("shop", redirect_uris=("https://shop.example/elsewhere",))
    with pytest.raises(BadRequest):
        op.provider.respond(op.tenant, transaction, "the-code")
    with pytest.raises(BadRequest):
        op.provider.refuse(op.tenant, transaction.request, "access_denied")
