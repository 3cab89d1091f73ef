"""Whether waiting for the stores is cheaper than a thread that waits for them."""

from __future__ import annotations

import time
from collections.abc import Callable

SLOW_SECONDS = 0.0005
"""When the leader waits that long for stores in each request, threads are cheaper than waiting."""
PAUSE_SECONDS = 5.0
"""How long quick requests go to threads after that."""


class Pace:
    """Whether quick requests are answered by the leader: only while the stores answer at once."""

    __slots__ = ("_clock", "_mean", "_until")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = 0.0
        self._mean = 0.0

    @property
    def inline(self) -> bool:
        return self._clock() >= self._until

    def waited(self, seconds: float) -> None:
        """The leader stood still in a request. One long wait counts little: it may be another program's turn."""
        self._mean += (min(seconds, 4 * SLOW_SECONDS) - self._mean) / 64
        if self._mean > SLOW_SECONDS:
            self.pause()

    def pause(self) -> None:
        """Threads for a while. Also while those of them that should be quick still hang."""
        self._until = self._clock() + PAUSE_SECONDS
        self._mean = 0.0
