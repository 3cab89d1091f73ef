"""Many callers at one moment."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

T = TypeVar("T")

CALLERS = 32
ROUNDS = 20


def race(action: Callable[[int], T], callers: int = CALLERS) -> list[T]:
    """Call `action(0)`, `action(1)`, ... from as many threads, all released together; the results in that order."""
    start = Barrier(callers)

    def run(number: int) -> T:
        start.wait()
        return action(number)

    with ThreadPoolExecutor(callers) as pool:
        return list(pool.map(run, range(callers)))
