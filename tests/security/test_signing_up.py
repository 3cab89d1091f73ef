"""Signing up prepares nothing for anybody else's address, takes nothing away, and keeps no name (SECURITY 6)."""

from __future__ import annotations

from dataclasses import replace

from broker.testing.page import Page
from broker.testing.town import Town
from tests.stories.journeys import NEW, at_the_app, choose_password, open_app, sign_in


def sign_up(town: Town, email: str, username: str = "", address: str = "192.0.2.1") -> Page:
    page = open_app(town.browser(address)).click("Create an account")
    return page.form(field="email").fill(email=email, username=username).submit()


def link_of(town: Town, email: str) -> str:
    return town.mail().last(email, "verify-email").link("/verify?ticket=")


def test_asking_for_an_account_deletes_nobody_whose_address_is_not_proven_yet(town: Town) -> None:
    """Somebody who signs in with a username, and never proved their address: anybody may type that address."""
    linus = town.broker.add("acme", email="linus@acme.test", username="linus")
    with town.broker.runtime.database.writing() as work:
        work.users.update(linus.id, lambda one: replace(one, email_verified=False))
    sign_up(town, "linus@acme.test", "mallory")
    town.broker.work()
    assert at_the_app(sign_in(town.browser(), "linus"), "linus")
    # The owner of the mailbox takes it over, and what was known before is worth nothing.
    choose_password(town.browser().go(link_of(town, "linus@acme.test")))
    assert sign_in(town.browser(), "linus").data_page == "password"
    assert at_the_app(sign_in(town.browser(), "linus", NEW), "linus")


def test_an_attacker_who_signs_up_first_has_nothing_in_the_account_afterwards(town: Town) -> None:
    sign_up(town, "victim@acme.test", "evil", "198.51.100.1")
    early = link_of(town, "victim@acme.test")
    town.later(minutes=2)
    sign_up(town, "victim@acme.test", "victim")
    town.broker.work()
    browser = town.browser()
    assert browser.go(early).data_code == "ticket.mangled", "the first attempt is gone with all it had chosen"
    choose_password(browser.go(link_of(town, "victim@acme.test")))
    assert at_the_app(sign_in(town.browser(), "victim", NEW), "victim@acme.test")
    assert sign_in(town.browser(), "evil", NEW).data_page == "password"


def test_a_name_is_not_kept_by_somebody_who_never_came_back(town: Town) -> None:
    sign_up(town, "squatter@elsewhere.test", "lovelace")
    town.broker.work()
    taken = sign_up(town, "late@acme.test", "lovelace")
    assert taken.data_page == "signup"
    assert taken.status == 422
    town.later(minutes=31)
    assert sign_up(town, "late@acme.test", "lovelace").data_page == "signup-sent"
    choose_password(town.browser().go(link_of(town, "late@acme.test")))
    assert at_the_app(sign_in(town.browser(), "lovelace", NEW), "late@acme.test")


def test_a_name_of_somebody_with_an_account_is_never_given_away(town: Town) -> None:
    town.later(hours=1000)
    assert sign_up(town, "late@acme.test", "ada").status == 422


def test_the_link_works_once(town: Town) -> None:
    sign_up(town, "new@acme.test")
    browser, link = town.browser(), link_of(town, "new@acme.test")
    choose_password(browser.go(link))
    assert town.browser().go(link).data_code == "ticket.used"


def test_names_cannot_be_tried_out_without_end(town: Town) -> None:
    """Counted before a name is looked up."""
    answers = [sign_up(town, "new@acme.test", "ada").status for _ in range(35)]
    assert answers[0] == 422
    assert answers[-1] == 429


def test_where_sign_up_is_off_a_form_of_somebodys_own_making_does_nothing(town: Town) -> None:
    browser = town.browser()
    browser.go(f"{town.broker.base}/t/globex/login")
    page = browser.post(f"{town.broker.base}/t/globex/signup", {"email": "new@globex.test", "csrf_token": "x"})
    assert page.status == 400
    assert town.mail().all() == []
