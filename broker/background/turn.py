"""Whose turn it is: of several background workers, one does what only one should do.

The lease is no lock. A worker that was stopped in the middle and goes on later may overlap with the next one for a
moment, so everything that is done in turn is also right when two do it: what matters is decided by the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import TypeVar

from broker.core.errors import Unavailable
from broker.core.ports import Clock, Leases
from broker.services import event_log

T = TypeVar("T")

TTL = timedelta(seconds=6)
"""A worker that dies is followed by another after this long, and `RENEW` at most."""
RENEW = timedelta(seconds=2)

log = event_log.logger("homerealm.worker")


class Turn:
    """One worker's view of one lease."""

    def __init__(self, name: str, holder: str) -> None:
        """`holder` is unique to this worker."""
        self.name = name
        self.holder = holder
        self._mine = False
        self._asked: datetime | None = None

    def mine(self, leases: Leases, clock: Clock) -> bool:
        """Whether it is ours now; asks the store at most every `RENEW`."""
        now = clock.now()
        if not is_due(self._asked, RENEW, now):
            return self._mine
        self._asked = now
        before = self._mine
        try:
            self._mine = leases.hold(self.name, self.holder, TTL)
        except Unavailable:
            self._mine = False
        if self._mine != before:
            log.info("turn.taken" if self._mine else "turn.lost", turn=self.name, holder=self.holder)
        return self._mine

    def while_mine(self, items: Iterable[T], leases: Leases, clock: Clock) -> Iterator[T]:
        """The items, until the turn is lost: long work renews it on its way."""
        for item in items:
            if not self.mine(leases, clock):
                return
            yield item

    def give_up(self, leases: Leases) -> None:
        """At the end: the next one need not wait."""
        if self._mine:
            self._mine = False
            try:
                leases.release(self.name, self.holder)
            except Unavailable:
                return


def is_due(last: datetime | None, every: timedelta, now: datetime) -> bool:
    """Also after the clock went back."""
    return last is None or not timedelta() <= now - last < every
