"""What an app may ask for at the front door, and what it gets (OIDC Core 3.1.2.1)."""

from __future__ import annotations

from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from broker.testing.browser import Browser
from broker.testing.page import Page
from broker.testing.town import Town
from tests.stories.journeys import at_the_app, open_app, sign_in, type_identifier, type_password
from tests.tokens import BASIC, CALLBACK, VERIFIER, authorize_url


def answer_of(page: Page) -> dict[str, str]:
    assert page.url.startswith(CALLBACK), page.url
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def signed_in(town: Town, who: str = "ada") -> Browser:
    browser = town.browser()
    sign_in(browser, who)
    browser.stop_at = (CALLBACK,)
    return browser


def id_token(town: Town, code: str) -> str:
    body = urlencode(
        {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
    )
    headers = {"Authorization": BASIC, "Content-Type": "application/x-www-form-urlencoded"}
    answer = town.world.send("POST", f"{town.broker.base}/t/acme/token", headers=headers, body=body.encode())
    return str((answer.json or {})["id_token"])


def test_prompt_none_without_a_session_is_login_required(town: Town) -> None:
    browser = town.browser()
    browser.stop_at = (CALLBACK,)
    answer = answer_of(browser.go(authorize_url(town, prompt="none")))
    assert (answer["error"], answer["state"], answer["iss"]) == (
        "login_required", "some state", f"{town.broker.base}/t/acme",
    )  # fmt: skip


def test_prompt_none_with_a_session_is_silent(town: Town) -> None:
    browser = signed_in(town)
    assert "code" in answer_of(browser.go(authorize_url(town, prompt="none")))


def test_prompt_none_names_each_thing_that_is_missing(town: Town) -> None:
    browser = signed_in(town)
    town.later(minutes=10)
    assert answer_of(browser.go(authorize_url(town, prompt="none", max_age="60")))["error"] == "login_required"
    for both in ("none login", "none select_account"):
        assert answer_of(browser.go(authorize_url(town, prompt=both)))["error"] == "invalid_request"


def test_prompt_none_for_an_app_that_was_not_allowed_yet_is_consent_required(town: Town) -> None:
    town.broker.add("globex", email="linus@globex.test", username="linus")
    browser = town.browser()
    page = browser.go(f"{town.broker.base}/t/globex/login")
    type_password(type_identifier(page, "linus"))
    refused = open_app(browser, "globex", prompt="none")
    assert any("error=consent_required" in hop.url for hop in browser.trail), refused.url


def test_the_person_of_an_id_token_hint_is_the_one_who_is_answered_for(town: Town) -> None:
    ada, grace = signed_in(town), signed_in(town, "grace")
    hint = id_token(town, answer_of(ada.go(authorize_url(town)))["code"])
    assert "code" in answer_of(ada.go(authorize_url(town, prompt="none", id_token_hint=hint)))
    refused = answer_of(grace.go(authorize_url(town, prompt="none", id_token_hint=hint)))
    assert refused["error"] == "login_required"
    page = grace.go(authorize_url(town, id_token_hint=hint))
    assert page.data_page == "login"
    wrong = type_password(type_identifier(page, "grace"))
    assert wrong.data_page == "login", "somebody else does not do"
    assert "code" in answer_of(type_password(type_identifier(wrong, "ada")))


@pytest.mark.parametrize("hint", ["nonsense", "eyJhbGciOiJub25lIn0.e30.", "a.b.c"])
def test_a_hint_that_is_none_of_ours_is_the_apps_mistake(town: Town, hint: str) -> None:
    browser = town.browser()
    browser.stop_at = (CALLBACK,)
    assert answer_of(browser.go(authorize_url(town, id_token_hint=hint)))["error"] == "invalid_request"


def test_an_app_may_post_its_request_from_another_site(town: Town) -> None:
    """No Lax cookie comes with it, so it is asked again by GET: who is signed in stays so (OIDC Core 3.1.2.1)."""
    browser = signed_in(town)
    url, _, query = authorize_url(town).partition("?")
    posted = browser.post(url, {k: v[0] for k, v in parse_qs(query).items()}, initiator="https://app.test/")
    assert "code" in answer_of(posted)
    # Part of it in the address is allowed as well.
    fields = {k: v[0] for k, v in parse_qs(query).items()}
    split = browser.post(f"{url}?client_id={fields.pop('client_id')}", fields, initiator="https://app.test/")
    assert "code" in answer_of(split)


def test_select_account_is_asked_even_of_somebody_who_is_signed_in(town: Town) -> None:
    browser = signed_in(town)
    page = browser.go(authorize_url(town, prompt="select_account"))
    assert page.data_page == "select-account"
    assert "code" in answer_of(page.form(field="account").submit())
    other = browser.go(authorize_url(town, prompt="select_account"))
    forged = dict(other.form(field="account").data()) | {"account": "somebody-else"}
    assert browser.post(other.form(field="account").action, forged).data_page == "login"


def test_an_identifier_that_is_remembered_is_there_the_next_time_and_can_be_forgotten(town: Town) -> None:
    browser = town.browser()
    page = open_app(browser)
    page.form(field="remember").fill(username="ada", remember=True).submit()
    again = open_app(browser)
    assert again.form(field="remember").field("username").value == "ada"
    again.form(field="remember").fill(remember=False).submit()
    assert open_app(browser).form(field="remember").field("username").value == ""


def test_the_last_way_that_was_used_comes_first(town: Town) -> None:
    browser = town.browser()
    type_password(type_identifier(open_app(browser, connection="contoso"), "carol@contoso.test"))
    browser.go("https://app.test/logout")
    assert "Last used" in open_app(browser).text


def test_an_address_of_a_provider_leads_there_from_the_first_field(town: Town) -> None:
    there = type_identifier(open_app(town.browser()), "carol@contoso.test")
    assert there.url.startswith("https://contoso.test/")


def test_too_many_wrong_passwords_wait_and_the_reset_stays_open(town: Town) -> None:
    browser = town.browser()
    page = type_identifier(open_app(browser), "ada")
    for number in range(11):
        page = type_password(page, f"wrong password {number}")
    assert page.status == 429
    assert int(page.headers["retry-after"]) > 0
    right = type_password(page)
    assert right.status == 429, "counted before it is looked at: the right one waits, too"
    assert page.click("Don't remember your password?").data_page == "forgot"
    town.later(minutes=1)
    assert at_the_app(type_password(right), "ada@acme.test")
