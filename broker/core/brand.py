"""A tenant's colour on our pages, readable in the light and in the dark scheme (WCAG 2.2, 1.4.3: 4.5 to 1).

How pages use it, exactly. Each scheme has one *accent*: the background of the main button, the colour of links, and
the focus ring. The accent must contrast at least 4.5 to 1 with the page behind it, since links are text on the page:

* light: `branding.color` as it stands, on `LIGHT_PAGE`. A colour that is too pale is refused when the configuration
  loads, with the nearest darker one that would pass.
* dark: `branding.color_dark` on `DARK_PAGE`, refused likewise when it is too dark; without one, `branding.color`
  mixed with just as much white as it needs.

The text on the button is the *ink*: white or black, whichever contrasts more with the accent. One of the two always
reaches 4.58 to 1, whatever the accent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LIGHT_PAGE = "#ffffff"
DARK_PAGE = "#16181d"
"""The pages' own backgrounds. A style sheet may use a lighter one in light, a darker one in dark, never the reverse."""
ENOUGH = 4.5
_WHITE, _BLACK = "#ffffff", "#000000"
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True, slots=True)
class Tint:
    """What one scheme takes from a brand; `#rrggbb` each."""

    accent: str
    ink: str
    """On the accent."""


@dataclass(frozen=True, slots=True)
class Palette:
    light: Tint
    dark: Tint


def parse_color(text: str) -> tuple[int, int, int]:
    """`#rrggbb`. Raises `ValueError`."""
    if not _COLOR.fullmatch(text):
        raise ValueError("not a colour of the form #rrggbb")
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def luminance(color: str) -> float:
    """Relative luminance, 0 (black) to 1 (white), as WCAG 2.2 defines it. Raises `ValueError`."""
    red, green, blue = (_linear(channel / 255) for channel in parse_color(color))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else float(((channel + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """From 1 to 21 (WCAG 2.2, contrast ratio). Raises `ValueError`."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def ink(accent: str) -> str:
    """White or black, whichever is easier to read on the accent."""
    return max(_WHITE, _BLACK, key=lambda candidate: contrast(candidate, accent))


def nearest(color: str, page: str) -> str:
    """The colour mixed with as little black or white as gives it enough contrast with the page; itself if it has it."""
    towards = _WHITE if luminance(page) < luminance("#767676") else _BLACK
    return next(
        mixed for mixed in (_mix(color, towards, step) for step in range(256)) if contrast(mixed, page) >= ENOUGH
    )


def _mix(color: str, other: str, step: int) -> str:
    """`step` of 255 parts are the other's."""
    pairs = zip(parse_color(color), parse_color(other), strict=True)
    return "#" + "".join(f"{(a * (255 - step) + b * step) // 255:02x}" for a, b in pairs)


def palette(color: str, color_dark: str | None = None) -> Palette:
    """The accents and inks of both schemes, from colours that passed `complaint`. Raises `ValueError`."""
    dark = (color_dark or nearest(color, DARK_PAGE)).lower()
    light = color.lower()
    return Palette(Tint(light, ink(light)), Tint(dark, ink(dark)))


def complaint(color: str, page: str) -> str | None:
    """Why a colour cannot be an accent on a page, and what could; None when it can. Raises `ValueError`."""
    ratio = contrast(color, page)
    if ratio >= ENOUGH:
        return None
    scheme = "light" if page == LIGHT_PAGE else "dark"
    # Rounded down: 4.496 is not 4.5.
    return (
        f"has a contrast of {int(ratio * 100) / 100:.2f} to 1 with the {scheme} page ({page}); "
        f"at least {ENOUGH} to 1 would be right, for example {nearest(color, page)}"
    )
