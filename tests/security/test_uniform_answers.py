"""Known and unknown people get the same bytes (SECURITY 7); how long it takes is measured in benchmarks/."""

from __future__ import annotations

import re

import pytest

from broker.core.values import Actor
from broker.testing.page import Page
from broker.testing.town import Town
from tests.stories.journeys import forget, open_app, sign_in, type_identifier, type_password

VARIES = (
    re.compile(r'(name="csrf_token" value=")[^"]*'),
    re.compile(r'(name="tx" value=")[^"]*'),
    re.compile(r"(\?tx=)[\w-]+"),
    re.compile(r"[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{2}"),
)


def bytes_of(page: Page, identifier: str) -> str:
    """A page without what may differ: the echoed identifier, CSRF value, transaction and reference."""
    body = page.html.replace(identifier, "IDENTIFIER")
    for pattern in VARIES:
        body = pattern.sub(lambda found: (found.groups() or ("",))[0] + "VARIES", body)
    return body


@pytest.fixture
def people(town: Town) -> list[str]:
    """A known, an unknown, a blocked, a federated and a throttled person."""
    blocked = town.broker.add("acme", email="mallory@acme.test", username="mallory")
    tenant = town.broker.tenant("acme")
    town.broker.runtime.desk.block(tenant, blocked, Actor.command_line("root"), blocked=True)
    for _ in range(8):
        forget(open_app(town.browser()), "grace@acme.test")
        town.later(seconds=61)
        town.broker.work()
    return ["ada@acme.test", "nobody@acme.test", "mallory@acme.test", "grace@acme.test", "ada", "nobody"]


def test_forgot_answers_everybody_alike(town: Town, people: list[str]) -> None:
    answers = {one: forget(open_app(town.browser()), one) for one in people}
    assert {page.status for page in answers.values()} == {200}
    bodies = {bytes_of(page, one) for one, page in answers.items()}
    assert len(bodies) == 1


def test_forgot_sends_the_same_headers_and_cookies(town: Town, people: list[str]) -> None:
    def names(page: Page) -> tuple[str, ...]:
        return tuple(sorted(page.headers))

    assert len({names(forget(open_app(town.browser()), one)) for one in people}) == 1


def test_forgot_writes_the_same_rows(town: Town, people: list[str]) -> None:
    def jobs() -> int:
        with town.broker.runtime.database.reading() as work:
            return sum(work.outbox.depth().values())

    grown = set()
    for one in people:
        before = jobs()
        forget(open_app(town.browser()), one)
        grown.add(jobs() - before)
    assert grown == {1}


def test_a_wrong_password_and_an_unknown_person_look_the_same(town: Town) -> None:
    known = sign_in(town.browser(), "ada@acme.test", "not the password at all")
    unknown = sign_in(town.browser(), "nobody@acme.test", "not the password at all")
    assert bytes_of(known, "ada@acme.test") == bytes_of(unknown, "nobody@acme.test")


def test_the_page_for_the_password_is_shown_for_nobody_too(town: Town) -> None:
    page = type_identifier(open_app(town.browser()), "nobody@acme.test")
    assert page.data_page == "password"
    assert type_password(page).status == 422
