"""The ports of what an operator sees: the audit log, stories, numbers. As broker.core.ports, on a page of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from broker.core.chain import Mark, Record
from broker.core.events import Event
from broker.core.metrics import COUNTED
from broker.core.story import Story
from broker.core.values import DirectoryId


class Audit(Protocol):
    """What happened. Rows are added, and sealed into a chain by the worker (core/chain); none is ever changed."""

    def write(self, event: Event) -> None: ...

    def read(self, directory: DirectoryId, *, target: str | None = None, limit: int = 100) -> list[Event]: ...

    def search(
        self,
        *,
        directory: str | None = None,
        target: str | None = None,
        reference: str | None = None,
        since: datetime | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> list[Record]:
        """Newest first; `after` is a row's number. For operators: rows of newer releases are shown as well."""

    def unsealed(self) -> bool:
        """Whether there are rows that are not in the chain yet."""

    def seal(self, limit: int = 500) -> Mark | None:
        """Take the oldest unsealed rows into the chain. Returns its new end; None when there was nothing to do.

        However many workers seal, there is one chain.
        """

    def chained(self, after: int = 0, limit: int = 1000) -> list[Record]:
        """Sealed rows by place, from the one behind `after` on."""

    def ends(self) -> tuple[Mark, Mark | None]:
        """Where the chain begins, and where it ends (None: nothing was sealed yet)."""

    def forget(self, place: int) -> int:
        """Remove everything up to this place, which was archived. The rest still verifies. Raises `LookupError`."""


class Stories(Protocol):
    """What went wrong, by the reference of its page, for a few days."""

    def keep(self, story: Story) -> None:
        """Soon, and by somebody else: nobody waits, nothing is raised, and in a flood some are dropped."""

    def find(self, reference: str) -> list[Story]:
        """It, and the others of the same login, oldest first; empty when there is none."""


class Meter(Protocol):
    """Counts what is in core/metrics. Never blocks, never raises."""

    def count(self, metric: str, *labels: str, amount: float = 1.0) -> None: ...

    def observe(self, metric: str, value: float, *labels: str) -> None:
        """A duration for a histogram, in seconds."""

    def level(self, metric: str, value: float, *labels: str) -> None:
        """What a gauge of this process says from now on."""


class NoMeter:
    """For processes without metrics: costs a call."""

    def count(self, metric: str, *labels: str, amount: float = 1.0) -> None:
        pass

    def observe(self, metric: str, value: float, *labels: str) -> None:
        pass

    def level(self, metric: str, value: float, *labels: str) -> None:
        pass


NO_METER = NoMeter()


def count_event(meter: Meter, event: str, facts: Mapping[str, object]) -> None:
    """The counter that goes up with an event, if there is one."""
    found = COUNTED.get(event)
    if found is not None and meter is not NO_METER:
        metric, labels = found
        meter.count(metric, *(one[1:] if one[0] == "=" else str(facts.get(one) or "") for one in labels))


class Spans(Protocol):
    """Where time goes, for a tracing system. Facts are names from tables and configurations of ours, never what came
    with a request."""

    def span(self, name: str, **facts: str) -> AbstractContextManager[Callable[[str, str], None]]:
        """What happens in the block; more facts can be told to what it yields."""
