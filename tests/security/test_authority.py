"""What a page that was left open may still do: nothing that its browser may not do now (SECURITY 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from broker.core.tenant import Tenant
from broker.core.values import Actor
from broker.testing.browser import Browser
from broker.testing.page import Page
from broker.testing.town import ACME, Town
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
from tests.tokens import CALLBACK, authorize_url


def reconfigured(town: Town, change: Callable[[Tenant], Tenant], tenant: str = "acme") -> None:
    """The configuration of a tenant changes while people are in the middle of something."""
    runtime = town.broker.runtime
    before = town.broker.tenant(tenant)
    runtime.settings = replace(runtime.settings, tenants={**runtime.settings.tenants, before.id: change(before)})


def without_connection(id: str) -> Callable[[Tenant], Tenant]:
    return lambda one: replace(one, connections=tuple(each for each in one.connections if each.id != id))


def without_client(one: Tenant) -> Tenant:
    return replace(one, clients={})


def waiting_at_select_account(browser: Browser) -> Page:
    sign_in(browser, "ada")
    page = open_app(browser, prompt="select_account")
    assert page.data_page == "select-account"
    return page


def test_a_page_that_waits_does_not_outlive_the_session_that_it_rests_on(town: Town) -> None:
    browser = town.browser()
    page = waiting_at_select_account(browser)
    browser.go(f"{town.broker.base}/t/acme/account").form(action="/end-session").submit()
    after = page.form(field="account").submit()
    assert after.data_page == "login"
    assert browser.go(f"{town.broker.base}/t/acme/account").data_page == "login"


def test_nor_is_it_finished_for_one_person_while_another_is_signed_in(town: Town) -> None:
    browser = town.browser()
    page = waiting_at_select_account(browser)
    browser.go(f"{town.broker.base}/t/acme/account").form(action="/end-session").submit()
    sign_in(browser, "grace")
    assert page.form(field="account").submit().data_page == "login"
    assert "grace" in browser.go(f"{town.broker.base}/t/acme/account").text


def test_consent_is_not_given_in_the_name_of_somebody_who_left(town: Town) -> None:
    ada = town.broker.add("globex", email="ada@globex.test", username="ada")
    browser = town.browser()
    type_password(type_identifier(browser.go(f"{town.broker.base}/t/globex/login"), "ada"))
    consent = open_app(browser, "globex")
    assert consent.data_page == "consent"
    browser.go(f"{town.broker.base}/t/globex/account").form(action="/end-session").submit()
    assert consent.form(field="decision").submit("allow").data_page == "login"
    with town.broker.runtime.database.reading() as work:
        assert not work.consents.granted(ada.id, town.broker.tenant("globex").client("demo").client_id)  # type: ignore[union-attr]


def test_a_login_does_not_end_by_a_connection_that_its_app_no_longer_offers(town: Town) -> None:
    browser = town.browser()
    page = waiting_at_select_account(browser)
    reconfigured(town, lambda one: replace(one, clients={
        id: replace(client, connections=("contoso",)) for id, client in one.clients.items()  # type: ignore[arg-type]
    }))  # fmt: skip
    assert page.form(field="account").submit().data_page == "login"


TWO_DATABASES = ACME.replace("  - id: contoso", "  - {id: partners, type: database}\n  - id: contoso").replace(
    "    client_name: Demo app\n", "    client_name: Demo app\n    connections: [partners, contoso]\n"
)


def test_a_reset_does_not_open_an_app_that_does_not_take_that_connection(build_town: Callable[..., Town]) -> None:
    """The mail is the same for everybody, so the ticket may be of a connection that this app does not offer."""
    town = build_town(acme=TWO_DATABASES)
    town.broker.add("acme", email="ada@acme.test", username="ada", connection="users")
    browser = town.browser()
    forget(open_app(browser), "ada")
    done = choose_password(browser.go(reset_link(town, "ada@acme.test")))
    assert not at_the_app(done, "ada@acme.test")
    assert done.data_page == "login"


@pytest.mark.parametrize("path", ["", "/password"])
def test_a_connection_that_was_taken_away_leads_back_to_the_first_page(town: Town, path: str) -> None:
    browser = town.browser()
    page = type_identifier(open_app(browser), "ada")
    assert page.data_page == "password"
    reconfigured(town, without_connection("users"))
    tx = page.form().hidden["tx"]
    first = browser.go(f"{town.broker.base}/t/acme/login{path}?tx={tx}")
    assert first.data_page == "login", first.text
    assert type_password(page).data_page == "login"


def test_an_answer_of_a_connection_that_was_taken_away_signs_nobody_in(town: Town) -> None:
    browser = town.browser()
    browser.stop_at = (f"{town.broker.base}/t/acme/callback/",)
    back = type_password(type_identifier(open_app(browser, connection="contoso"), "carol@contoso.test"))
    reconfigured(town, without_connection("contoso"))
    browser.stop_at = ()
    page = browser.go(back.url)
    assert page.status in (400, 404)
    assert browser.go(f"{town.broker.base}/t/acme/account").data_page == "login"


def test_an_app_that_was_taken_away_says_so_and_sends_nobody_there(town: Town) -> None:
    browser = town.browser()
    page = type_identifier(open_app(browser), "ada")
    reconfigured(town, without_client)
    stale = type_password(page)
    assert (stale.data_page, stale.data_code) == ("error", "client.gone")
    assert stale.status == 400


def test_a_reset_ends_on_a_page_when_its_app_was_taken_away(town: Town) -> None:
    browser = town.browser()
    forget(open_app(browser), "ada")
    form = browser.go(reset_link(town, "ada@acme.test"))
    reconfigured(town, without_client)
    done = choose_password(form)
    assert done.data_page == "reset-done"
    assert done.status == 200


@pytest.mark.parametrize("what", ["block", "delete"])
def test_somebody_who_is_blocked_or_deleted_gets_no_further(town: Town, what: str) -> None:
    browser = town.browser()
    page = waiting_at_select_account(browser)
    tenant, desk, root = town.broker.tenant("acme"), town.broker.runtime.desk, Actor.command_line("root")
    ada = desk.find(tenant, "ada")
    if what == "block":
        desk.block(tenant, ada, root, blocked=True)
    else:
        desk.delete(tenant, ada, root)
    after = page.form(field="account").submit()
    assert after.data_page == "login"
    assert browser.go(f"{town.broker.base}/t/acme/account").data_page == "login"


def test_a_login_of_one_tenant_is_nothing_to_another(town: Town) -> None:
    browser = town.browser()
    page = type_identifier(open_app(browser), "ada")
    tx = page.form(field="current-password").hidden["tx"]
    for other in ("globex", "test-acme"):
        browser.go(f"{town.broker.base}/t/{other}/login")
        for path in ("continue", "login/password", "login/account", "login/must-change", "consent"):
            stray = browser.go(f"{town.broker.base}/t/{other}/{path}?tx={tx}")
            assert (stray.status, stray.data_code) == (400, "transaction.gone"), path


def test_a_login_of_one_browser_is_nothing_to_another(town: Town) -> None:
    """Login CSRF: an attacker's own answer from the provider, given to somebody else to open."""
    attacker, victim = town.browser(), town.browser()
    attacker.stop_at = (f"{town.broker.base}/t/acme/callback/",)
    answer = type_password(type_identifier(open_app(attacker, connection="contoso"), "carol@contoso.test"))
    open_app(victim, connection="contoso")
    page = victim.go(answer.url, initiator="https://evil.test/")
    assert page.status == 400
    assert victim.go(f"{town.broker.base}/t/acme/account").data_page == "login"


def test_a_session_cookie_that_somebody_planted_is_not_the_one_that_counts_afterwards(town: Town) -> None:
    """Session fixation: signing in makes a new secret, and the one from before is dead (SECURITY 10)."""
    attacker, victim = town.browser(), town.browser()
    sign_in(attacker, "grace")
    victim.cookies = list(attacker.cookies)
    open_again = victim.go(authorize_url(town, prompt="login"))
    assert type_password(type_identifier(open_again, "ada")).url.startswith(CALLBACK)
    assert attacker.go(f"{town.broker.base}/t/acme/account").data_page == "login"
    assert "ada" in victim.go(f"{town.broker.base}/t/acme/account").text


def test_a_new_person_on_the_same_browser_gets_a_session_of_their_own(town: Town) -> None:
    browser, sessions = town.browser(), town.broker.runtime.sessions
    tenant, desk = town.broker.tenant("acme"), town.broker.runtime.desk
    sign_in(browser, "ada")
    first = sessions.of(desk.find(tenant, "ada").id)[0].id
    page = browser.go(authorize_url(town, prompt="login"))
    type_password(type_identifier(page, "grace"))
    assert sessions.find(first) is None
    assert [one.id for one in sessions.of(desk.find(tenant, "grace").id)] != [first]


def test_a_new_password_elsewhere_sends_a_waiting_page_back_to_the_login(town: Town) -> None:
    browser, other = town.browser(), town.browser()
    page = waiting_at_select_account(browser)
    forget(open_app(other), "ada")
    choose_password(other.go(reset_link(town, "ada@acme.test")), NEW)
    assert page.form(field="account").submit().data_page == "login"


def test_the_address_after_signing_out_upstream_is_for_the_browser_that_left(town: Town) -> None:
    """The sealed way back is no redirect for everybody who gets hold of it, and none of another tenant."""
    browser = town.browser()
    at_contoso = open_app(browser, connection="contoso")
    type_password(type_identifier(at_contoso, "carol@contoso.test"))
    left = browser.go("https://app.test/logout")
    assert left.url.startswith("https://app.test/bye")
    done = next(hop.url for hop in reversed(browser.trail) if "/end-session/done" in hop.url)
    assert browser.go(done).url.startswith("https://app.test/bye")
    assert town.browser().go(done).data_page == "signout-done"
    assert browser.go(done.replace("/t/acme/", "/t/test-acme/")).data_page == "signout-done"
