"""`rules.reset.after` in its three values, wherever somebody opens the link, whatever is going on (CONTRACT 2)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broker.testing.browser import Browser
from broker.testing.page import Page
from broker.testing.town import ACME, GLOBEX, Town
from tests.stories.journeys import (
    NEW,
    at_the_app,
    choose_password,
    forget,
    open_app,
    reset_link,
    sign_in,
    type_identifier,
    type_password,
)

AFTER = ("sign_in_page", "signed_in", "app")


@pytest.fixture
def town_after(build_town: Callable[..., Town], mounted: bool) -> Callable[..., Town]:
    def build(after: str, acme: str = ACME) -> Town:
        town = build_town(
            mounted=mounted,
            acme=acme.replace("{after: app}", f"{{after: {after}}}"),
            globex=f"rules: {{reset: {{after: {after}}}}}\n{GLOBEX}",
        )
        for name in ("ada", "grace"):
            town.broker.add("acme", email=f"{name}@acme.test", username=name)
        return town

    return build


def form_of(town: Town, browser: Browser, opener: Browser | None = None, **extra: str) -> Page:
    """Ada forgets at the app, and opens the link."""
    forget(open_app(browser, **extra), "ada")
    return (opener or browser).go(reset_link(town, "ada@acme.test"))


def signed_in(town: Town, browser: Browser, tenant: str = "acme") -> str:
    page = browser.go(f"{town.broker.base}/t/{tenant}/account")
    return page.text if page.data_page == "account" else ""


def finish(page: Page, after: str) -> Page:
    """From what the rule shows to the app, by what stands on the page."""
    if after == "sign_in_page":
        assert page.data_page == "login"
        assert "Your password was changed" in page.text
        assert page.form(field="username").field("username").value == "ada"
        return type_password(page.form(field="username").submit(), NEW)
    if after == "signed_in":
        assert page.data_page == "reset-done"
        return page.click("Continue to Demo app")
    return page


@pytest.mark.parametrize("after", AFTER)
def test_in_the_browser_that_asked_the_apps_own_request_goes_on(town_after: Callable[..., Town], after: str) -> None:
    town = town_after(after)
    browser = town.browser()
    done = choose_password(form_of(town, browser))
    assert bool(signed_in(town, browser)) == (after != "sign_in_page")
    assert at_the_app(finish(done, after), "ada@acme.test")
    assert not any("/login/acme?iss=" in hop.url for hop in browser.trail)


@pytest.mark.parametrize("after", AFTER)
def test_in_another_browser_the_app_starts_afresh(town_after: Callable[..., Town], after: str) -> None:
    town = town_after(after)
    phone = town.browser("198.51.100.7")
    done = choose_password(form_of(town, town.browser(), phone))
    assert done.data_page == "reset-done"
    assert "You asked for this on another browser" in done.text
    home = done.click("Continue to Demo app")
    if after == "sign_in_page":
        home = type_password(type_identifier(home, "ada"), NEW)
    assert at_the_app(home, "ada@acme.test")


@pytest.mark.parametrize("after", AFTER)
def test_without_an_app_it_ends_at_the_own_account(town_after: Callable[..., Town], after: str) -> None:
    town = town_after(after)
    browser = town.browser()
    page = browser.go(f"{town.broker.base}/t/acme/forgot")
    type_identifier(page, "ada")
    done = choose_password(browser.go(reset_link(town, "ada@acme.test")))
    if after == "sign_in_page":
        done = type_password(type_identifier(done, "ada"), NEW)
    elif after == "signed_in":
        done = done.click("Continue to Acme")
    assert done.data_page == "account"


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("demand", [{"prompt": "login"}, {"max_age": "0"}])
def test_a_demand_for_a_fresh_login_is_met_by_the_new_password_alone(
    town_after: Callable[..., Town], after: str, demand: dict[str, str]
) -> None:
    town = town_after(after)
    page = choose_password(form_of(town, town.browser(), **demand))
    if after == "signed_in":
        page = page.click("Continue to Demo app")
    assert page.data_page == "login"
    assert at_the_app(type_password(type_identifier(page, "ada"), NEW), "ada@acme.test")


@pytest.mark.parametrize("after", AFTER)
def test_consent_for_somebody_elses_app_is_still_asked(town_after: Callable[..., Town], after: str) -> None:
    town = town_after(after)
    town.broker.add("globex", email="linus@globex.test", username="linus")
    browser = town.browser()
    forget(open_app(browser, "globex"), "linus")
    page = choose_password(browser.go(reset_link(town, "linus@globex.test")))
    if after == "sign_in_page":
        page = type_password(type_identifier(page, "linus"), NEW)
    elif after == "signed_in":
        page = page.click("Continue to Demo app")
    assert page.data_page == "consent"
    assert at_the_app(page.form(field="decision").submit("allow"), "linus@globex.test")
    # Remembered: the next time nobody is asked.
    browser.go("https://app.test/logout")
    assert at_the_app(sign_in(browser, "linus", NEW, "globex"), "linus@globex.test")


@pytest.mark.parametrize("after", AFTER)
def test_nobody_goes_on_as_somebody_else_who_is_signed_in_on_that_browser(
    town_after: Callable[..., Town], after: str
) -> None:
    town = town_after(after)
    phone = town.browser("198.51.100.7")
    sign_in(phone, "grace")
    page = form_of(town, town.browser(), phone)
    assert "You are signed in as grace" in page.text
    done = choose_password(page)
    assert "grace" not in signed_in(town, phone)
    home = done.click("Continue to Demo app")
    if after == "sign_in_page":
        assert home.data_page == "login"
        home = type_password(type_identifier(home, "ada"), NEW)
    assert at_the_app(home, "ada@acme.test")
    assert "ada" in signed_in(town, phone)


@pytest.mark.parametrize("after", AFTER)
def test_a_request_that_was_answered_meanwhile_is_not_answered_twice(
    town_after: Callable[..., Town], after: str
) -> None:
    """Ada asked, then remembered her password after all and signed in; the link still works, by the app's own door."""
    town = town_after(after)
    browser = town.browser()
    login = forget(open_app(browser), "ada")
    password = login.form("Continue", field="username").submit()
    assert at_the_app(type_password(password), "ada@acme.test")
    done = choose_password(browser.go(reset_link(town, "ada@acme.test")))
    assert done.data_page == "reset-done"
    assert "another browser" not in done.text
    home = done.click("Continue to Demo app")
    if after == "sign_in_page":
        home = type_password(type_identifier(home, "ada"), NEW)
    assert at_the_app(home, "ada@acme.test")


def test_cancelling_and_denying_tell_the_app(town: Town) -> None:
    denied = open_app(town.browser()).form(action="/login/cancel").submit()
    assert denied.url.startswith("https://app.test/callback/acme?error=access_denied")
    town.broker.add("globex", email="linus@globex.test", username="linus")
    consent = type_password(type_identifier(open_app(town.browser(), "globex"), "linus"))
    refused = consent.form(field="decision").submit("deny")
    assert refused.url.startswith("https://app.test/callback/globex?error=access_denied")


def test_changing_the_password_keeps_this_browser_and_ends_the_others(town: Town) -> None:
    here, there = town.browser(), town.browser("198.51.100.7")
    sign_in(here, "ada")
    sign_in(there, "ada")
    page = here.go(f"{town.broker.base}/t/acme/account/password")
    filled = page.form(field="new-password").fill(
        {"current-password": "correct horse battery staple", "new-password": NEW}
    )
    assert filled.submit().data_page == "account"
    assert signed_in(town, here)
    assert not signed_in(town, there)
    assert town.mail().last("ada@acme.test", "password-changed")


def test_where_am_i_signed_in_and_sign_out_there(town: Town) -> None:
    here, phone, library = town.browser(), town.browser("198.51.100.7"), town.browser("203.0.113.9")
    for browser in (phone, library, here):
        sign_in(browser, "ada")
        town.later(seconds=1)
    account = here.go(f"{town.broker.base}/t/acme/account")
    rows = account.form(action="/account/sessions")
    assert len(rows.buttons) == 2
    after = rows.submit()
    assert after.data_page == "account"
    assert [bool(signed_in(town, one)) for one in (here, phone, library)].count(True) == 2
    after.form(action="/account/sessions/others").submit()
    assert [bool(signed_in(town, one)) for one in (here, phone, library)] == [True, False, False]
