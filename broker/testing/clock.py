"""A clock that tests move by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Lock

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
"""A Monday morning without anything special to it."""


class FixedClock:
    """Implements `broker.core.ports.Clock`. Stands still until it is moved; safe over threads."""

    def __init__(self, start: datetime = START) -> None:
        """Raises `ValueError` for a naive time."""
        self._now = _aware(start)
        self._lock = Lock()

    def now(self) -> datetime:
        return self._now

    def advance(self, by: timedelta) -> datetime:
        """Move on and return the new time. Raises `ValueError` for a way back: use `set` for that."""
        if by < timedelta():
            raise ValueError("a clock is not advanced backwards: use set()")
        with self._lock:
            self._now += by
            return self._now

    def set(self, to: datetime) -> None:
        """Any time, earlier ones too. Raises `ValueError` for a naive one."""
        to = _aware(to)
        with self._lock:
            self._now = to


def _aware(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise ValueError("a naive time: say which time zone")
    return time.astimezone(UTC)
