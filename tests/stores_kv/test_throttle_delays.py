"""The wait after each attempt, whatever the numbers: as the arithmetic says, and never without end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.attempts import Delay, Limit
from broker.stores.kv.redis import RedisKeyValue
from broker.stores.kv.throttle import KvThrottle
from broker.testing.clock import FixedClock
from tests.kv_engines import emptied, server

NOTHING = timedelta()
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
MILLISECOND = timedelta(milliseconds=1)


@pytest.fixture(scope="module")
def kv() -> Iterator[RedisKeyValue]:
    with server("valkey") as url, emptied(url) as kv:
        yield kv


def throttle(kv: RedisKeyValue, clock: FixedClock) -> KvThrottle:
    kv.batch([("FLUSHALL",)])
    return KvThrottle(kv, clock, f"{int(clock.now().timestamp())}.marker")


@settings(max_examples=60, deadline=None)
@given(
    free=st.integers(1, 8),
    first=st.integers(1, 5_000),
    longest=st.integers(5_000, 600_000),
    pauses=st.lists(st.integers(0, 700_000), max_size=40),
)
def test_the_wait_is_what_the_arithmetic_says(
    kv: RedisKeyValue, free: int, first: int, longest: int, pauses: list[int]
) -> None:
    clock = FixedClock()
    counter = throttle(kv, clock)
    delay = Delay("account", free, first * MILLISECOND, longest * MILLISECOND, timedelta(hours=1))
    attempts, opens, now = 0, 0, 0
    for pause in pauses:
        wait = counter.charge(delay).wait // MILLISECOND
        assert wait == max(0, opens - now)
        assert wait <= longest
        if not wait:
            attempts += 1
            opens = now + (min(first * 2 ** (attempts - free), longest) if attempts >= free else 0)
        now += pause
        clock.advance(pause * MILLISECOND)


def test_a_day_of_hammering_is_about_three_hundred_guesses(kv: RedisKeyValue) -> None:
    clock = FixedClock()
    counter = throttle(kv, clock)
    delay = Delay("account", 5, SECOND, timedelta(minutes=5), timedelta(hours=1))
    end, guesses = clock.now() + timedelta(days=1), 0
    while clock.now() < end:
        wait = counter.charge(delay).wait
        guesses += wait == NOTHING
        clock.advance(wait)
    assert 280 < guesses < 310


def test_what_is_counted_is_forgotten_an_hour_after_the_wait(kv: RedisKeyValue) -> None:
    counter = throttle(kv, FixedClock())
    for _ in range(3):
        counter.charge(Delay("account", 3, timedelta(minutes=5), timedelta(minutes=5), timedelta(hours=1)))
    (left,) = kv.batch([("PTTL", "q:{q}account")])
    assert timedelta(minutes=64) < left * MILLISECOND <= timedelta(minutes=65)


def test_a_clock_that_was_set_back_locks_nobody_out(kv: RedisKeyValue) -> None:
    clock = FixedClock()
    counter = throttle(kv, clock)
    delay = Delay("account", 1, SECOND, timedelta(minutes=5), timedelta(hours=1))
    limit = Limit("address", 1, MINUTE)  # what is counted is forgotten after its period, by the server's clock
    assert counter.charge(delay, limit).wait == NOTHING
    clock.set(clock.now() - timedelta(hours=1))
    assert counter.charge(delay).wait == NOTHING
    assert counter.charge(delay).wait == 2 * SECOND
    assert counter.charge(limit).wait == MINUTE
