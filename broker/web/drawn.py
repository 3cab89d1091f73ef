"""The pages of every login, drawn once for each app and language, with places for what is a visit's own.

A first page differs from the next person's in a transaction, a reference, an identifier and the values of its forms:
those are put into the HTML of the last time, which takes a tenth of drawing it (docs/decisions/hot-paths.md). Nothing
of a visit is kept: what is remembered was drawn with the places in it, before anybody's values came.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from markupsafe import escape

from broker.core.attempts import Puzzle
from broker.web.pages import Chrome, LoginPage, Page, PasswordPage
from broker.web.pages_recovery import ForgotPage

Pieces = tuple[str, ...]
"""Text and the name of a place, in turn."""
UsualPage = LoginPage | PasswordPage | ForgotPage

# Characters for private use, which `escape` passes on, and which no text of ours or of a configuration has.
_OPEN, _CLOSE = "\ue000", "\ue001"
_PLACE = re.compile(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}")

TX, REFERENCE, IDENTIFIER, WAIT = "tx", "reference", "identifier", "wait"
"""Names of places; the last is that of a time in words. One with a colon is a fact of the challenge of a form,
`salt:password`; every other one is that of a form, for its CSRF value."""


def _place(name: str) -> str:
    return f"{_OPEN}{name}{_CLOSE}"


def _nobodys(puzzle: Puzzle, form: str) -> Puzzle:
    salt, target, signature, waited = (_place(f"{fact}:{form}") for fact in ("salt", "target", "signature", "waited"))
    return Puzzle(salt, target, puzzle.most, signature, waited)


def cut(draw: Callable[[Page, Chrome], str], page: UsualPage, chrome: Chrome) -> Pieces:
    """A page for anybody."""
    frame = replace(
        chrome,
        csrf=_place,
        tx=_place(TX) if chrome.tx else "",
        reference=_place(REFERENCE) if chrome.reference else "",
    )
    if (puzzle := chrome.puzzle) is not None:
        frame = replace(frame, puzzle=lambda form: _nobodys(puzzle(form), form))
    anybody = replace(page, identifier=_place(IDENTIFIER)) if page.identifier else page
    if anybody.retry_after:
        anybody = replace(anybody, retry_after=_place(WAIT))  # type: ignore[arg-type]  # `duration` passes it on
    if isinstance(anybody, LoginPage) and anybody.sent is not None and anybody.identifier:
        # A mail was asked for with what the page shows as typed before.
        anybody = replace(anybody, sent=replace(anybody.sent, identifier=_place(IDENTIFIER)))
    return tuple(_PLACE.split(draw(anybody, frame)))


def fill(pieces: Pieces, value: Callable[[str], str]) -> str:
    """The page of a visit; `value` says what stands at a place."""
    filled = list(pieces)
    for position in range(1, len(filled), 2):
        filled[position] = escape(value(filled[position]))
    return "".join(filled)
