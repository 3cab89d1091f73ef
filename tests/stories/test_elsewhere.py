"""Passwords that live elsewhere: the four ways there, the way back, and what is said when a provider lets us down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from broker.testing.browser import Browser
from broker.testing.page import Page
from broker.testing.town import ACME, CONTOSO, Town
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

DEEP_LINK = 'reset: {how: deep_link, url: "https://contoso.test/t/contoso/forgot"}'
CAROL = "carol@contoso.test"


@pytest.fixture
def town_with(build_town: Callable[..., Town], mounted: bool) -> Callable[..., Town]:
    """A town whose Acme says something else about Contoso's reset page."""

    def build(reset: str = DEEP_LINK, **how: str) -> Town:
        town = build_town(mounted=mounted, acme=ACME.replace(DEEP_LINK, reset), **how)
        town.broker.add("acme", email="ada@acme.test", username="ada")
        town.upstream.add("contoso", email=CAROL, name="Carol Shaw")
        return town

    return build


def contoso_signs_in(page: Page, password: str | None = None) -> Page:
    """On Contoso's own pages."""
    assert page.url.startswith("https://contoso.test/"), page.url
    if page.data_page == "login":
        page = type_identifier(page, CAROL)
    return type_password(page, password) if password else type_password(page)


def signed_in_at_contoso(town: Town, browser: Browser) -> None:
    assert at_the_app(contoso_signs_in(open_app(browser, connection="contoso")), CAROL)


def test_oidc_forgot_is_a_round_trip_to_the_providers_reset_page_and_back_into_the_app(
    town_with: Callable[..., Town],
) -> None:
    """The provider takes an authorization request on its reset page, and answers it when the password is new."""
    url = "https://contoso.test/t/contoso/authorize?screen_hint=reset"
    town = town_with(f'reset: {{how: oidc_forgot, url: "{url}"}}', contoso=CONTOSO + "rules: {reset: {after: app}}\n")
    browser = town.browser()
    page = forget(open_app(browser), CAROL)
    assert page.data_page == "reset-elsewhere"
    assert "contoso.test" in page.text
    there = page.form(action="/reset-elsewhere").submit()
    assert there.url.startswith("https://contoso.test/")
    assert there.data_page == "forgot"
    type_identifier(there, CAROL)
    town.upstream.work()
    link = town.upstream.mailbox.last(CAROL, "reset").link("/reset?ticket=")
    assert at_the_app(choose_password(browser.go(link), NEW), CAROL)


def test_authorize_hint_leads_to_the_providers_sign_in_which_has_a_reset_of_its_own(
    town_with: Callable[..., Town],
) -> None:
    town = town_with("reset: {how: authorize_hint}")
    browser = town.browser()
    page = forget(open_app(browser), CAROL)
    assert page.data_page == "reset-elsewhere"
    there = page.form(action="/login/connection").submit()
    asked = next(hop.url for hop in reversed(browser.trail) if "contoso.test/t/contoso/authorize?" in hop.url)
    assert parse_qs(urlsplit(asked).query)["login_hint"] == [CAROL]
    assert at_the_app(contoso_signs_in(there), CAROL)


def test_text_says_what_to_do_in_words(town_with: Callable[..., Town]) -> None:
    town = town_with('reset: {how: text, text: "Call the help desk on 4711."}')
    page = forget(open_app(town.browser()), CAROL)
    assert page.data_page == "reset-elsewhere"
    assert "Call the help desk on 4711." in page.text
    assert not any("contoso.test" in link.href for link in page.links)
    assert at_the_app(contoso_signs_in(page.click("Continue with Contoso")), CAROL)


def test_a_device_that_remembers_a_provider_has_a_way_to_a_password_of_ours(town: Town) -> None:
    """The last way to sign in only suggests: somebody with two accounts resets the other one."""
    browser = town.browser()
    signed_in_at_contoso(town, browser)
    browser.go("https://app.test/logout")
    page = open_app(browser).click("Don't remember your password?")
    assert page.data_page == "reset-elsewhere"
    form = page.click("another account")
    assert form.data_page == "forgot"
    assert type_identifier(form, "ada").data_page == "login"
    assert at_the_app(choose_password(browser.go(reset_link(town, "ada@acme.test"))), "ada@acme.test")


def elsewhere_link(town: Town, browser: Browser) -> str:
    """Carol has an address here that does not say where she signs in, and asks for a reset with it."""
    signed_in_at_contoso(town, town.browser())
    carol = town.broker.runtime.desk.search(town.broker.tenant("acme"), "carol")[0]
    with town.broker.runtime.database.writing() as work:
        work.users.update(carol.id, lambda one: replace(one, email="carol@home.test", email_verified=False))
    forget(open_app(browser), "carol@home.test")
    return town.mail().last("carol@home.test", "reset-elsewhere").link("/forgot/elsewhere")


def test_the_mail_of_a_federated_user_goes_on_with_the_app_in_the_browser_that_asked(town: Town) -> None:
    browser = town.browser()
    link = elsewhere_link(town, browser)
    page = browser.go(link)
    assert page.data_page == "reset-elsewhere"
    waiting = [hop.url for hop in browser.trail if "/authorize?" in hop.url and "state=" in hop.url]
    back = contoso_signs_in(page.click("Continue with Contoso"))
    assert at_the_app(back, CAROL)
    assert len([hop for hop in browser.trail if hop.url in waiting]) == 1, "the app's own request went on"
    assert not any("/home?" in hop.url for hop in browser.trail)


def test_and_by_the_apps_own_door_in_another_browser(town: Town) -> None:
    link = elsewhere_link(town, town.browser())
    phone = town.browser("198.51.100.7")
    page = phone.go(link)
    assert page.data_page == "reset-elsewhere"
    assert at_the_app(contoso_signs_in(page.click("Continue with Contoso")), CAROL)
    assert any("/home?client_id=demo" in hop.url for hop in phone.trail)


def test_an_app_that_does_not_take_the_provider_offers_no_way_on_with_it(town_with: Callable[..., Town]) -> None:
    town = town_with()
    runtime = town.broker.runtime
    acme = town.broker.tenant("acme")
    clients = {id: replace(one, connections=("users",)) for id, one in acme.clients.items()}  # type: ignore[arg-type]
    runtime.settings = replace(
        runtime.settings, tenants={**runtime.settings.tenants, acme.id: replace(acme, clients=clients)}
    )
    page = forget(open_app(town.browser()), CAROL)
    assert page.data_page == "reset-elsewhere"
    assert not any("Continue with" in button.label for form in page.forms for button in form.buttons)


def back_with(town: Town, browser: Browser, **answer: str) -> Page:
    """Contoso answers in its own way."""
    browser.stop_at = ("https://contoso.test/",)
    there = open_app(browser, connection="contoso")
    browser.stop_at = ()
    state = parse_qs(urlsplit(there.url).query)["state"][0]
    query = "&".join(f"{name}={value}" for name, value in {"state": state, **answer}.items())
    return browser.go(f"{town.broker.base}/t/acme/callback/contoso?{query}", initiator="https://contoso.test/")


ISSUER = "https%3A%2F%2Fcontoso.test%2Ft%2Fcontoso"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"error": "access_denied", "iss": ISSUER}, "You came back from Contoso without signing in"),
        ({"error": "server_error", "iss": ISSUER}, "Signing in with Contoso did not work"),
        ({"code": "invented", "iss": ISSUER}, "Signing in with Contoso did not work"),
        ({"code": "stolen", "iss": "https%3A%2F%2Fevil.test"}, "Signing in with Contoso did not work"),
        ({"code": "no-iss-at-all"}, "Signing in with Contoso did not work"),
    ],
)
def test_a_provider_that_signs_nobody_in_leads_back_to_a_login_that_still_works(
    town: Town, caplog: pytest.LogCaptureFixture, answer: dict[str, str], words: str
) -> None:
    """Also RFC 9207: an answer of another issuer, or of none, is nobody's."""
    caplog.set_level("INFO")
    browser = town.browser()
    page = back_with(town, browser, **answer)
    assert page.data_page == "login"
    assert words in page.text
    reference = page.text.partition("Reference for support:")[2].split()[0]
    assert reference in caplog.text, "the reference on the page is the one in the log"
    assert at_the_app(type_password(type_identifier(page, "ada")), "ada@acme.test")


def test_somebody_whom_the_connection_does_not_let_in_is_told(town_with: Callable[..., Town]) -> None:
    town = town_with(DEEP_LINK + "\n    sign_up: false")
    page = contoso_signs_in(open_app(town.browser(), connection="contoso"))
    assert page.data_page == "login"
    assert "there is no account for you here" in page.text


def test_a_fresh_login_is_asked_of_the_provider_and_checked(town: Town) -> None:
    """`prompt=login` and `max_age` are forwarded: a session at the provider alone does not do."""
    browser = town.browser()
    signed_in_at_contoso(town, browser)
    for demand in ({"prompt": "login"}, {"max_age": "60"}):
        town.later(minutes=10)
        there = open_app(browser, connection="contoso", **demand)
        assert at_the_app(contoso_signs_in(there), CAROL)
    again = open_app(browser, connection="contoso", max_age="10000")
    assert at_the_app(again, CAROL)


def test_what_an_app_is_registered_for_is_asked_of_the_provider_too(town: Town) -> None:
    """`default_max_age` (OIDC Registration 2) is the app's `max_age` when it says none."""
    runtime, acme = town.broker.runtime, town.broker.tenant("acme")
    clients = {id: replace(one, default_max_age=60) for id, one in acme.clients.items()}
    runtime.settings = replace(
        runtime.settings, tenants={**runtime.settings.tenants, acme.id: replace(acme, clients=clients)}
    )
    browser = town.browser()
    signed_in_at_contoso(town, browser)
    town.later(minutes=10)
    there = open_app(browser, connection="contoso")
    assert there.url.startswith("https://contoso.test/"), "a session of ten minutes ago is too old"


def test_signing_out_signs_out_there_too_and_comes_back_to_the_app(town: Town) -> None:
    browser = town.browser()
    signed_in_at_contoso(town, browser)
    left = browser.go("https://app.test/logout")
    assert left.url.startswith("https://app.test/bye")
    assert any(hop.url.startswith("https://contoso.test/t/contoso/end-session") for hop in browser.trail)
    there = open_app(browser, connection="contoso")
    assert there.url.startswith("https://contoso.test/"), "Contoso asks again"


def test_a_chosen_provider_is_where_a_forgotten_password_leads(town: Town) -> None:
    page = open_app(town.browser(), connection="contoso", screen_hint="reset")
    assert page.data_page == "reset-elsewhere"


def test_a_connection_that_the_app_does_not_offer_is_not_chosen(town: Town) -> None:
    assert open_app(town.browser(), connection="nothing").data_page == "login"


def test_screen_hint_reset_is_for_somebody_who_is_signed_in_as_well(town: Town) -> None:
    """An app's own "Change your password"."""
    browser = town.browser()
    sign_in(browser, "ada")
    page = open_app(browser, screen_hint="reset")
    assert page.data_page == "forgot"
    assert "You are signed in as ada" in page.text
    assert type_identifier(page, "ada").data_page == "login"
    assert at_the_app(choose_password(browser.go(reset_link(town, "ada@acme.test"))), "ada@acme.test")


def test_screen_hint_signup_is_a_hint_where_nobody_may_sign_up(town: Town) -> None:
    assert open_app(town.browser(), screen_hint="signup").data_page == "signup"
    assert open_app(town.browser(), "globex", screen_hint="signup").data_page == "login"
