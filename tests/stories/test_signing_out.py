"""RP-Initiated Logout 1.0, without an app that asks for it."""

from __future__ import annotations

from broker.testing.town import Town
from tests.stories.journeys import sign_in


def test_without_parameters_it_signs_out_and_says_so(town: Town) -> None:
    """What certification asks: no parameters, log out and say so."""
    browser = town.browser()
    sign_in(browser, "ada")
    assert browser.go(f"{town.broker.base}/t/acme/end-session").data_page == "signout-done"
    assert browser.go(f"{town.broker.base}/t/acme/account").data_page == "login"


def test_a_link_on_somebody_elses_page_signs_nobody_out_without_a_question(town: Town) -> None:
    browser = town.browser()
    sign_in(browser, "ada")
    asked = browser.go(f"{town.broker.base}/t/acme/end-session", initiator="https://evil.test/")
    assert asked.data_page == "signout"
    assert browser.go(f"{town.broker.base}/t/acme/account").data_page == "account"
