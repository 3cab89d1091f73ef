"""What is kept of a page is everybody's, and comes out as if it had been drawn for this visit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from broker import resources
from broker.core.attempts import Puzzle
from broker.testing.pages import Sample, samples
from broker.web.assets import Assets
from broker.web.drawn import cut, fill
from broker.web.pages import Chrome, LoginPage, Page, PasswordPage
from broker.web.pages_recovery import ForgotPage
from broker.web.render import Renderer

RENDERER = Renderer(resources.templates(), Assets(resources.templates() / "static"))
OFTEN = [one for one in samples() if isinstance(one.page, (LoginPage, PasswordPage, ForgotPage))]


def puzzle_of(person: str) -> Callable[[str], Puzzle]:
    return lambda form: Puzzle(f"salt-{person}?a&b", f"target-{person}", 2_000, f"<{form}", f"waited-{person}")


def value(chrome: Chrome, name: str) -> str:
    """Of a form: its challenge, or its CSRF value."""
    fact, colon, form = name.partition(":")
    if not colon:
        return chrome.csrf(name)
    assert chrome.puzzle is not None
    return str(getattr(chrome.puzzle(form), fact))


@pytest.mark.parametrize("identifier", ['<ada & "co">@acme.test', ""], ids=["known", "unknown"])
@pytest.mark.parametrize("sample", OFTEN, ids=lambda one: one.name)
def test_a_page_from_memory_is_the_page_that_would_be_drawn(sample: Sample, identifier: str) -> None:
    page = replace(sample.page, identifier=identifier)  # type: ignore[call-arg]
    if isinstance(page, LoginPage) and page.sent is not None and identifier:
        page = replace(page, sent=replace(page.sent, identifier=identifier))
    pieces = RENDERER.pieces(page, replace(sample.chrome, tx="another", reference="another"))  # type: ignore[arg-type]
    for person in ("one", "two"):
        own = {"tx": f"tx-{person}", "reference": f"reference-of-{person}", "identifier": identifier}
        own["wait"] = RENDERER.duration(sample.chrome.language, sample.page.retry_after)  # type: ignore[attr-defined]
        chrome = replace(
            sample.chrome, csrf=lambda form, person=person: f"{form}-of-{person}<", tx=own["tx"],
            reference=own["reference"], puzzle=sample.chrome.puzzle and puzzle_of(person),
        )  # fmt: skip
        filled = fill(pieces, lambda name, own=own, chrome=chrome: own.get(name) or value(chrome, name))
        assert filled == RENDERER.render(page, chrome)


@pytest.mark.parametrize("name", ["login/first-visit", "login/mail-sent", "forgot/plain"])
def test_what_is_kept_knows_nobody(name: str) -> None:
    drawn: list[tuple[Page, Chrome]] = []

    def draw(page: Page, chrome: Chrome) -> str:
        drawn.append((page, chrome))
        return RENDERER.render(page, chrome)

    sample = next(one for one in OFTEN if one.name == name)
    page = replace(sample.page, identifier="ada@acme.test")  # type: ignore[call-arg]
    if isinstance(page, LoginPage) and page.sent is not None:
        page = replace(page, sent=replace(page.sent, identifier="ada@acme.test"))
    chrome = replace(sample.chrome, tx="tx-of-ada", reference="7K3Q", csrf=lambda form: f"csrf-of-ada-{form}")
    kept = repr((cut(draw, page, chrome), drawn))  # type: ignore[arg-type]
    for own in ("ada@acme.test", "tx-of-ada", "csrf-of-ada", "7K3Q"):
        assert own not in kept
