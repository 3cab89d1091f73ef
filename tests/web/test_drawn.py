"""What is kept of a page is everybody's, and comes out as if it had been drawn for this visit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker import resources
from broker.testing.pages import Sample, samples
from broker.web.assets import Assets
from broker.web.drawn import Drawn
from broker.web.pages import Chrome, Page
from broker.web.render import Renderer

ASSETS = Assets(resources.templates() / "static")
OFTEN = [one for one in samples() if one.page.name in ("login", "password")]


class Counting:
    """Draws for real, and remembers for whom."""

    def __init__(self) -> None:
        self.renderer = Renderer(resources.templates(), ASSETS)
        self.drawn: list[tuple[Page, Chrome]] = []

    def draw(self, page: Page, chrome: Chrome) -> str:
        self.drawn.append((page, chrome))
        return self.renderer._draw(page, chrome)


@pytest.mark.parametrize("sample", OFTEN, ids=lambda one: one.name)
def test_a_page_from_memory_is_the_page_that_would_be_drawn(sample: Sample) -> None:
    counting = Counting()
    drawn = Drawn(counting.draw)
    page = replace(sample.page, identifier='<ada & "co">@acme.test')  # type: ignore[call-arg]
    for person in ("one", "two"):
        chrome = replace(
            sample.chrome, csrf=lambda form, person=person: f"{form}-of-{person}<", tx=f"tx-{person}", reference="7K3Q"
        )
        assert drawn.render(page, chrome) == counting.renderer._draw(page, chrome)
        assert drawn.render(sample.page, chrome) == counting.renderer._draw(sample.page, chrome)


def test_the_first_page_of_an_app_is_drawn_once_and_knows_nobody() -> None:
    counting = Counting()
    drawn = Drawn(counting.draw)
    sample = next(one for one in OFTEN if one.page.name == "login")
    for person in ("ada", "bob", "eve"):
        page = replace(sample.page, identifier=f"{person}@acme.test")  # type: ignore[call-arg]
        html = drawn.render(page, replace(sample.chrome, tx=f"tx-{person}", csrf=lambda form: f"csrf-{form}"))
        assert f"{person}@acme.test" in html
        assert f"tx-{person}" in html
    assert len(counting.drawn) == 1
    assert "ada" not in repr(counting.drawn)
    assert "tx-" not in repr(counting.drawn)
