"""What axe does not see (PAGES, how they are judged): the shape of every page, and its comfort, in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser.gallery import SAMPLES, Visitor, chromium, gallery

pytestmark = pytest.mark.browser

CUT = """() => [...document.querySelectorAll('body *')].flatMap(one => {
  if (one.closest('.vh, svg, script') || one.tagName === 'INPUT') return [];
  const box = one.getBoundingClientRect();
  const cut = one.clientWidth > 0 && one.scrollWidth > one.clientWidth + 1;
  return box.width && (box.right > innerWidth + 1 || box.left < -1 || cut)
    ? [`${one.outerHTML.slice(0, 90)}: ${box.left} to ${box.right}, ${one.scrollWidth} in ${one.clientWidth}`] : [];
})"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with gallery() as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def visitor(browser: Browser, address: str) -> Iterator[Visitor]:
    with browser.new_context() as context:
        yield Visitor(context.new_page(), address)


ONE_A_PAGE = {sample.page.template: name for name, sample in SAMPLES.items()}.values()


@pytest.mark.parametrize(
    ("name", "language"), [(name, "en-XA") for name in SAMPLES] + [(name, "ar") for name in ONE_A_PAGE]
)
def test_nothing_scrolls_sideways_in_a_longer_language(visitor: Visitor, name: str, language: str) -> None:
    visitor.see(name, 320, language=language)
    assert visitor.page.evaluate(CUT) == []
    assert not visitor.page.evaluate("document.documentElement.scrollWidth > innerWidth")


@pytest.mark.parametrize("name", [name for name in SAMPLES if name.startswith("login/")])
def test_the_login_page_has_ten_tab_stops_at_most(visitor: Visitor, name: str) -> None:
    visitor.page.goto(f"{visitor.address}/en/{name}")
    stops = visitor.page.evaluate(
        """() => [...document.querySelectorAll('a[href], button, input, summary')].filter(one =>
             one.type !== 'hidden' && one.tabIndex >= 0 && one.checkVisibility() && !one.closest('footer')).length"""
    )
    # Five buttons, more ways, sign-up and cancel together are two more than a page should ask for; nothing is left out.
    assert 1 <= stops <= (12 if name == "login/many-ways" else 10)


@pytest.mark.parametrize("name", ["login/empty", "password/wrong", "reset/too-short", "admin/confirm-password-wrong"])
def test_the_summary_is_read_first_and_leads_to_the_field(visitor: Visitor, name: str) -> None:
    page = visitor.page
    page.goto("about:blank")
    page.goto(f"{visitor.address}/en/{name}")
    page.wait_for_function("document.activeElement.getAttribute('role') === 'alert'")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('aria-invalid')") == "true"


def test_a_password_can_be_shown_and_is_hidden_before_it_is_sent(visitor: Visitor) -> None:
    page = visitor.page
    page.goto(f"{visitor.address}/en/password/plain")
    page.fill("#password", "a secret sentence")
    kind = "document.getElementById('password').type"
    page.get_by_role("button", name="Show password").click()
    assert page.evaluate(kind) == "text"
    page.get_by_role("button", name="Hide password").click()
    assert page.evaluate(kind) == "password"
    page.get_by_role("button", name="Show password").click()
    page.evaluate(
        "document.querySelector('[data-once] #password').form.addEventListener('submit', e => e.preventDefault())"
    )
    page.get_by_role("button", name="Sign in").click()
    assert page.evaluate(kind) == "password"


def test_a_second_click_sends_nothing(visitor: Visitor) -> None:
    page = visitor.page
    page.goto(f"{visitor.address}/en/consent/all-scopes")
    page.evaluate(
        """() => { window.sent = 0; document.forms[0].addEventListener('submit', e => {
             if (!e.defaultPrevented) window.sent += 1; e.preventDefault(); }) }"""
    )
    for _ in range(3):
        page.get_by_role("button", name="Allow", exact=True).click()
    assert page.evaluate("window.sent") == 1


def test_rules_are_ticked_off_while_a_password_is_typed(visitor: Visitor) -> None:
    page = visitor.page
    page.goto(f"{visitor.address}/en/reset/plain")
    classes = "[...document.querySelectorAll('#rules li')].map(one => one.className)"
    assert page.evaluate(classes) == ["", "", ""]
    page.fill("#password", "acme1")
    assert page.evaluate(classes) == ["", "no", ""]
    page.fill("#password", "four quiet words here")
    assert page.evaluate(classes) == ["ok", "ok", ""]
    assert page.inner_text("#rules-met") == "Long enough"
    page.fill("#password", "")
    assert page.evaluate(classes) == ["", "", ""]


def test_a_first_visit_costs_four_small_requests(browser: Browser, address: str) -> None:
    context = browser.new_context()
    visitor = Visitor(context.new_page(), address)
    sizes: list[int] = []
    visitor.page.on("requestfinished", lambda request: sizes.append(request.sizes()["responseBodySize"]))
    visitor.page.goto(f"{address}/en/login/first-visit", wait_until="networkidle")
    assert 3 <= len(visitor.requests) <= 4
    assert all(url.startswith(address) for url in visitor.requests)
    assert sum(sizes) <= 20_000
    context.close()


def test_everything_is_there_without_a_script(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/en/reset/plain")
    assert page.get_by_role("button", name="Save password").is_visible()
    assert not page.get_by_text("Show", exact=True).is_visible()
    page.goto(f"{address}/en/admin/user")
    page.get_by_text("More").click()
    assert page.get_by_role("button", name="Send a password reset").is_visible()
    context.close()


def test_words_stay_readable_in_forced_colours_and_in_print(visitor: Visitor) -> None:
    page = visitor.page
    page.goto(f"{visitor.address}/en/login/mail-sent")
    page.emulate_media(forced_colors="active")
    assert page.evaluate("getComputedStyle(document.querySelector('.btn')).borderTopStyle") == "solid"
    page.emulate_media(forced_colors="none", media="print")
    assert page.get_by_text("We've just sent you an email").is_visible()
    page.emulate_media(media="screen")
