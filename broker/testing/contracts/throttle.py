"""What a counter of attempts has to do (`broker.core.ports.Throttle`)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from broker.core.attempts import Delay, Demand, Limit, Watch
from broker.core.ports import Throttle
from broker.testing.clock import FixedClock
from broker.testing.race import race

NOTHING = timedelta()
ACCOUNT = Limit("account", burst=8, period=timedelta(seconds=30))
ADDRESS = Limit("address", burst=20, period=timedelta(seconds=1))
HOUR = timedelta(hours=1)
GROWING = Delay("growing", 3, timedelta(seconds=1), timedelta(seconds=10), HOUR)
WATCH = Watch("tenant", threshold=20, hold=timedelta(minutes=5))
DEMAND = Demand(always=False, solved=None, lifetime=HOUR)


class ThrottleContract:
    """Inherit, and give fixtures `throttle` (on a store that was not flushed) and `clock`, which it reads."""

    @pytest.fixture
    def throttle(self) -> Throttle:
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> FixedClock:
        return FixedClock()

    def test_a_burst_passes_and_then_one_waits_for_a_period(self, throttle: Throttle, clock: FixedClock) -> None:
        assert [throttle.charge(ACCOUNT).wait for _ in range(8)] == [NOTHING] * 8
        assert throttle.charge(ACCOUNT).wait == timedelta(seconds=30)
        clock.advance(timedelta(seconds=20))
        assert throttle.charge(ACCOUNT).wait == timedelta(seconds=10)

    def test_one_attempt_comes_back_every_period(self, throttle: Throttle, clock: FixedClock) -> None:
        for _ in range(8):
            throttle.charge(ACCOUNT)
        clock.advance(timedelta(seconds=60))
        assert [throttle.charge(ACCOUNT).wait for _ in range(3)] == [NOTHING, NOTHING, timedelta(seconds=30)]

    def test_after_a_long_time_the_whole_burst_is_back_and_not_more(
        self, throttle: Throttle, clock: FixedClock
    ) -> None:
        for _ in range(8):
            throttle.charge(ACCOUNT)
        clock.advance(timedelta(days=1))
        assert [throttle.charge(ACCOUNT).wait == NOTHING for _ in range(9)] == [True] * 8 + [False]

    def test_waiting_attempts_do_not_make_the_wait_longer(self, throttle: Throttle) -> None:
        for _ in range(8):
            throttle.charge(ACCOUNT)
        assert [throttle.charge(ACCOUNT).wait for _ in range(5)] == [timedelta(seconds=30)] * 5

    def test_none_is_charged_when_one_refuses(self, throttle: Throttle) -> None:
        for _ in range(8):
            throttle.charge(ACCOUNT)
        for _ in range(50):
            assert throttle.charge(ADDRESS, ACCOUNT).wait > NOTHING
        assert [throttle.charge(ADDRESS).wait for _ in range(20)] == [NOTHING] * 20

    def test_the_longest_wait_of_all_is_told(self, throttle: Throttle) -> None:
        for _ in range(20):
            throttle.charge(ADDRESS)
        for _ in range(8):
            throttle.charge(ACCOUNT)
        assert throttle.charge(ADDRESS, ACCOUNT).wait == timedelta(seconds=30)
        assert throttle.charge(ACCOUNT, ADDRESS).wait == timedelta(seconds=30)

    def test_keys_do_not_share_their_counts(self, throttle: Throttle) -> None:
        for _ in range(8):
            throttle.charge(ACCOUNT)
        other = Limit("another account", ACCOUNT.burst, ACCOUNT.period)
        assert throttle.charge(other).wait == NOTHING

    def test_the_wait_doubles_from_one_attempt_to_the_next_and_stays_bounded(
        self, throttle: Throttle, clock: FixedClock
    ) -> None:
        assert [throttle.charge(GROWING).wait for _ in range(3)] == [NOTHING] * 3
        waits = []
        for _ in range(7):
            waits.append(throttle.charge(GROWING).wait)
            assert throttle.charge(GROWING).wait == waits[-1], "asking makes it no longer"
            clock.advance(waits[-1])
            assert throttle.charge(GROWING).wait == NOTHING
        assert [wait.total_seconds() for wait in waits] == [1, 2, 4, 8, 10, 10, 10]

    def test_a_right_attempt_lets_its_delays_start_anew_and_no_other(self, throttle: Throttle) -> None:
        for _ in range(2):
            throttle.charge(GROWING, ACCOUNT)
        receipt = throttle.charge(GROWING, ACCOUNT).receipt
        assert throttle.charge(GROWING).wait > NOTHING
        throttle.forgive(receipt)
        assert [throttle.charge(GROWING).wait == NOTHING for _ in range(4)] == [True, True, True, False]
        assert [throttle.charge(ACCOUNT).wait == NOTHING for _ in range(6)] == [True] * 5 + [False]

    def test_failures_of_many_accounts_are_an_attack_until_they_stay_away(
        self, throttle: Throttle, clock: FixedClock
    ) -> None:
        def tried(number: int) -> bool:
            return throttle.charge(Limit(f"account {number}", 5, HOUR), watch=WATCH).attacked

        assert [tried(number) for number in range(20)] == [False] * 19 + [True]
        clock.advance(timedelta(minutes=2))
        assert tried(21), "one minute without failures is not the end of it"

    def test_right_attempts_are_no_attack(self, throttle: Throttle) -> None:
        for number in range(100):
            verdict = throttle.charge(Limit(f"account {number}", 5, HOUR), watch=WATCH)
            assert not verdict.attacked
            throttle.forgive(verdict.receipt)

    def test_an_alarm_is_an_attack_and_each_watch_has_its_own(self, throttle: Throttle) -> None:
        assert throttle.charge(ADDRESS, watch=replace(WATCH, alarm=True)).attacked
        assert throttle.charge(ADDRESS, watch=WATCH).attacked
        assert not throttle.charge(ADDRESS, watch=replace(WATCH, key="another")).attacked

    def test_under_attack_a_solution_is_demanded_and_accepted_once(self, throttle: Throttle) -> None:
        alarmed = replace(WATCH, alarm=True)
        assert not throttle.charge(ADDRESS, watch=WATCH, demand=DEMAND).demanded
        assert throttle.charge(ADDRESS, watch=alarmed, demand=DEMAND).demanded
        solved = replace(DEMAND, solved="one")
        assert not throttle.charge(ADDRESS, watch=WATCH, demand=solved).demanded
        assert throttle.charge(ADDRESS, watch=WATCH, demand=solved).demanded
        assert not throttle.charge(ADDRESS, watch=WATCH, demand=replace(DEMAND, solved="two")).demanded

    def test_a_solution_that_nobody_asked_for_is_not_used_up(self, throttle: Throttle) -> None:
        solved = replace(DEMAND, solved="kept")
        assert not throttle.charge(ADDRESS, watch=WATCH, demand=solved).demanded
        assert not throttle.charge(ADDRESS, watch=WATCH, demand=replace(solved, always=True)).demanded
        assert throttle.charge(ADDRESS, watch=WATCH, demand=replace(solved, always=True)).demanded

    def test_of_32_at_once_one_solution_serves_one(self, throttle: Throttle) -> None:
        for number in range(5):
            demand = Demand(always=True, solved=f"solution {number}", lifetime=HOUR)
            answers = race(lambda n, d=demand: throttle.charge(Limit(f"{n}", 9, HOUR), demand=d).demanded)  # type: ignore[misc]
            assert answers.count(False) == 1

    def test_without_a_limit_there_is_nothing_to_wait_for(self, throttle: Throttle) -> None:
        assert throttle.charge().wait == NOTHING

    def test_a_solution_is_demanded_where_there_is_no_limit(self, throttle: Throttle) -> None:
        minute = timedelta(minutes=1)
        assert throttle.charge(demand=Demand(True, None, minute)).demanded
        assert not throttle.charge(demand=Demand(True, "one", minute)).demanded
        assert throttle.charge(demand=Demand(True, "one", minute)).demanded
        watch = Watch("watch:x", 100, minute, alarm=True)
        assert throttle.charge(watch=watch, demand=Demand(False, None, minute)).demanded

    def test_of_32_at_once_no_more_than_the_burst_pass(self, throttle: Throttle) -> None:
        for number in range(5):
            limits = [Limit(f"{number}", 10, timedelta(seconds=30)), Limit(f"a{number}", 100, timedelta(seconds=1))]
            assert race(lambda _, limits=limits: throttle.charge(*limits).wait).count(NOTHING) == 10  # type: ignore[misc]
