"""Answers to refused attempts wait a moment before they are sent.

Whoever guesses passwords asks again as soon as he is answered. A refusal costs far less than a password hash, so
without this the guesses that are refused would take the processor from tokens and pages; a waiting answer takes none,
and no thread. People who are refused are told to wait anyway. Only so many wait: beyond that, the oldest goes out.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from broker.serving.http1 import Connection

SECONDS = 1.0
MOST = 256


class Answer(NamedTuple):
    """What goes out on a connection."""

    connection: Connection
    data: bytes
    keep: bool
    """Whether the connection stays."""
    by_thread: bool
    refused: bool
    spent: float = 0.0
    """Processor time, of what a thread did."""
    form: bool = False
    """Whether it came through the turnstile."""


class Held:
    """First in, first out: all wait for the same time. For one thread at a time."""

    def __init__(self, seconds: float = SECONDS, most: int = MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._most, self._clock = seconds, most, clock
        self._answers: deque[tuple[float, Answer]] = deque()

    def hold(self, answer: Answer) -> Answer | None:
        """The oldest, when there are too many."""
        self._answers.append((self._clock() + self._seconds, answer))
        return self._answers.popleft()[1] if len(self._answers) > self._most else None

    def due(self, *, everything: bool) -> Answer | None:
        """The oldest, when it has waited long enough, or `everything` is to go."""
        if self._answers and (everything or self._answers[0][0] <= self._clock()):
            return self._answers.popleft()[1]
        return None

    def next_in(self, most: float) -> float:
        """Seconds until one is due."""
        return min(most, max(0.0, self._answers[0][0] - self._clock())) if self._answers else most
