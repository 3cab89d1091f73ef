"""Somebody guesses passwords: what is counted, who waits, and who does not (SECURITY 13)."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest

from broker.core.errors import Throttled
from broker.core.tenant import ChallengeRule, GuardRules, Tenant
from broker.flows.guard import Account, Origin, neighbourhood
from broker.testing.page import Page
from broker.testing.town import PASSWORD, Town
from broker.testing.world import Browser
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


def guess(browser: Browser, identifier: str, number: int = 0) -> Page:
    return sign_in(browser, identifier, f"wrong password number {number}")


def guesses_until_refused(town: Town, identifier: str, address: str = "192.0.2.7") -> int:
    page = type_identifier(open_app(town.browser(address)), identifier)
    for number in count():
        page = type_password(page, f"wrong password number {number}")
        if page.status == 429:
            return number
    raise AssertionError


def test_an_attacker_with_fifty_addresses_does_not_keep_the_owner_out(town: Town) -> None:
    mine = town.browser("198.51.100.1")
    assert at_the_app(sign_in(mine, "ada"), "ada@acme.test")
    refused = [guess(town.browser(f"203.0.113.{n}"), "ada", n).status for n in range(50)]
    assert refused.count(422) == 5
    assert refused.count(429) == 45
    assert guess(town.browser("198.51.100.2"), "ada").status == 429, "a device that never signed in waits as well"
    again = type_password(type_identifier(open_app(mine, prompt="login"), "ada"))
    assert at_the_app(again, "ada@acme.test")


def test_a_device_is_known_after_signing_out(town: Town) -> None:
    mine = town.browser()
    sign_in(mine, "ada")
    mine.go(f"{town.broker.base}/t/acme/end-session")
    for number in range(6):
        guess(town.browser("203.0.113.9"), "ada", number)
    assert at_the_app(sign_in(mine, "ada"), "ada@acme.test")


def test_a_stolen_cookie_of_a_known_device_is_a_lane_and_no_session(town: Town) -> None:
    guard, tenant = town.broker.runtime.guard, town.broker.tenant("acme")
    user = town.broker.runtime.desk.find(tenant, "ada")
    stolen = guard.known_device(tenant, Account("ada", user), "")
    for _ in range(5):
        assert guard.password(tenant, Account("ada", user), Origin("203.0.113.1", stolen)).known
    with pytest.raises(Throttled):
        guard.password(tenant, Account("ada", user), Origin("203.0.113.2", stolen))
    other = town.broker.runtime.desk.find(tenant, "grace")
    assert not guard.password(tenant, Account("grace", other), Origin("203.0.113.1", stolen)).known


@pytest.mark.parametrize("forged", ["x", ".", "a.b", "A" * 22 + "." + "A" * 22, "A" * 22 + ".é", "." * 500, "\udcff"])
def test_a_made_up_cookie_opens_no_lane(town: Town, forged: str) -> None:
    guard, tenant = town.broker.runtime.guard, town.broker.tenant("acme")
    user = town.broker.runtime.desk.find(tenant, "ada")
    assert not guard.password(tenant, Account("ada", user), Origin("203.0.113.1", forged)).known
    made = guard.known_device(tenant, Account("ada", user), forged)
    assert guard.password(tenant, Account("ada", user), Origin("203.0.113.1", made)).known


def test_a_new_password_closes_the_lanes_of_the_old_one(town: Town) -> None:
    guard, tenant = town.broker.runtime.guard, town.broker.tenant("acme")
    old = guard.known_device(tenant, Account("ada", town.broker.runtime.desk.find(tenant, "ada")), "")
    browser = town.browser()
    forget(open_app(browser), "ada")
    assert at_the_app(choose_password(browser.go(reset_link(town, "ada@acme.test"))), "ada@acme.test")
    user = town.broker.runtime.desk.find(tenant, "ada")
    assert not guard.password(tenant, Account("ada", user), Origin("203.0.113.1", old)).known
    for number in range(6):
        guess(town.browser("203.0.113.9"), "ada", number)
    browser.go(f"{town.broker.base}/t/acme/end-session")
    assert at_the_app(sign_in(browser, "ada", NEW), "ada@acme.test"), "who chose the new password is known by it"


def test_username_and_address_of_an_account_share_one_counter(town: Town) -> None:
    names = ("ada", "ada@acme.test", "ADA@acme.test", "Ada")
    statuses = [guess(town.browser(f"203.0.113.{n}"), names[n % 4], n).status for n in range(8)]
    assert statuses == [422] * 5 + [429] * 3


def test_the_counter_closes_alike_for_somebody_and_for_nobody(town: Town) -> None:
    assert guesses_until_refused(town, "ada") == guesses_until_refused(town, "nobody") == 5
    assert guesses_until_refused(town, "nobody@acme.test") == 5


def test_waits_grow_and_the_owner_gets_in_between_them(town: Town) -> None:
    page = type_identifier(open_app(town.browser()), "ada")
    waits = []
    for number in range(40):
        page = type_password(page, f"wrong password number {number}")
        if page.status == 429:
            waits.append(int(page.headers["retry-after"]))
            assert page.form(field="current-password"), "the form is still there"
            town.later(seconds=waits[-1])
    assert waits[:9] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert set(waits[9:]) == {300}
    town.later(minutes=5)
    assert at_the_app(type_password(page), "ada@acme.test")


def test_a_right_password_gives_the_attempts_back(town: Town) -> None:
    for _ in range(3):
        page = type_identifier(open_app(town.browser()), "ada")
        for number in range(4):
            page = type_password(page, f"wrong password number {number}")
        assert at_the_app(type_password(page), "ada@acme.test")


def test_resetting_stays_open_whatever_was_guessed(town: Town) -> None:
    for number in range(20):
        guess(town.browser(f"203.0.113.{number}"), "ada", number)
    browser = town.browser("198.51.100.1")
    page = type_identifier(open_app(browser), "ada")
    assert type_password(page).status == 429
    assert forget(page, "ada").status == 200
    assert at_the_app(choose_password(browser.go(reset_link(town, "ada@acme.test"))), "ada@acme.test")


LATE = 10
"""What is counted is forgotten in real time, while the clock of these tests stands still: who pauses after the first of
them may begin anew."""


def admitted(town: Town, tenant: Tenant, origins: list[Origin]) -> int:
    """How many of these may try one password at an account each, where nobody asks for a challenge."""
    tenant = replace(tenant, rules=replace(tenant.rules, guard=GuardRules(ChallengeRule.OFF)))
    passed = 0
    for number, origin in enumerate(origins):
        try:
            town.broker.runtime.guard.password(tenant, Account(f"person{number}"), origin)
            passed += 1
        except Throttled:
            pass
    return passed


def test_one_password_for_five_hundred_accounts_from_one_address_ends_at_a_hundred(town: Town) -> None:
    assert admitted(town, town.broker.tenant("acme"), [Origin("203.0.113.1")] * 500) in range(100, 100 + LATE)


def test_one_network_of_ipv6_is_one_address(town: Town) -> None:
    tenant = town.broker.tenant("acme")
    assert admitted(town, tenant, [Origin(f"2001:db8:1:1::{n:x}") for n in range(300)]) in range(100, 100 + LATE)


def test_a_customer_with_many_networks_of_ipv6_is_bounded_too(town: Town) -> None:
    tenant = town.broker.tenant("acme")
    assert admitted(town, tenant, [Origin(f"2001:db8:7:{n:x}::1") for n in range(800)]) in range(500, 500 + LATE)


def test_the_networks_of_an_address() -> None:
    assert neighbourhood("203.0.113.9") == ("203.0.113.9",)
    assert neighbourhood("::ffff:203.0.113.9") == ("203.0.113.9",)
    assert neighbourhood("2001:db8:1:2:3::4") == ("2001:db8:1:2::/64", "2001:db8:1::/48")
    assert neighbourhood("127.0.0.1") == neighbourhood("::1") == ()
    assert neighbourhood("no address") == ("unknown",)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "CF-Connecting-IP", "True-Client-IP"])
def test_a_forged_forwarding_header_skips_no_count(town: Town, header: str) -> None:
    """From an address that is not among `trusted_proxies`: another name and another header each time."""
    browser = town.browser("203.0.113.5")
    page = browser.go(f"{town.broker.base}/t/acme/forgot")
    statuses = []
    for number in range(32):
        browser.headers = {header: f"for=198.51.100.{number}" if header == "Forwarded" else f"198.51.100.{number}"}
        form = page.form(field="username").fill(username=f"person{number}")
        statuses.append(form.submit().status)
    assert statuses == [200] * 30 + [429] * 2


def test_the_right_password_is_not_looked_at_while_one_waits(town: Town) -> None:
    page = type_identifier(open_app(town.browser()), "ada")
    for number in range(6):
        page = type_password(page, f"wrong password number {number}")
    assert type_password(page, PASSWORD).status == 429
