"""The real time. The only module that asks the system for it."""

from __future__ import annotations

from datetime import UTC, datetime


class SystemClock:
    """Implements `broker.core.ports.Clock`."""

    def now(self) -> datetime:
        """Aware, in UTC, with microseconds."""
        return datetime.now(UTC)
