"""A short queue before few hashes at a time: who may wait, and who goes first (SECURITY 13, 18)."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager

from broker.core.errors import Busy


class HashQueue:
    """`places` callers hash at a time, and at most `room` wait for that, each in the own thread.

    One asker has at most a quarter of the room, so that one address cannot fill it; and the last quarter is for those
    who go first.
    """

    def __init__(self, places: int, room: int) -> None:
        self._places = places
        self._limit = places + room
        self._share = places + max(room // 4, 1)
        self._reserved = room // 4
        self._lock = threading.Lock()
        self._empty = threading.Condition(self._lock)
        self._present: Counter[tuple[str, bool]] = Counter()
        self._inside = 0
        self._first: deque[threading.Lock] = deque()
        self._others: deque[threading.Lock] = deque()
        self._closed = False

    @property
    def waiting(self) -> int:
        return len(self._first) + len(self._others)

    @contextmanager
    def turn(self, asker: str = "", *, first: bool = False) -> Iterator[None]:
        """A place, as soon as there is one. Raises `Busy` at once when there is no room to wait for it."""
        whose = (asker, first)
        turn = self._enter(whose)
        try:
            if turn is not None:
                turn.acquire()
            yield
        finally:
            self._leave(whose, turn)

    def close(self) -> None:
        """Nobody else comes in. Waits for those who are."""
        with self._lock:
            self._closed = True
            self._empty.wait_for(lambda: not self._inside)

    def _enter(self, whose: tuple[str, bool]) -> threading.Lock | None:
        """What to wait for, if anything."""
        asker, first = whose
        with self._lock:
            if self._closed:
                raise Busy("password hashing is stopping")
            if self._inside >= self._limit - (0 if first else self._reserved):
                raise Busy("the queue for password hashing is full")
            if asker and self._present[whose] >= self._share:
                raise Busy("one address has its share of the queue for password hashing")
            self._inside += 1
            self._present[whose] += 1
            if self._inside <= self._places:
                return None
            turn = threading.Lock()  # a third of the price of an Event
            turn.acquire()
            self._line(first).append(turn)
            return turn

    def _line(self, first: bool) -> deque[threading.Lock]:
        return self._first if first else self._others

    def _leave(self, whose: tuple[str, bool], turn: threading.Lock | None) -> None:
        """The next one has the place, if this one had it."""
        with self._lock:
            self._inside -= 1
            self._present[whose] -= 1
            if not self._present[whose]:
                del self._present[whose]
            line = self._line(whose[1])
            if turn is not None and turn in line:
                line.remove(turn)  # interrupted while it waited
            elif turns := self._first or self._others:
                turns.popleft().release()
            if not self._inside:
                self._empty.notify_all()
