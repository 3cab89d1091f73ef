"""What a counter of attempts has to do (`broker.core.ports.Throttle`)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from broker.core.ports import Limit, Throttle
from broker.testing.clock import FixedClock
from broker.testing.race import race

NOTHING = timedelta()
ACCOUNT = Limit("account", burst=8, period=timedelta(seconds=30))
ADDRESS = Limit("address", burst=20, period=timedelta(seconds=1))


class ThrottleContract:
    """Inherit, and give fixtures `throttle` (on a store that was not flushed) and `clock`, which it reads."""

    @pytest.fixture
    def throttle(self) -> Throttle:
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> FixedClock:
        return FixedClock()

    def test_a_burst_passes_and_then_one_waits_for_a_period(self, throttle: Throttle, clock: FixedClock) -> None:
        assert [throttle.charge(ACCOUNT) for _ in range(8)] == [NOTHING] * 8
        assert throttle.charge(ACCOUNT) == timedelta(seconds=30)
        clock.advance(timedelta(seconds=20))
        assert throttle.charge(ACCOUNT) == timedelta(seconds=10)

    def test_one_attempt_comes_back_every_period(self, throttle: Throttle, clock: FixedClock) -> None:
        for _ in range(8):
            throttle.charge(ACCOUNT)
        clock.advance(timedelta(seconds=60))
        assert [throttle.charge(ACCOUNT) for _ in range(3)] == [NOTHING, NOTHING, timedelta(seconds=30)]

    def test_after_a_long_time_the_whole_burst_is_back_and_not_more(
        self, throttle: Throttle, clock: FixedClock
    ) -> None:
        for _ in range(8):
            throttle.charge(ACCOUNT)
        clock.advance(timedelta(days=1))
        assert [throttle.charge(ACCOUNT) == NOTHING for _ in range(9)] == [True] * 8 + [False]

    def test_waiting_attempts_do_not_make_the_wait_longer(self, throttle: Throttle) -> None:
        for _ in range(8):
            throttle.charge(ACCOUNT)
        assert [throttle.charge(ACCOUNT) for _ in range(5)] == [timedelta(seconds=30)] * 5

    def test_none_is_charged_when_one_refuses(self, throttle: Throttle) -> None:
        for _ in range(8):
            throttle.charge(ACCOUNT)
        for _ in range(50):
            assert throttle.charge(ADDRESS, ACCOUNT) > NOTHING
        assert [throttle.charge(ADDRESS) for _ in range(20)] == [NOTHING] * 20

    def test_the_longest_wait_of_all_is_told(self, throttle: Throttle) -> None:
        for _ in range(20):
            throttle.charge(ADDRESS)
        for _ in range(8):
            throttle.charge(ACCOUNT)
        assert throttle.charge(ADDRESS, ACCOUNT) == timedelta(seconds=30)
        assert throttle.charge(ACCOUNT, ADDRESS) == timedelta(seconds=30)

    def test_keys_do_not_share_their_counts(self, throttle: Throttle) -> None:
        for _ in range(8):
            throttle.charge(ACCOUNT)
        other = Limit("another account", ACCOUNT.burst, ACCOUNT.period)
        assert throttle.charge(other) == NOTHING

    def test_clearing_gives_the_whole_burst_back(self, throttle: Throttle) -> None:
        for _ in range(9):
            throttle.charge(ACCOUNT)
        throttle.clear("account", "never charged")
        assert [throttle.charge(ACCOUNT) for _ in range(8)] == [NOTHING] * 8

    def test_without_a_limit_there_is_nothing_to_wait_for(self, throttle: Throttle) -> None:
        assert throttle.charge() == NOTHING

    def test_of_32_at_once_no_more_than_the_burst_pass(self, throttle: Throttle) -> None:
        for number in range(5):
            limits = [Limit(f"{number}", 10, timedelta(seconds=30)), Limit(f"a{number}", 100, timedelta(seconds=1))]
            assert race(lambda _, limits=limits: throttle.charge(*limits)).count(NOTHING) == 10  # type: ignore[misc]
