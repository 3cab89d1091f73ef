"""Limits on attempts: GCRA, in one atomic script over all the keys of an attempt."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from broker.core.ports import Clock, Limit, Rider
from broker.stores.kv.codec import epoch_milliseconds
from broker.stores.kv.line import Part
from broker.stores.kv.redis import RedisKeyValue, milliseconds, raw
from broker.stores.kv.scripts import THROTTLE_CHARGE

STRICT = timedelta(hours=1)
"""How long a store that was flushed grants a quarter of each burst only."""


class KvThrottle:
    """Implements `broker.core.ports.Throttle`.

    `marker` was made with the database. The store keeps the same one; when it is missing or differs, the store was
    flushed, and with it every count: for an hour each burst is a quarter of what it should be, at least one. A
    database that is less than an hour old has nothing to compare with, and starts ordinarily; `marker` tells its age
    when it begins with Unix seconds and a dot.

    All keys share a hash tag, so one node of a cluster counts for all: one script must see every limit.
    Time is the broker's Clock. When an answer is lost an attempt may be counted twice, never less than once.
    """

    def __init__(self, kv: RedisKeyValue, clock: Clock, marker: str) -> None:
        self._kv = kv
        self._clock = clock
        self._mark = hashlib.sha256(marker.encode()).hexdigest()[:22]
        self._born = _birth(marker)

    def charge(self, *limits: Limit) -> timedelta:
        if not limits:
            return timedelta()
        now = self._clock.now()
        new = self._born is not None and now < self._born + STRICT
        arguments: list[Part] = [self._mark, epoch_milliseconds(now), milliseconds(STRICT), int(new)]
        for limit in limits:
            arguments += [milliseconds(limit.period), limit.burst]
        keys = ["q:{q}", *(_key(limit.key) for limit in limits)]
        return timedelta(milliseconds=int(self._kv.run(THROTTLE_CHARGE, keys, arguments)))

    def clear(self, *keys: str) -> None:
        self._kv.delete(*map(_key, keys))

    def clearing(self, *keys: str) -> Rider:
        return Rider([("DEL", raw(_key(key))) for key in keys])


def _key(key: str) -> str:
    return f"q:{{q}}{key}"


def _birth(marker: str) -> datetime | None:
    seconds, dot, _ = marker.partition(".")
    if not dot or not seconds.isdecimal() or len(seconds) > 12:
        return None
    return datetime.fromtimestamp(int(seconds), UTC)
