"""A challenge in a real Chromium: solved by the page itself, and what is there for somebody without scripts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broker.demo.sample import PASSWORD
from tests.browser.journeys.people import Demo, Window

pytestmark = pytest.mark.browser

Open = Callable[..., Window]


def at_the_form(window: Window) -> None:
    """Test-Acme always asks."""
    window.page.goto(f"{window.demo.app}/login/test-acme")
    window.arrive("login")
    if not window.page.locator("input[autocomplete=current-password]").count():
        window.type_identifier("ada")
        window.arrive("password")


def send(window: Window) -> None:
    name = window.page.locator("main input[autocomplete~=username]:not([readonly])")
    if name.count():
        name.fill("ada")
    window.type_password(PASSWORD)


def test_the_page_solves_it_by_itself_and_says_so(demo: Demo, window: Window) -> None:
    at_the_form(window)
    window.page.get_by_text("Checked: this is not a program.").wait_for()
    send(window)
    window.is_at_the_app_as("ada@acme.example")
    assert not window.blocked


def test_what_is_sent_while_it_is_being_solved_goes_on_by_itself(demo: Demo, window: Window) -> None:
    window.page.add_init_script("""
        globalThis.held = new Promise((go) => globalThis.letGo = go);
        const digest = crypto.subtle.digest.bind(crypto.subtle);
        crypto.subtle.digest = async (...all) => { await held; return digest(...all); };
    """)
    at_the_form(window)
    here = window.page.url
    send(window)
    window.page.get_by_text("Checking that this is not a program.").wait_for()
    assert window.page.url == here
    window.page.evaluate("letGo()")
    window.is_at_the_app_as("ada@acme.example")


def test_without_scripts_the_page_says_that_one_may_wait(demo: Demo, open_window: Open) -> None:
    window = open_window(java_script_enabled=False)
    at_the_form(window)
    window.page.get_by_text("please wait a minute on this page").wait_for()
    send(window)
    window.page.get_by_role("alert").wait_for()
    assert window.name == "password"
    assert window.page.locator("input[autocomplete=current-password]").count() == 1
