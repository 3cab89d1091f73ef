"""The pages of every login, drawn once for each app and language, with places for what is a visit's own.

A first page differs from the next person's in a transaction, a reference, an identifier and the values of its forms:
those are put into the HTML of the last time, which takes a tenth of drawing it (docs/decisions/hot-paths.md). Nothing
of a visit is kept: what is remembered was drawn with the places in it, before anybody's values came.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from markupsafe import escape

from broker.web.pages import Chrome, LoginPage, Page, PasswordPage

KEPT = 1024
"""Pages, of a few kB each: one for each app, language, and way that a login page can look."""

# Characters for private use, which `escape` passes on, and which no text of ours or of a configuration has.
_OPEN, _CLOSE = "\ue000", "\ue001"
_PLACE = re.compile(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}")


def _place(name: str) -> str:
    return f"{_OPEN}{name}{_CLOSE}"


_TX, _REFERENCE, _IDENTIFIER = (_place(name) for name in ("tx", "reference", "identifier"))


class Drawn:
    """Draws through `draw`, and again only where something else than a visit's own values changed."""

    def __init__(self, draw: Callable[[Page, Chrome], str]) -> None:
        self._draw = draw
        self._pieces = lru_cache(maxsize=KEPT)(self._cut)

    def render(self, page: Page, chrome: Chrome) -> str:
        """The same HTML that `draw` would make of these."""
        if not isinstance(page, (LoginPage, PasswordPage)) or _changing(page, chrome):
            return self._draw(page, chrome)
        frame = replace(
            chrome, csrf=_place, tx=_TX if chrome.tx else "", reference=_REFERENCE if chrome.reference else ""
        )
        pieces = list(self._pieces(_anybody(page), frame))
        own = {"tx": chrome.tx, "reference": chrome.reference, "identifier": page.identifier}
        for position in range(1, len(pieces), 2):
            name = pieces[position]
            pieces[position] = escape(own[name] if name in own else chrome.csrf(name))
        return "".join(pieces)

    def _cut(self, page: Page, frame: Chrome) -> tuple[str, ...]:
        """Text and the name of a place, in turn."""
        return tuple(_PLACE.split(self._draw(page, frame)))


def _changing(page: LoginPage | PasswordPage, chrome: Chrome) -> bool:
    return page.notice is not None or page.error is not None or chrome.puzzle is not None


def _anybody(page: LoginPage | PasswordPage) -> Page:
    return replace(page, identifier=_IDENTIFIER) if page.identifier else page
