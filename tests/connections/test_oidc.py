"""What the `oidc` connection does beyond its contract: hints, fresh logins, userinfo, claims, signing out."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from pydantic import ValidationError

from broker.core.connection import Hint, ResetHow
from broker.testing.contracts import OpenIdCase
from broker.testing.contracts.connection import refusal
from broker.testing.contracts.redirect_sign_in import RETURN_URL, STATE, answered
from tests.connections import cases


@pytest.fixture
def case() -> OpenIdCase:
    return cases.oidc()


def query(url: str | None) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url or "").query))


def test_hints_become_the_parameters_of_openid_connect(case: OpenIdCase) -> None:
    connection = case.make()
    sent = query(connection.depart(STATE, RETURN_URL, Hint("ada@acme.test", language="de", max_age=300)).url)
    assert {name: sent.get(name) for name in ("login_hint", "ui_locales", "max_age", "prompt", "scope")} == {
        "login_hint": "ada@acme.test", "ui_locales": "de", "max_age": "300", "prompt": None,
        "scope": "openid profile email",
    }  # fmt: skip
    sent = query(connection.depart(STATE, RETURN_URL, Hint(force_login=True, select_account=True)).url)
    assert (sent["prompt"], sent["max_age"]) == ("login select_account", "0")
    assert "prompt" not in query(connection.depart(STATE, RETURN_URL, Hint()).url)


def test_the_time_of_the_login_is_the_providers_and_not_ours(case: OpenIdCase) -> None:
    connection = case.make()
    signed_in = case.sign_in(connection).at
    case.bench.clock.advance(timedelta(hours=2))
    again = case.sign_in(connection)
    assert again.at == signed_in
    assert (again.methods, again.acr) == (("pwd",), None)


def test_a_provider_that_says_nothing_signs_in_now(case: OpenIdCase) -> None:
    case.openid.change_claims = lambda claims: {k: v for k, v in claims.items() if k != "auth_time"}
    assert case.sign_in(case.make()).at == case.bench.clock.now()


def test_a_demand_for_a_fresh_login_shows_the_providers_page_again(case: OpenIdCase) -> None:
    connection = case.make()
    case.sign_in(connection)
    case.bench.clock.advance(timedelta(minutes=5))
    page, _ = case.visit(connection, Hint(force_login=True))
    assert page.status == 200
    assert case.sign_in(connection, Hint(force_login=True)).at == case.bench.clock.now()


@pytest.mark.parametrize("hint", [Hint(force_login=True), Hint(max_age=60), Hint(max_age=0)], ids=str)
def test_an_old_login_is_not_passed_on_as_a_fresh_one(case: OpenIdCase, hint: Hint) -> None:
    """The provider overlooks `prompt` and `max_age`."""
    connection = case.make()
    now = int(case.bench.clock.now().timestamp())
    case.openid.change_claims = lambda claims: {**claims, "auth_time": now - 120}
    with refusal():
        case.sign_in(connection, hint)
    case.openid.change_claims = lambda claims: {k: v for k, v in claims.items() if k != "auth_time"}
    with refusal():
        case.sign_in(connection, hint)


def test_a_login_within_max_age_is_good_enough(case: OpenIdCase) -> None:
    connection = case.make()
    first = case.sign_in(connection)
    case.bench.clock.advance(timedelta(seconds=50))
    assert case.sign_in(connection, Hint(max_age=60)).at == first.at


def test_taking_time_on_the_providers_pages_does_not_make_a_login_old(case: OpenIdCase) -> None:
    connection = case.make()
    page, arrival = case.visit(connection, Hint(max_age=60))
    back = page.form("Sign in").fill({"username": case.person, "current-password": case.password}).submit()
    arrival = replace(arrival, params=answered(back))
    case.bench.clock.advance(timedelta(seconds=59))
    assert connection.arrive(arrival).subject == case.subject


def test_a_provider_without_auth_time_gets_the_demand_and_is_believed(case: OpenIdCase) -> None:
    case.openid.change_claims = lambda claims: {k: v for k, v in claims.items() if k != "auth_time"}
    connection = case.make(tells_auth_time=False)
    sent = query(connection.depart(STATE, RETURN_URL, Hint(force_login=True)).url)
    assert (sent["prompt"], "max_age" in sent) == ("login", False)
    assert case.sign_in(connection, Hint(force_login=True)).at == case.bench.clock.now()


def test_an_announced_iss_must_come(case: OpenIdCase) -> None:
    connection = case.make()
    case.openid.change_response = lambda sent: {k: v for k, v in sent.items() if k != "iss"}
    arrival = case.answer(connection)
    with refusal():
        connection.arrive(arrival)


def test_an_error_without_the_announced_iss_is_not_believed_either(case: OpenIdCase) -> None:
    connection = case.make()
    case.openid.change_response = lambda sent: {"error": "access_denied", "state": sent["state"]}
    arrival = case.answer(connection)
    with refusal("connection.invalid"):
        connection.arrive(arrival)


def test_without_the_announcement_no_iss_is_needed(case: OpenIdCase) -> None:
    case.openid.announces_iss = False
    assert case.sign_in(case.make()).subject == case.subject


@pytest.mark.parametrize("sub", [None, "", "somebody-else", ["248289761001"], 248289761001])
def test_userinfo_of_another_subject_is_refused(case: OpenIdCase, sub: Any) -> None:
    case.openid.change_userinfo = lambda found: {**found, "sub": sub}
    connection = case.make()
    with refusal():
        case.sign_in(connection)


def test_userinfo_adds_claims_and_cannot_change_what_was_signed(case: OpenIdCase) -> None:
    said = {"iss": "https://evil.test", "aud": "x", "amr": ["hwk"], "acr": "gold", "auth_time": 0}
    case.openid.change_userinfo = lambda found: {**found, **said}
    identity = case.sign_in(case.make())
    assert identity.claims["name"] == "Ada Lovelace"
    assert (identity.issuer, identity.methods, identity.acr) == (case.issuer, ("pwd",), None)
    assert identity.at == case.bench.clock.now()


def test_userinfo_that_fails_lets_nobody_in(case: OpenIdCase) -> None:
    connection = case.make()
    case.openid.change_token = lambda answer: {**answer, "access_token": "unknown"}
    case.openid.change_claims = lambda claims: {k: v for k, v in claims.items() if k != "at_hash"}
    with refusal():
        case.sign_in(connection)


def test_userinfo_can_be_left_out(case: OpenIdCase) -> None:
    identity = case.sign_in(case.make(userinfo=False))
    assert "name" not in identity.claims
    assert not any("userinfo" in url for _, url in case.bench.fetcher.asked)


def test_standard_claims_come_through_and_nothing_else(case: OpenIdCase) -> None:
    identity = case.sign_in(case.make())
    assert dict(identity.claims) == {"name": "Ada Lovelace", "email": "ada@acme.test", "email_verified": True}


def test_a_mapping_names_the_providers_fields(case: OpenIdCase) -> None:
    case.openid.people["ada"].claims |= {"upn": "ada.l", "about": {"title": "Countess"}}
    identity = case.sign_in(case.make(claims={"preferred_username": "upn", "nickname": "about.title", "website": "no"}))
    assert (identity.claims["preferred_username"], identity.claims["nickname"]) == ("ada.l", "Countess")
    assert "website" not in identity.claims


@pytest.mark.parametrize("said", [None, False, "false", 1, "1", "yes", []])
def test_an_address_is_verified_only_when_the_provider_says_so(case: OpenIdCase, said: Any) -> None:
    case.openid.people["ada"].claims["email_verified"] = said
    assert case.sign_in(case.make()).email_verified is False


def test_an_address_from_another_field_is_not_the_one_that_was_verified(case: OpenIdCase) -> None:
    case.openid.people["ada"].claims["work_email"] = "boss@acme.test"
    identity = case.sign_in(case.make(claims={"email": "work_email"}))
    assert (identity.email, identity.email_verified) == ("boss@acme.test", False)


def test_endpoints_can_be_given_and_then_nothing_is_discovered(case: OpenIdCase) -> None:
    given = case.openid.metadata()
    names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
    connection = case.make(**{name: given[name] for name in names})
    assert case.sign_in(connection).subject == case.subject
    assert not any("well-known" in url for _, url in case.bench.fetcher.asked)


def test_the_way_to_authenticate_is_the_one_that_is_offered_or_configured(case: OpenIdCase) -> None:
    post = ["client_secret_post", "private_key_jwt"]
    case.openid.change_metadata = lambda found: {**found, "token_endpoint_auth_methods_supported": post}
    assert case.make().auth_method(case.make().metadata().auth_methods) == "client_secret_post"
    assert case.make(token_endpoint_auth_method="client_secret_basic").auth_method(("x",)) == "client_secret_basic"
    assert case.make(client_secret=None).auth_method(None) == "none"
    assert case.sign_in(case.make()).subject == case.subject


def test_signing_out_there_is_offered_with_the_token_that_they_want(case: OpenIdCase) -> None:
    connection = case.make(upstream_logout=True)
    identity = case.sign_in(connection)
    departure = connection.sign_out(identity, "https://login.acme.test/bye", "s1")
    assert departure is not None
    case.browser.stop_at = ("https://login.acme.test/bye",)
    assert case.browser.go(departure.url).url == "https://login.acme.test/bye?state=s1"
    assert case.openid.logouts == [
        {
            "id_token_hint": identity.private["id_token"],
            "client_id": "homerealm",
            "post_logout_redirect_uri": "https://login.acme.test/bye",
            "state": "s1",
        }
    ]


def test_a_provider_without_an_end_of_session_is_left_alone(case: OpenIdCase) -> None:
    case.openid.change_metadata = lambda found: {k: v for k, v in found.items() if k != "end_session_endpoint"}
    connection = case.make(upstream_logout=True)
    assert connection.sign_out(case.sign_in(connection), RETURN_URL, "s") is None


def test_a_reset_page_that_takes_a_request_brings_people_back_signed_in(case: OpenIdCase) -> None:
    """`reset.how: oidc_forgot`: reset at the provider, and arrive as after any departure."""
    forgot = "https://sso.upstream.test/forgot"
    connection = case.make(reset={"how": "oidc_forgot", "url": forgot, "hint_parameter": "login_hint"})
    page = connection.reset_page("ada@acme.test", STATE, RETURN_URL)
    assert (page.how, page.url.partition("?")[0]) == (ResetHow.OIDC_FORGOT, forgot)
    sent = query(page.url)
    assert (sent["state"], sent["redirect_uri"], sent["login_hint"]) == (STATE, RETURN_URL, "ada@acme.test")
    assert (sent["nonce"], sent["code_challenge_method"]) == (page.private["nonce"], "S256")
    back = case.browser.go(page.url).form().fill({"username": "ada", "new-password": "a new long password"}).submit()
    arrival = replace(case.visit(connection)[1], params=answered(back), private=page.private)
    assert connection.arrive(arrival).subject == case.subject
    assert case.openid.people["ada"].password == "a new long password"


def test_a_reset_page_that_is_only_shown_makes_no_request(case: OpenIdCase) -> None:
    connection = case.make(reset={"how": "oidc_forgot", "url": "https://sso.upstream.test/forgot"})
    page = connection.reset_page("ada@acme.test")
    assert (page.url, dict(page.private)) == ("https://sso.upstream.test/forgot", {})
    assert "login_hint" not in query(connection.reset_page("ada@acme.test", STATE, RETURN_URL).url)


def test_nothing_known_means_an_ordinary_sign_in_with_the_name(case: OpenIdCase) -> None:
    page = case.make(title="Contoso").reset_page("ada@acme.test")
    assert (page.how, page.provider, page.url) == (ResetHow.AUTHORIZE_HINT, "Contoso", None)


@pytest.mark.parametrize(
    "settings",
    [
        {"issuer": "sso.upstream.test"},
        {"issuer": "https://sso.upstream.test?x=1"},
        {"issuer": None},
        {"client_id": ""},
        {"scope": "openid  email"},
        {"scope": 'openid "'},
        {"algorithms": ["none"]},
        {"algorithms": ["HS256"]},
        {"algorithms": []},
        {"claims": {"sub": "id"}},
        {"token_endpoint_auth_method": "private_key_jwt_maybe"},
        {"authorization_endpoint": "http://sso.upstream.test/authorize"},
        {"trust_email": "sometimes"},
        {"reset": {"how": "oidc_forgot"}},
    ],
    ids=str,
)
def test_settings_that_cannot_be_right_are_refused(case: OpenIdCase, settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        case.make(**settings)


def test_a_provider_on_loopback_is_named_for_the_pages_that_lead_there(case: OpenIdCase) -> None:
    assert case.make().http_origins() == ()
    connection = case.make(issuer="http://localhost:8002/t/upstream", reset={"url": "http://localhost:8003/forgot"})
    assert connection.http_origins() == ("http://localhost:8002", "http://localhost:8003")


def test_a_check_says_what_does_not_work_right_now(case: OpenIdCase) -> None:
    assert case.make().check_live() == []
    case.bench.world.down.add("sso.upstream.test")
    assert "sso.upstream.test" in case.make().check_live()[0]
