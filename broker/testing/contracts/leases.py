"""What every `broker.core.ports.Leases` must do. Inherit, and give a fixture `leases`."""

from __future__ import annotations

from datetime import timedelta

from broker.core.ports import Leases
from broker.testing.race import race

LONG, SHORT = timedelta(minutes=1), timedelta(milliseconds=30)


class LeasesContract:
    def test_one_holds_it_and_may_renew_it(self, leases: Leases) -> None:
        assert leases.hold("work", "one", LONG)
        assert not leases.hold("work", "two", LONG)
        assert leases.hold("work", "one", LONG)
        assert leases.hold("other", "two", LONG)

    def test_of_many_who_ask_at_once_one_gets_it(self, leases: Leases) -> None:
        answers = race(lambda caller: leases.hold("work", f"worker {caller}", LONG), callers=8)
        assert answers.count(True) == 1

    def test_it_ends_by_itself_and_who_had_it_learns_that_it_is_gone(self, leases: Leases) -> None:
        assert leases.hold("work", "one", SHORT)
        while not leases.hold("work", "two", LONG):
            continue
        assert not leases.hold("work", "one", LONG)

    def test_who_lets_go_of_it_makes_room_at_once_and_nobody_lets_go_for_others(self, leases: Leases) -> None:
        assert leases.hold("work", "one", LONG)
        leases.release("work", "two")
        assert not leases.hold("work", "two", LONG)
        leases.release("work", "one")
        while not leases.hold("work", "two", LONG):
            continue
        leases.release("never held", "one")
