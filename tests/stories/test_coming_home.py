"""And then home: the app that somebody came from, on the same device or another, whatever is going on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from broker.core.values import Actor
from broker.testing.town import GLOBEX, PASSWORD, Town
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


def test_on_another_device_the_way_home_is_the_apps_own_door(town: Town) -> None:
    laptop, phone = town.browser(), town.browser("198.51.100.7")
    forget(open_app(laptop), "ada")
    done = choose_password(phone.go(reset_link(town, "ada@acme.test")))
    assert done.data_page == "reset-done"
    home = done.click("Continue to Demo app")
    assert at_the_app(home, "ada@acme.test")
    assert any(hop.url.startswith("https://app.test/login/acme?iss=") for hop in phone.trail)


def test_after_the_browser_was_closed_it_is_another_browser(town: Town) -> None:
    browser = town.browser()
    forget(open_app(browser), "ada")
    browser.restart()
    done = choose_password(browser.go(reset_link(town, "ada@acme.test")))
    assert done.data_page == "reset-done"
    assert at_the_app(done.click("Continue to Demo app"), "ada@acme.test")


def test_screen_hint_reset_opens_the_forgot_page(town: Town) -> None:
    page = open_app(town.browser(), screen_hint="reset")
    assert page.data_page == "forgot"
    assert type_identifier(page, "ada").data_page == "login"


def test_well_known_change_password_leads_to_it(town: Town) -> None:
    page = town.browser().go(f"{town.broker.base}/.well-known/change-password")
    assert page.data_page == "choose-tenant"
    assert page.click("Globex").data_page == "forgot"


def test_signed_in_as_somebody_else_it_says_so_and_works(town: Town) -> None:
    browser = town.browser()
    forget(open_app(browser), "ada")
    link = reset_link(town, "ada@acme.test")
    sign_in(browser, "grace")
    page = browser.go(link)
    assert page.data_page == "reset"
    assert "grace" in page.text
    done = choose_password(page)
    home = done if done.data_page != "reset-done" else done.click("Continue to Demo app")
    assert at_the_app(home, "ada@acme.test")


def test_prompt_login_still_asks_for_the_new_password(town: Town) -> None:
    """A ticket proves the mailbox; it never counts as re-authentication (SECURITY 9)."""
    browser = town.browser()
    page = open_app(browser, prompt="login")
    forget(page, "ada")
    asked = choose_password(browser.go(reset_link(town, "ada@acme.test")))
    assert asked.data_page == "login"
    assert at_the_app(type_password(type_identifier(asked, "ada"), NEW), "ada@acme.test")


def test_a_federated_user_gets_a_mail_that_says_so_and_one_link_to_where_it_is_done(town: Town) -> None:
    browser = town.browser()
    at_contoso = open_app(browser, connection="contoso")
    type_password(type_identifier(at_contoso, "carol@contoso.test"))
    # An address at another domain leads nowhere by itself: only the mailbox learns where she signs in.
    carol = town.broker.runtime.desk.search(town.broker.tenant("acme"), "carol")[0]
    with town.broker.runtime.database.writing() as work:
        work.users.update(carol.id, lambda one: replace(one, email="carol@home.test", email_verified=False))
    answer = forget(open_app(town.browser()), "carol@home.test")
    assert answer.data_page == "login"
    mail = town.mail().last("carol@home.test")
    assert mail.kind == "reset-elsewhere"
    page = town.browser().go(mail.link("/forgot/elsewhere"))
    assert page.data_page == "reset-elsewhere"
    assert "Contoso" in page.text


def test_nobody_gets_at_most_one_mail_a_day(town: Town) -> None:
    for _ in range(3):
        forget(open_app(town.browser()), "stranger@elsewhere.test")
        town.later(minutes=20)
    assert [mail.kind for mail in town.mail().all()] == ["no-account"]
    town.later(hours=25)
    forget(open_app(town.browser()), "stranger@elsewhere.test")
    assert len(town.mail().all()) == 2


def test_several_accounts_at_one_address_get_one_mail_each_naming_the_account(
    build_town: Callable[..., Town], mounted: bool
) -> None:
    """Where people sign in with usernames, an address may be that of several."""
    town = build_town(mounted=mounted, globex=GLOBEX.replace("[username, email]", "[username]"))
    town.broker.add("globex", email="team@globex.test", username="first")
    town.broker.add("globex", email="team@globex.test", username="second")
    forget(open_app(town.browser(), "globex"), "team@globex.test")
    mails = town.mail().to("team@globex.test", "reset")
    assert len(mails) == 2
    assert sorted(name for name in ("first", "second") for mail in mails if name in mail.text) == ["first", "second"]


def test_the_newest_link_only(town: Town) -> None:
    browser = town.browser()
    forget(open_app(browser), "ada")
    first = reset_link(town, "ada@acme.test")
    town.later(seconds=61)
    forget(open_app(browser), "ada")
    second = reset_link(town, "ada@acme.test")
    assert first != second
    old = browser.go(first)
    assert old.data_code == "ticket.replaced"
    assert at_the_app(choose_password(browser.go(second)), "ada@acme.test")


def test_within_a_minute_nothing_is_sent_and_nothing_changes(town: Town) -> None:
    browser = town.browser()
    forget(open_app(browser), "ada")
    link = reset_link(town, "ada@acme.test")
    town.later(seconds=30)
    assert forget(open_app(browser), "ada").data_page == "login"
    assert len(town.mail().to("ada@acme.test", "reset")) == 1
    assert browser.go(link).data_page == "reset"


def test_a_late_link_says_so_and_offers_a_new_one(town: Town) -> None:
    browser = town.browser()
    forget(open_app(browser), "ada")
    link = reset_link(town, "ada@acme.test")
    town.later(minutes=31)
    page = browser.go(link)
    assert page.data_code == "ticket.expired"
    assert page.status == 410


def test_a_refused_password_consumes_nothing(town: Town) -> None:
    browser = town.browser()
    forget(open_app(browser), "ada")
    page = browser.go(reset_link(town, "ada@acme.test"))
    for weak in ("short", "aaaaaaaaaaaaaaaaaaaa", PASSWORD, "ada@acme.test-x"):
        page = choose_password(page, weak)
        assert page.data_page == "reset"
        assert page.status == 422
    assert at_the_app(choose_password(page), "ada@acme.test")


def test_everything_older_is_dead_after_a_reset(town: Town) -> None:
    old = town.browser()
    sign_in(old, "ada")
    browser = town.browser()
    forget(open_app(browser), "ada")
    choose_password(browser.go(reset_link(town, "ada@acme.test")))
    assert old.go(f"{town.broker.base}/t/acme/account").data_page == "login"
    assert town.mail().last("ada@acme.test", "password-changed")


def test_a_blocked_account_is_told_only_behind_its_link(town: Town) -> None:
    browser = town.browser()
    forget(open_app(browser), "ada")
    link = reset_link(town, "ada@acme.test")
    tenant, desk = town.broker.tenant("acme"), town.broker.runtime.desk
    desk.block(tenant, desk.find(tenant, "ada"), Actor.command_line("root"), blocked=True)
    assert browser.go(link).data_code == "ticket.account_off"
    assert forget(open_app(browser), "ada").data_page == "login"


def test_a_mangled_link_says_what_to_do(town: Town) -> None:
    browser = town.browser()
    forget(open_app(browser), "ada")
    link = reset_link(town, "ada@acme.test")
    page = browser.go(link[:-5])
    assert page.data_code == "ticket.mangled"
    assert page.status == 404


def test_scanners_may_open_a_link_twenty_times(town: Town) -> None:
    """GET and HEAD change nothing (SECURITY 8)."""
    browser = town.browser()
    forget(open_app(browser), "ada")
    link = reset_link(town, "ada@acme.test")
    for _ in range(20):
        scanner = town.browser("203.0.113.9")
        scanner.go(link)
        scanner.send("HEAD", link)
    assert at_the_app(choose_password(browser.go(link)), "ada@acme.test")


def test_signing_up_begins_with_a_proven_address_and_ends_in_the_app(town: Town) -> None:
    browser = town.browser()
    page = open_app(browser).click("Create an account")
    assert page.data_page == "signup"
    sent = page.form(field="email").fill(email="new@acme.test", username="newcomer").submit()
    assert sent.data_page == "signup-sent"
    form = browser.go(town.mail().last("new@acme.test", "verify-email").link("/verify?ticket="))
    assert at_the_app(choose_password(form), "new@acme.test")


def test_signing_up_with_a_known_address_tells_the_mailbox_alone(town: Town) -> None:
    page = open_app(town.browser()).click("Create an account")
    sent = page.form(field="email").fill(email="ada@acme.test").submit()
    assert sent.data_page == "signup-sent"
    assert town.mail().last("ada@acme.test").kind == "already-registered"
