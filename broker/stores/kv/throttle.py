"""Limits on attempts, growing delays and a watch over all of them, in one atomic script an attempt."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from broker.core.attempts import Delay, Demand, Limit, Verdict, Watch
from broker.core.ports import Clock, Rider
from broker.stores.kv.codec import epoch_milliseconds
from broker.stores.kv.line import Part
from broker.stores.kv.redis import RedisKeyValue, milliseconds, raw
from broker.stores.kv.scripts import THROTTLE_CHARGE, THROTTLE_SOLVED

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

    def charge(self, *limits: Limit | Delay, watch: Watch | None = None, demand: Demand | None = None) -> Verdict:
        if not limits and watch is None and demand is None:
            return Verdict(timedelta())
        moment = self._clock.now()
        now = epoch_milliseconds(moment)
        new = self._born is not None and moment < self._born + STRICT
        arguments: list[Part] = [self._mark, now, milliseconds(STRICT), int(new)]
        marker = _key("")
        keys, receipt = [marker] * 5, [limit.key for limit in limits if isinstance(limit, Delay)]
        if watch is None:
            arguments += [0, 0, 0]
        else:
            minute = now // 60_000
            keys[1:4] = [_key(f"{watch.key}:{suffix}") for suffix in ("on", minute, minute - 1)]
            arguments += [watch.threshold, milliseconds(watch.hold), int(watch.alarm)]
            receipt.insert(0, f"{watch.key}:{minute}")
        if demand is None:
            arguments += [0, "", 0]
        else:
            if demand.solved:
                keys[4] = _key(f"solved:{demand.solved}")
            arguments += [2 if demand.always else 1, self._kv.nonce(), milliseconds(demand.lifetime)]
        for limit in limits:
            keys.append(_key(limit.key))
            arguments += _written(limit)
        script = THROTTLE_SOLVED if keys[4] != marker else THROTTLE_CHARGE
        wait, attacked, demanded = map(int, self._kv.run(script, keys, arguments).split())
        # What is forgiven: the watch's minute (nothing when nobody watches), then the delays.
        paid = tuple(receipt) if watch is not None else ("", *receipt)
        return Verdict(timedelta(milliseconds=wait), bool(attacked), bool(demanded), paid)

    def forgive(self, receipt: tuple[str, ...]) -> None:
        if commands := _forgiven(receipt):
            self._kv.batch(commands)

    def forgiving(self, receipt: tuple[str, ...]) -> Rider:
        return Rider([tuple(map(raw, command)) for command in _forgiven(receipt)])


def _forgiven(receipt: tuple[str, ...]) -> list[tuple[Part, ...]]:
    minute, *delays = receipt or ("",)
    commands: list[tuple[Part, ...]] = [("DEL", _key(delay)) for delay in delays]
    if minute:
        # A minute is kept for ten: no login takes so long that this would make a counter that lives for ever.
        commands.append(("DECR", _key(minute)))
    return commands


def _written(limit: Limit | Delay) -> tuple[Part, ...]:
    if isinstance(limit, Limit):
        return "L", milliseconds(limit.period), limit.burst, 0, 0
    return "D", milliseconds(limit.first), limit.free, milliseconds(limit.longest), milliseconds(limit.forgotten)


def _key(key: str) -> str:
    return f"q:{{q}}{key}"


def _birth(marker: str) -> datetime | None:
    seconds, dot, _ = marker.partition(".")
    if not dot or not seconds.isdecimal() or len(seconds) > 12:
        return None
    return datetime.fromtimestamp(int(seconds), UTC)
