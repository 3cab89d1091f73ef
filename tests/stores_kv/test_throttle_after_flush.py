"""A key-value store that was flushed opens no throttle (SECURITY 20)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from broker.core.attempts import Limit
from broker.stores.kv.redis import RedisKeyValue
from broker.stores.kv.throttle import KvThrottle
from broker.testing.clock import FixedClock
from tests.kv_engines import emptied, server

LIMIT = Limit("account", burst=8, period=timedelta(seconds=30))
ONE = Limit("one", burst=1, period=timedelta(seconds=30))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server("valkey") as url:
        yield url


@pytest.fixture
def kv(url: str) -> Iterator[RedisKeyValue]:
    with emptied(url) as kv:
        yield kv


def marker(born: datetime) -> str:
    return f"{int(born.timestamp())}.marker"


def passed(throttle: KvThrottle, limit: Limit = LIMIT) -> int:
    """How many attempts pass at one moment."""
    number = 0
    while throttle.charge(limit).wait == timedelta():
        number += 1
    return number


def test_a_new_installation_starts_with_whole_bursts(kv: RedisKeyValue) -> None:
    clock = FixedClock()
    assert passed(KvThrottle(kv, clock, marker(clock.now()))) == 8


def test_a_store_that_knows_the_installation_grants_whole_bursts(kv: RedisKeyValue) -> None:
    clock = FixedClock()
    mark = marker(clock.now())
    KvThrottle(kv, clock, mark).charge(LIMIT)
    clock.advance(timedelta(days=1))
    assert passed(KvThrottle(kv, clock, mark)) == 8


def test_after_a_flush_a_quarter_passes_for_an_hour(kv: RedisKeyValue) -> None:
    clock = FixedClock()
    throttle = KvThrottle(kv, clock, marker(clock.now()))
    passed(throttle)
    clock.advance(timedelta(days=1))
    kv.batch([("FLUSHALL",)])
    assert passed(throttle) == 2
    assert passed(throttle, ONE) == 1
    clock.advance(timedelta(minutes=59, seconds=59))
    assert passed(throttle) == 2
    clock.advance(timedelta(hours=1))
    assert passed(throttle) == 8


def test_a_store_of_another_installation_counts_as_flushed(kv: RedisKeyValue) -> None:
    clock = FixedClock()
    KvThrottle(kv, clock, marker(clock.now())).charge(LIMIT)
    old = marker(clock.now() - timedelta(days=300))
    assert passed(KvThrottle(kv, clock, old), Limit("other", 8, timedelta(seconds=30))) == 2


@pytest.mark.parametrize("odd", ["", "random", ".", "x.y", "99999999999999.z", "-5.z", "²³.x", "with space.x"])
def test_a_marker_that_does_not_tell_its_age_counts_as_old(kv: RedisKeyValue, odd: str) -> None:
    assert passed(KvThrottle(kv, FixedClock(), odd)) == 2
