"""Passwords are tried in masses, and forms ask for a challenge (SECURITY 13)."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from contextlib import suppress
from html import unescape

import pytest

from broker.core.errors import ChallengeNeeded, Throttled
from broker.flows.guard import Account, Origin
from broker.testing.page import Page
from broker.testing.town import ACME, PASSWORD, Town
from broker.testing.world import Browser
from tests.stories.journeys import at_the_app, choose_password, forget, open_app, reset_link, sign_in, type_identifier

OFF, ALWAYS = (
    ACME.replace("{reset: {after: app}}", f"{{reset: {{after: app}}, guard: {{challenge: {when}}}}}")
    for when in ("off", "always")
)


def spray(town: Town, number: int = 130) -> int:
    """One password for many accounts from many addresses; how many were counted."""
    counted = 0
    for n in range(number):
        with suppress(ChallengeNeeded, Throttled):
            origin = Origin(f"203.0.{n // 200}.{n % 200}")
            town.broker.runtime.guard.password(town.broker.tenant("acme"), Account(f"person{n}"), origin)
            counted += 1
    return counted


def puzzle(page: Page) -> dict[str, str]:
    """What the form's script is given."""
    return {
        name: unescape(value)
        for name, value in re.findall(r'data-(\w+)="([^"]*)"', page.html.split("data-challenge", 1)[1])
    }


def solved(page: Page) -> str:
    given = puzzle(page)
    number = next(
        n for n in range(int(given["most"]) + 1)
        if hashlib.sha256(f"{given['salt']}{n}".encode()).hexdigest() == given["target"]
    )  # fmt: skip
    answer = {"algorithm": "SHA-256", "challenge": given["target"], "number": number, "salt": given["salt"]}
    return base64.b64encode(json.dumps(answer | {"signature": given["signature"]}).encode()).decode()


def asks(page: Page) -> bool:
    return "data-challenge" in page.html


def give(page: Page, password: str = PASSWORD, answer: str | None = None) -> Page:
    form = page.form(field="current-password")
    return form.fill({"current-password": password, "challenge": solved(page) if answer is None else answer}).submit()


def at_password(browser: Browser, who: str = "ada") -> Page:
    return type_identifier(open_app(browser), who)


@pytest.fixture
def attacked(town: Town) -> Town:
    assert not asks(at_password(town.browser()))
    assert spray(town) == 119, "the rest is asked for a challenge"
    return town


def test_under_attack_a_form_asks_for_a_challenge_and_takes_its_solution(attacked: Town) -> None:
    page = at_password(attacked.browser())
    assert asks(page)
    refused = give(page, answer="")
    assert (refused.status, asks(refused)) == (403, True)
    assert refused.form(field="current-password"), "the form is still there"
    assert at_the_app(give(refused), "ada@acme.test")


def test_a_page_that_was_opened_before_the_attack_gets_its_challenge_then(town: Town) -> None:
    page = at_password(town.browser())
    spray(town)
    refused = page.form(field="current-password").fill({"current-password": PASSWORD}).submit()
    assert refused.status == 403
    assert at_the_app(give(refused), "ada@acme.test")


def test_the_page_with_both_fields_asks_as_well(build_town: Callable[..., Town]) -> None:
    begin, end = ACME.index("  - id: contoso"), ACME.index("clients:")
    town = build_town(acme=ACME[:begin] + ACME[end:])
    town.broker.add("acme", email="ada@acme.test", username="ada")
    spray(town)
    page = open_app(town.browser())
    both = {"username": "ada", "current-password": PASSWORD}
    refused = page.form(field="current-password").fill(both).submit()
    assert (refused.status, refused.data_page) == (403, "password")
    answered = page.form(field="current-password").fill(both | {"challenge": solved(page)})
    assert at_the_app(answered.submit(), "ada@acme.test")


def test_a_solution_is_accepted_once(attacked: Town) -> None:
    page = at_password(attacked.browser())
    answer = solved(page)
    assert give(page, "not this one at all", answer).status == 422
    again = give(page, PASSWORD, answer)
    assert again.status == 403
    assert at_the_app(give(again), "ada@acme.test")


def test_a_solution_of_another_login_or_browser_is_none(attacked: Town) -> None:
    theirs = solved(at_password(attacked.browser()))
    browser = attacked.browser()
    page = at_password(browser)
    assert give(page, answer=theirs).status == 403
    assert give(page, answer=solved(at_password(browser))).status == 403, "another login of the same browser"


def test_a_known_device_is_not_asked(town: Town) -> None:
    browser = town.browser()
    sign_in(browser, "ada")
    browser.go(f"{town.broker.base}/t/acme/end-session")
    spray(town)
    page = at_password(browser)
    assert at_the_app(give(page, answer=""), "ada@acme.test")


def test_without_a_script_a_minute_of_waiting_does_it_and_not_for_masses(attacked: Town) -> None:
    pages = [at_password(attacked.browser(), f"person{n}") for n in range(6)]
    assert "please wait a minute" in pages[0].text
    mine = at_password(attacked.browser("198.51.100.9"))
    assert give(mine, answer="").status == 403
    attacked.later(seconds=61)
    assert at_the_app(give(mine, answer=""), "ada@acme.test")
    assert [give(page, answer="").status for page in pages] == [422, 422, 429, 429, 429, 429]


def test_asking_for_a_mail_and_signing_up_are_asked_too(attacked: Town) -> None:
    browser = attacked.browser()
    page = open_app(browser).click("Don't remember your password?")
    refused = page.form(field="username").fill({"username": "ada"}).submit()
    assert (refused.status, refused.data_page) == (403, "forgot")
    sent = refused.form(field="username").fill({"username": "ada", "challenge": solved(refused)}).submit()
    assert sent.status == 200
    assert at_the_app(choose_password(browser.go(reset_link(attacked, "ada@acme.test"))), "ada@acme.test")
    new = attacked.browser()
    page = open_app(new).click("Create an account")
    refused = page.form(field="email").fill({"email": "new@acme.test"}).submit()
    assert (refused.status, refused.data_page) == (403, "signup")
    answer = {"email": "new@acme.test", "challenge": solved(refused)}
    assert refused.form(field="email").fill(answer).submit().status == 200


@pytest.mark.parametrize("always", [True, False])
def test_a_proxy_that_nobody_trusts_is_no_way_around_it(build_town: Callable[..., Town], always: bool) -> None:
    town = build_town(acme=ALWAYS) if always else build_town()
    town.broker.add("acme", email="ada@acme.test", username="ada")
    if not always:
        spray(town)
    browser = town.browser("127.0.0.1")
    for link, field, what in (
        ("Don't remember your password?", "username", "ada"), ("Create an account", "email", "new@acme.test"),
    ):  # fmt: skip
        refused = open_app(browser).click(link).form(field=field).fill({field: what}).submit()
        assert (refused.status, asks(refused)) == (403, True)
        answer = {field: what, "challenge": solved(refused)}
        assert refused.form(field=field).fill(answer).submit().status == 200
        assert refused.form(field=field).fill(answer).submit().status == 403, "a solution is good for once"


def test_it_ends_when_the_attack_does(attacked: Town) -> None:
    assert asks(at_password(attacked.browser()))
    attacked.later(minutes=2)
    assert not asks(at_password(attacked.browser())), "this process has not heard of it for a while"


def test_a_queue_of_hashes_that_is_half_full_is_an_attack(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    page = at_password(town.browser())
    monkeypatch.setattr(type(town.broker.runtime.engines.hasher), "strained", True)
    assert page.form(field="current-password").fill({"current-password": PASSWORD}).submit().status == 403


def test_a_tenant_may_turn_it_off(build_town: Callable[..., Town]) -> None:
    town = build_town(acme=OFF)
    town.broker.add("acme", email="ada@acme.test", username="ada")
    assert spray(town) == 130
    assert at_the_app(sign_in(town.browser(), "ada"), "ada@acme.test")


def test_a_tenant_may_always_ask(build_town: Callable[..., Town]) -> None:
    town = build_town(acme=ALWAYS)
    town.broker.add("acme", email="ada@acme.test", username="ada")
    browser = town.browser()
    page = at_password(browser)
    assert give(page, answer="").status == 403
    assert at_the_app(give(page), "ada@acme.test")
    browser.go(f"{town.broker.base}/t/acme/end-session")
    assert forget(open_app(browser), "ada").status == 403, "a known device is asked as well"
