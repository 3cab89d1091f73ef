"""The script of our pages solves a challenge in a real Chromium, under the page's own policy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Browser, Page, Route

from broker import resources
from broker.services.puzzles import AltchaPuzzles
from broker.services.secrets import SecretVault
from broker.testing.clock import FixedClock
from broker.testing.entropy import SeededEntropy
from broker.testing.pages import CHROME
from broker.web.assets import Assets
from broker.web.headers import security_headers
from broker.web.pages import LoginPage, PasswordPage
from broker.web.render import Renderer
from tests.browser.gallery import chromium

pytestmark = pytest.mark.browser

PLACE = "http://localhost/t/acme/login/password"
ONE_PAGE = "http://localhost/t/acme/login"
"""Identifier and password together."""
BOUND = ("acme", "tx", "browser", "password")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


class House:
    """Answers with the password page, and keeps what its form sends."""

    def __init__(self, page: Page) -> None:
        self.sent: list[dict[str, list[str]]] = []
        self.complaints: list[str] = []
        self.puzzles = AltchaPuzzles(SecretVault(b"k" * 32), FixedClock(), SeededEntropy("house"))
        self.assets = Assets(resources.templates() / "static")
        self.page = page
        page.on("console", lambda message: self.complaints.append(message.text))
        page.route("**/*", self.answer)

    def answer(self, route: Route) -> None:
        if "/static/" in route.request.url:
            asset = self.assets.find(route.request.url.rpartition("/")[2])
            headers, body = asset.answer() if asset else ({}, b"")
            return route.fulfill(headers=dict(headers), body=body)
        if route.request.method == "POST":
            self.sent.append(parse_qs(route.request.post_data or "", keep_blank_values=True))
        chrome = replace(CHROME, puzzle=lambda _: self.puzzles.make(*BOUND))
        shown = LoginPage(ask_password=True) if "/password" not in route.request.url else PasswordPage("ada")
        html = Renderer(resources.templates(), self.assets).render(shown, chrome)
        return route.fulfill(headers=dict(security_headers()), content_type="text/html", body=html)

    def send(self) -> None:
        field = self.page.locator("input[autocomplete=current-password]")
        field.fill("a password")
        field.press("Enter")

    def met(self) -> bool:
        answer = self.sent[0]["challenge"][0]
        return bool(answer) and self.puzzles.met(answer, "", *BOUND) is not None


@pytest.fixture
def house(browser: Browser) -> Iterator[House]:
    with browser.new_context() as context:
        yield House(context.new_page())


@pytest.mark.parametrize("place", [PLACE, ONE_PAGE])
def test_the_page_solves_it_by_itself_and_says_so(house: House, place: str) -> None:
    house.page.goto(place)
    house.page.get_by_text("Checked: this is not a program.").wait_for()
    with house.page.expect_navigation():
        house.send()
    assert house.met()
    assert house.complaints == []


def test_what_is_sent_while_it_is_being_solved_goes_on_by_itself(house: House) -> None:
    house.page.add_init_script("""
        globalThis.held = new Promise((go) => globalThis.letGo = go);
        const digest = crypto.subtle.digest.bind(crypto.subtle);
        crypto.subtle.digest = async (...all) => { await held; return digest(...all); };
    """)
    house.page.goto(PLACE)
    house.send()
    house.page.get_by_text("Checking that this is not a program.").wait_for()
    assert house.sent == []
    with house.page.expect_navigation():
        house.page.evaluate("letGo()")
    assert house.met()
    assert len(house.sent) == 1


def test_a_browser_that_cannot_is_told_to_wait(house: House) -> None:
    house.page.add_init_script("Object.defineProperty(globalThis.crypto, 'subtle', {value: undefined})")
    house.page.goto(PLACE)
    house.page.get_by_text("please wait a minute on this page").wait_for()
    with house.page.expect_navigation():
        house.send()
    assert house.sent[0]["challenge"] == [""]
    assert house.sent[0]["waited"] != [""]
