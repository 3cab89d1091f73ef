"""What Authlib 1.9 does that must not reach anybody. Each test names the trap; docs/decisions/authlib.md lists them."""

from __future__ import annotations

import logging

import pytest
from authlib.oauth2 import OAuth2Error, OAuth2Request
from authlib.oauth2.rfc6749.errors import UnsupportedResponseTypeError

from broker.core.errors import BadRequest
from broker.oidc.provider import Request
from broker.oidc.requests import Message
from broker.oidc.server import Server
from tests.oidc.op import BYE, CALLBACK, ISSUER, SECRET, VERIFIER, Op, body, header


def test_trap_a_stored_request_is_used_as_it_is_stored(op: Op) -> None:
    """The stock integration ignores the request that it is given, and reads the current one."""
    first, second = op.transaction(op.ask(state="first")), op.transaction(op.ask(state="second"))
    assert op.arrived(op.provider.respond(op.tenant, first, "c"))["state"] == "first"
    assert op.arrived(op.provider.respond(op.tenant, second, "c"))["state"] == "second"
    message = Message("GET", {"state": "x"})
    assert Server(op.tenant, op.provider._backing).create_oauth2_request(message) is message


def test_trap_the_server_is_built_once_per_configuration_and_knows_its_own_tenant_only(op: Op) -> None:
    server = op.provider._server(op.tenant)
    op.ask()
    assert op.provider._server(op.tenant) is server
    op.change("shop", client_name="Another")
    assert op.provider._server(op.tenant) is not server


def test_trap_pkce_plain_is_never_allowed_and_a_missing_method_does_not_mean_it(op: Op) -> None:
    for client in ("shop", "spa", "old"):
        assert op.refused(client, code_challenge=VERIFIER, code_challenge_method="plain")["error"] == "invalid_request"
        assert op.refused(client, code_challenge=VERIFIER, code_challenge_method=None)["error"] == "invalid_request"
    planted = op.code("old", grant={"code_challenge": VERIFIER, "code_challenge_method": None})
    assert op.exchange(planted, "old").status == 400


def test_trap_pkce_is_required_of_confidential_clients_as_well(op: Op) -> None:
    assert op.refused("shop", code_challenge=None, code_challenge_method=None)["error"] == "invalid_request"


def test_trap_a_public_client_needs_pkce_even_where_it_was_turned_off(op: Op) -> None:
    op.change("spa", require_pkce=False)
    assert op.refused("spa", code_challenge=None, code_challenge_method=None)["error"] == "invalid_request"


def test_trap_the_code_is_taken_before_tokens_are_made_not_deleted_afterwards(op: Op) -> None:
    """In Authlib's order every one of several racers gets tokens (see the 32 threads in test_tokens)."""
    code = op.code()
    assert body(op.exchange(code, code_verifier="w" * 43))["error"] == "invalid_grant"
    assert body(op.exchange(code))["error"] == "invalid_grant"


def test_trap_refresh_tokens_are_rotated_and_have_a_family(op: Op) -> None:
    first = op.tokens()["refresh_token"]
    second = body(op.refresh(first))["refresh_token"]
    assert second != first
    assert op.refresh(first).status == 400
    assert op.refresh(second).status == 400


def test_trap_expiry_client_and_tenant_of_a_code_are_checked(op: Op) -> None:
    other = op.code(grant={"tenant": "globex"})
    assert body(op.exchange(other))["error"] == "invalid_grant"
    assert body(op.exchange(op.code("shop"), "forum"))["error"] == "invalid_grant"
    late = op.code()
    op.clock.advance(op.tenant.rules.lifetimes.code)
    assert body(op.exchange(late))["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "wrong",
    [
        {"response_mode": "nonsense"},
        {"max_age": "abc"},
        {"claims": "{"},
        {"prompt": "create"},
        {"prompt": "login none"},
    ],
)
def test_trap_parameters_that_it_does_not_look_at(op: Op, wrong: dict[str, str]) -> None:
    assert op.refused(**wrong)["error"] == "invalid_request"
    assert op.refused(scope="orders", **wrong)["error"] == "invalid_request", "without openid as well"


def test_trap_a_missing_redirect_uri_is_not_replaced_by_the_registered_one(op: Op) -> None:
    op.change("shop", redirect_uris=(CALLBACK,))
    with pytest.raises(BadRequest):
        op.ask(redirect_uri=None)


def test_trap_basic_and_body_credentials_together_are_refused(op: Op) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": "x", "client_id": "shop", "client_secret": SECRET}
    assert body(op.post("token", form))["error"] == "invalid_request"


def test_trap_the_answer_to_the_app_is_303_with_a_query_that_is_not_encoded_anew(op: Op) -> None:
    """It answers 302, and turns `x=a%20b` of a registered redirect URI into `x=a+b`."""
    url = op.provider.respond(op.tenant, op.transaction(op.ask()), "c")
    assert url.startswith("https://shop.example/callback?from=acme&x=a%20b&code=c&state=")


def test_trap_every_error_that_reaches_the_app_has_iss(op: Op) -> None:
    """Its extension adds `iss` to answers, and not to errors that are found early."""
    early = [
        {"response_type": "token"}, {"response_type": None}, {"code_challenge": None}, {"scope": '"'},
        {"prompt": "x"}, {"request": "x"}, {"id_token_hint": "x"}, {"response_mode": "fragment"},
    ]  # fmt: skip
    for wrong in early:
        refused = op.refused(**wrong)
        assert refused["iss"] == ISSUER
        assert refused["state"] == op.ask().parameters["state"]


def test_trap_quoting_a_parameter_in_an_error_is_a_value_error_there_and_a_refusal_here(op: Op) -> None:
    with pytest.raises(ValueError, match="forbidden characters"):
        UnsupportedResponseTypeError("", "cödé")
    with pytest.raises(ValueError, match="forbidden characters"):
        OAuth2Error(description='Redirect URI https://a.example/"x" is not supported')
    assert op.refused(response_type="cödé")["error"] == "unsupported_response_type"
    for strange in ('https://shop.example/"', "https://shop.example/ü", "https://shop.example/\\", "\n"):
        with pytest.raises(BadRequest):
            op.ask(redirect_uri=strange)


def test_trap_a_plain_http_address_is_no_500(op: Op) -> None:
    """It raises for http elsewhere than on loopback, outside its own error handling. A proxy may end TLS before us."""
    with pytest.raises(OAuth2Error):
        OAuth2Request("POST", "http://broker.internal/token")
    sent = Request("POST", "http://broker.internal/token", {}, [], [("grant_type", "refresh_token")])
    assert op.provider.token(op.tenant, sent).status == 401


def test_trap_basic_credentials_that_are_not_utf_8_are_no_500(op: Op) -> None:
    answer = op.post("token", {"grant_type": "refresh_token"}, headers={"Authorization": "Basic c2hvcDr/"})
    assert (answer.status, body(answer)["error"]) == (401, "invalid_client")


def test_trap_an_audience_list_of_one_still_redirects_after_logout(op: Op) -> None:
    token = op.signing.sign(op.tenant.id, "RS256", {"iss": ISSUER, "sub": op.ada.id, "aud": ["shop"]})
    sent = Request("GET", ISSUER, {}, [("id_token_hint", token), ("post_logout_redirect_uri", BYE)])
    assert op.provider.end_session(op.tenant, sent).redirect == BYE


def test_trap_the_default_lifetime_of_ten_days_is_not_ours(op: Op) -> None:
    assert op.tokens()["expires_in"] == 600


def test_trap_an_access_token_has_a_kid(op: Op) -> None:
    assert header(op.tokens()["access_token"])["kid"]


def test_trap_at_hash_is_there_whatever_the_algorithm(op: Op) -> None:
    assert op.read(op.tokens("old")["id_token"], "ES256")["at_hash"]


def test_trap_a_wrong_token_type_hint_is_no_error(op: Op) -> None:
    """It answers 401 unsupported_token_type; RFC 7009 2.1 wants the hint ignored."""
    for path in ("revoke", "introspect"):
        assert op.post(path, {"token": "x", "token_type_hint": "id_token"}).status == 200


def test_trap_a_missing_grant_type_is_an_invalid_request(op: Op) -> None:
    assert body(op.post("token", {}))["error"] == "invalid_request"


def test_trap_a_refresh_for_somebody_who_is_gone_is_an_invalid_grant(op: Op) -> None:
    """It answers invalid_request, on which an app does not ask its user to sign in again."""
    token = op.tokens()["refresh_token"]
    with op.database.writing() as work:
        work.users.delete(op.ada.id)
    assert body(op.refresh(token))["error"] == "invalid_grant"


def test_trap_tokens_are_not_logged_at_debug(op: Op, caplog: pytest.LogCaptureFixture) -> None:
    """It logs every token that it issues, whole."""
    with caplog.at_level(logging.DEBUG):
        tokens = op.tokens()
        body(op.refresh(tokens["refresh_token"]))
    assert not any(str(value)[:20] in caplog.text for name, value in tokens.items() if name.endswith("_token"))


def test_trap_a_repeated_nonce_is_no_replay(op: Op) -> None:
    """It asks for a store of nonces; the nonce is the app's business (OIDC Core 15.5.2)."""
    assert op.read(op.tokens()["id_token"])["nonce"] == op.read(op.tokens()["id_token"])["nonce"]


def test_trap_whether_prompt_none_is_met_is_decided_by_the_policy(op: Op) -> None:
    """Its OpenID extension answers login_required by itself when it is not told of a user."""
    assert op.transaction(op.ask(prompt="none")).prompts == {"none"}
