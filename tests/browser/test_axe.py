"""axe on every page in every state, in a real Chromium: light and dark, on a telephone and on a desk."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser.gallery import SAMPLES, Visitor, chromium, gallery

pytestmark = pytest.mark.browser

WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
EVERYTHING = {"runOnly": WCAG, "resultTypes": ["violations", "incomplete"], "preload": False}
SEEN = ["color-contrast", "target-size", "link-in-text-block", "scrollable-region-focusable"]
"""The rules that depend on colours or on the size of the window; all others look at the document alone."""
LOOK = {**EVERYTHING, "runOnly": {"type": "rule", "values": SEEN}}
FINDINGS = """async rules => {
  const result = await axe.run(document, rules);
  return ['violations', 'incomplete'].flatMap(kind => result[kind].flatMap(rule =>
    rule.nodes.map(node => `${kind} ${rule.id}: ${node.html.slice(0, 120)}`)));
}"""
TOO_SMALL = """() => [...document.querySelectorAll('a, button, input, summary, select')].flatMap(one => {
  const style = getComputedStyle(one), box = one.getBoundingClientRect();
  if (one.type === 'hidden' || one.classList.contains('vh') || !box.width) return [];
  // Links within a sentence are exempt (WCAG 2.2, 2.5.8).
  if (one.tagName === 'A' && style.display === 'inline' && one.closest('p, li, dd, pre, .mail')) return [];
  // A box to tick is as large as its label.
  const label = one.type === 'checkbox' && one.labels[0].getBoundingClientRect();
  const height = Math.max(box.height, label ? label.height : 0);
  const control = one.matches('.btn, input, .menu a, .menu button') && one.type !== 'checkbox';
  const least = control ? 44 : 24;
  return height + .01 < least || Math.max(box.width, label ? label.width : 0) < 24
    ? [`${one.outerHTML.slice(0, 90)} is ${box.width} x ${height}`] : [];
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
def judge(browser: Browser, address: str) -> Iterator[Visitor]:
    """A visitor that has axe with it on every page: half a megabyte, so the others do without."""
    with browser.new_context() as context:
        yield Visitor(context.new_page(), address, axe=True)


VIEWS = ((360, "light", EVERYTHING), (360, "dark", LOOK), (1280, "dark", LOOK), (1280, "light", LOOK))


@pytest.mark.parametrize("name", SAMPLES)
def test_axe_finds_nothing_and_a_finger_can_hit_everything(judge: Visitor, name: str) -> None:
    judge.complaints.clear()
    found = []
    for width, scheme, rules in VIEWS:
        judge.see(name, width, scheme)
        found += [f"{width} {scheme} {finding}" for finding in judge.page.evaluate(FINDINGS, rules)]
        if rules is EVERYTHING:
            found += judge.page.evaluate(TOO_SMALL)
    assert found == []
    assert judge.complaints == [], "the console is empty: no file is missing, and the policy forbids nothing of ours"


ONE_A_PAGE = {sample.page.template: name for name, sample in SAMPLES.items()}.values()


@pytest.mark.parametrize("name", ONE_A_PAGE)
def test_a_language_from_right_to_left_fits_as_well(judge: Visitor, name: str) -> None:
    judge.see(name, 320, language="ar")
    assert judge.page.evaluate(FINDINGS, EVERYTHING) == []
