"""Everything that is wrong with a configuration, collected, so that one run shows all of it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NamedTuple

from broker.core.errors import ConfigurationError
from broker.settings.types import SHOWN

_SHORTEST_HIDDEN = 4
"""Characters. Shorter values are parts of ordinary words; replacing them would garble every message."""


class Position(NamedTuple):
    file: str
    line: int
    column: int
    """In characters, from 1."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Problems:
    def __init__(self) -> None:
        self._found: dict[tuple[Position, str, str], None] = {}
        self._secrets: set[str] = set()

    def add(self, position: Position, key: str, message: str) -> None:
        """`message` says what is wrong and what would be right. The same mistake is kept once."""
        self._found[position, key, message] = None

    def hide(self, value: str) -> None:
        """A value that came from a reference: never shown, whoever quotes it."""
        if len(value) >= _SHORTEST_HIDDEN:
            self._secrets.add(value)

    def __bool__(self) -> bool:
        return bool(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def lines(self) -> list[str]:
        """`file:line:column: key: what is wrong, what would be right`, in the order of the files."""
        lines = []
        for position, key, message in sorted(self._found):
            for value in self._secrets:
                key, message = key.replace(value, SHOWN), message.replace(value, SHOWN)
            lines.append(f"{position}: {key}: {message}" if key else f"{position}: {message}")
        return list(dict.fromkeys(lines))

    def error(self) -> ConfigurationError:
        return ConfigurationError(self.lines())


def guess(word: str, known: Iterable[str], *, what: str = "known here") -> str:
    """What somebody may have meant; else all there is."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    if not known:
        return f"nothing is {what}"
    return f"{what}: {', '.join(known)}"
