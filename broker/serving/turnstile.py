"""How fast forms may come in, so that a flood of them leaves the processor to tokens and pages (SECURITY 13, 18)."""

from __future__ import annotations

import time
from collections.abc import Callable

SHARE = 0.02
"""Of a core, for forms while the leader hardly rests: some thirty attempts a second."""
RESERVE = 0.25
"""Of a core. A leader that rests less than this is busy: whom it answers takes a moment to ask again."""
WINDOW = 0.02
"""Seconds between two looks at how much the leader rests."""
AT_ONCE = 0.02
"""Seconds of processor time for forms that come together after a rest."""
FIRST_GUESS = 0.001
MANY = 0.25
"""Of the latest forms, refused: then it is a flood. Before that everybody comes in at once, however busy it is."""
LATEST = 32
"""How many forms that is, about."""


class Turnstile:
    """Open, until many forms are refused. Then forms get the time that the leader rests, less a reserve, and a small
    share when it does not rest.

    Used by the leader only. What a form takes is charged when it comes in, by what the last ones took; time that it
    waits, for a hash or for another server, is free.
    """

    __slots__ = ("_began", "_clock", "_cost", "_left", "_refused", "_rest", "_rested")

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._began = clock()
        self._rested = 0.0
        self._rest = 1.0
        self._left = AT_ONCE
        self._cost = FIRST_GUESS
        self._refused = 0.0

    def rested(self, since: float) -> None:
        """The leader had nothing to do since then, by the clock."""
        now = self._clock()
        self._rested += now - since
        window = now - self._began
        if window >= WINDOW:
            weight = min(1.0, window / (8 * WINDOW))
            self._rest += (self._rested / window - self._rest) * weight
            self._left = min(AT_ONCE, self._left + max(SHARE, self._rest - RESERVE) * window)
            self._began, self._rested = now, 0.0

    def enter(self) -> bool:
        """Whether one may come in now."""
        if self._left <= 0 and self._refused > MANY:
            return False
        self._owe(self._cost)
        return True

    def done(self, spent: float, *, form: bool, refused: bool) -> None:
        """A thread has answered something; it took so many seconds of processor time, which were no rest."""
        if form:
            self._refused += (refused - self._refused) / LATEST
            self._owe(spent - self._cost)
            self._cost += (spent - self._cost) / 16
        else:
            self._rested -= spent

    def _owe(self, seconds: float) -> None:
        """Never more than a moment's: what came in while it was open need not be paid back when it closes."""
        self._left = max(self._left - seconds, -AT_ONCE)
