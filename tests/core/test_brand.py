"""Contrast, by the definitions of WCAG 2.2."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.brand import (
    DARK_PAGE,
    ENOUGH,
    LIGHT_PAGE,
    complaint,
    contrast,
    ink,
    luminance,
    nearest,
    palette,
    parse_color,
)

COLORS = st.integers(0, 0xFFFFFF).map(lambda value: f"#{value:06x}")


@pytest.mark.parametrize(
    ("one", "other", "ratio"),
    [
        # Known values, as published by several contrast checkers.
        ("#000000", "#ffffff", 21.0),
        ("#767676", "#ffffff", 4.54),
        ("#777777", "#ffffff", 4.48),
        ("#0000ff", "#ffffff", 8.59),
        ("#ff0000", "#ffffff", 4.0),
        ("#ffff00", "#ffffff", 1.07),
    ],
)
def test_contrast_is_what_wcag_says(one: str, other: str, ratio: float) -> None:
    assert contrast(one, other) == pytest.approx(ratio, abs=0.005)
    assert contrast(other, one) == contrast(one, other)


def test_luminance_goes_from_black_to_white() -> None:
    assert luminance("#000000") == 0
    assert luminance("#FFFFFF") == pytest.approx(1)


@pytest.mark.parametrize(
    "text", ["", "blue", "#fff", "#12345", "#1234567", "0b5fff", "#0b5ffg", "#0b5fff\n", "#٠٠٠٠٠٠"]
)
def test_only_rrggbb_is_a_colour(text: str) -> None:
    with pytest.raises(ValueError, match="#rrggbb"):
        parse_color(text)


@given(COLORS)
def test_some_ink_is_always_readable(color: str) -> None:
    assert contrast(ink(color), color) >= 4.58


@given(COLORS, st.sampled_from([LIGHT_PAGE, DARK_PAGE]))
def test_the_nearest_colour_has_enough_contrast_and_no_more_change_than_needed(color: str, page: str) -> None:
    found = nearest(color, page)
    assert contrast(found, page) >= ENOUGH
    assert (found == color) == (contrast(color, page) >= ENOUGH)


@given(COLORS)
def test_a_colour_that_is_refused_is_answered_with_one_that_is_not(color: str) -> None:
    reason = complaint(color, LIGHT_PAGE)
    if reason is None:
        tints = palette(color)
        assert contrast(tints.light.accent, LIGHT_PAGE) >= ENOUGH
        assert contrast(tints.dark.accent, DARK_PAGE) >= ENOUGH
        assert contrast(tints.light.accent, tints.light.ink) >= ENOUGH
        assert contrast(tints.dark.accent, tints.dark.ink) >= ENOUGH
    else:
        assert complaint(reason.rpartition(" ")[2], LIGHT_PAGE) is None


def test_a_dark_colour_of_its_own_is_kept() -> None:
    tints = palette("#0B5FFF", "#7AA7FF")
    assert (tints.light.accent, tints.dark.accent) == ("#0b5fff", "#7aa7ff")
    assert (tints.light.ink, tints.dark.ink) == ("#ffffff", "#000000")
