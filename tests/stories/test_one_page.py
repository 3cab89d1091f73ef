"""Where passwords are the only way in, identifier and password stand on one page."""

from __future__ import annotations

import re

import pytest

from broker.core.values import Actor
from broker.testing.page import Form, Page
from broker.testing.town import PASSWORD, Town
from tests.stories.journeys import NEW, choose_password, open_app, type_identifier, type_password

_OWN = re.compile(r'(value|href)="[^"]*"|[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{2}|linus|nobody')


@pytest.fixture
def page(town: Town) -> Page:
    """The first page of a visitor at Globex, which has one database of users and nothing else."""
    town.broker.add("globex", email="linus@globex.test", username="linus")
    return open_app(town.browser(), "globex")


def both(page: Page, identifier: str, password: str, **more: str | bool) -> Page:
    return (
        page.form(field="current-password")
        .fill({"username": identifier, "current-password": password, **more})
        .submit()
    )


def test_one_page_asks_for_both(page: Page) -> None:
    assert page.data_page == "login"
    form = page.form(field="current-password")
    assert form is page.form(field="username")
    assert form.field("username").tokens == ["username", "webauthn"]
    assert both(page, "linus", PASSWORD).data_page == "consent"


def test_an_app_with_another_way_in_asks_who_it_is_first(town: Town) -> None:
    """Acme's people of contoso.test sign in at Contoso: a password typed here would be told to the wrong house."""
    with pytest.raises(LookupError):
        open_app(town.browser()).form(field="current-password")


def test_whoever_types_the_identifier_alone_is_asked_for_the_password_next(page: Page) -> None:
    asked = type_identifier(page, "linus")
    assert (asked.status, asked.data_page) == (200, "password")
    assert type_password(asked).data_page == "consent"


def test_a_wrong_password_is_typed_again_and_the_identifier_is_not(page: Page) -> None:
    wrong = both(page, "linus", "not the password")
    assert (wrong.status, wrong.data_page) == (422, "password")
    assert wrong.form(field="current-password").field("username").value == "linus"
    again = type_password(wrong, "still not the password")
    assert (again.status, again.data_page) == (422, "password")
    assert type_password(again).data_page == "consent"


def test_unknown_people_get_the_same_page(town: Town, page: Page) -> None:
    known = both(page, "linus", "not the password")
    unknown = both(open_app(town.browser(), "globex"), "nobody", "not the password")
    assert unknown.status == known.status
    assert _OWN.sub("*", unknown.html) == _OWN.sub("*", known.html)


def test_another_person_starts_again_on_one_page(page: Page) -> None:
    back = both(page, "lars", "not the password").click("Not you?")
    assert back.data_page == "login"
    assert both(back, "linus", PASSWORD).data_page == "consent"


def test_an_identifier_that_is_none_stays_on_the_page_and_no_password_is_kept(page: Page) -> None:
    refused = both(page, "lin us@", "the password")
    assert (refused.status, refused.data_page) == (422, "login")
    assert refused.form(field="username").field("username").value == "lin us@"
    assert "the password" not in refused.html
    assert both(refused, "linus", PASSWORD).data_page == "consent"


def test_a_forgotten_password_keeps_what_was_typed(page: Page) -> None:
    """What the script of the page sends when the link is pressed; without a script it is a plain link."""
    form: Form = page.form(field="username").fill(username="linus")
    form.controls.append(type(form.controls[0])("hidden", "forgot", "1", {}))
    forgot = form.submit()
    assert forgot.data_page == "forgot"
    assert forgot.form(field="username").field("username").value == "linus"


def test_the_way_out_works_without_a_script(town: Town, page: Page) -> None:
    sent = type_identifier(page.click("Don't remember your password?"), "linus")
    assert sent.data_page == "login"
    assert "sent you an email" in sent.text
    link = town.mail().last("linus@globex.test", "reset").link("/reset?ticket=")
    home = choose_password(town.browser().go(link)).data_page
    assert home in ("reset-done", "login")
    assert both(sent, "linus", NEW).data_page == "consent"


def test_a_new_password_is_asked_for_when_it_must_be_changed(town: Town, page: Page) -> None:
    desk, globex = town.broker.runtime.desk, town.broker.tenant("globex")
    operator = Actor.command_line("town")
    desk.operate_password(globex, desk.find(globex, "linus"), "temporary words for you", operator, must_change=True)
    assert both(page, "linus", "temporary words for you").data_page == "must-change"


def test_it_is_remembered_if_it_was_ticked(town: Town) -> None:
    town.broker.add("globex", email="linus@globex.test", username="linus")
    browser = town.browser()
    both(open_app(browser, "globex"), "linus", "not the password", remember=True)
    remembered = open_app(browser, "globex").form(field="username")
    assert remembered.field("username").value == "linus"
    assert remembered.field("remember").checked


def test_guesses_are_counted(town: Town, page: Page) -> None:
    answers = [both(open_app(town.browser(), "globex"), "linus", "guess").status for _ in range(20)]
    assert answers[0] == 422
    assert answers[-1] == 429
    page = both(page, "linus", PASSWORD)
    assert (page.status, page.data_page) == (429, "password"), "also with the right one"
    town.later(hours=1)
    assert type_password(page).data_page == "consent"
