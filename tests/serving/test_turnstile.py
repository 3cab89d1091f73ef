"""How fast forms come in beside quick requests: by a clock that is moved, without threads."""

from __future__ import annotations

from broker.serving.turnstile import AT_ONCE, FIRST_GUESS, LATEST, RESERVE, SHARE, WINDOW, Turnstile

LONG_ENOUGH = WINDOW * 1.001  # in spite of rounding


class Leader:
    """Spends its time at work or at rest, a window after the other, and lets forms in."""

    def __init__(self) -> None:
        self.now = 0.0
        self.turnstile = Turnstile(lambda: self.now)
        self.answered(LATEST, refused=True)

    def answered(self, number: int, refused: bool) -> None:
        for _ in range(number):
            self.turnstile.done(FIRST_GUESS, form=True, refused=refused)

    def windows(self, number: int, rest: float, elsewhere: float = 0.0, each: float = 0.001) -> int:
        """How many forms came in during so many windows; `rest` is the part of each that the leader slept, while
        threads worked on quick requests for `elsewhere` of it. A form takes `each` seconds."""
        found = 0
        for _ in range(number):
            self.now += LONG_ENOUGH * (1 - rest)
            began = self.now
            self.now += LONG_ENOUGH * rest
            self.turnstile.done(WINDOW * elsewhere, form=False, refused=False)
            self.turnstile.rested(began)
            while self.turnstile.enter():
                self.turnstile.done(each, form=True, refused=True)
                found += 1
        return found


def test_a_resting_leader_lets_everybody_in_at_once_and_then_three_quarters_of_a_core() -> None:
    leader = Leader()
    assert leader.windows(1, rest=1.0) * FIRST_GUESS >= AT_ONCE
    assert 0.9 < leader.windows(500, rest=1.0) * 0.001 / (500 * WINDOW * (1 - RESERVE)) < 1.1


def test_a_busy_leader_leaves_forms_a_small_share_and_never_nothing() -> None:
    leader = Leader()
    leader.windows(50, rest=0.15)  # what was left of the quiet time before
    assert 0.9 < leader.windows(1000, rest=0.15) * 0.001 / (1000 * WINDOW * SHARE) < 1.1
    assert 0.9 < leader.windows(1000, rest=0.0) * 0.001 / (1000 * WINDOW * SHARE) < 1.1


def test_a_leader_that_sleeps_while_threads_do_its_work_is_busy() -> None:
    leader = Leader()
    leader.windows(50, rest=0.95, elsewhere=0.9)
    assert 0.9 < leader.windows(1000, rest=0.95, elsewhere=0.9) * 0.001 / (1000 * WINDOW * SHARE) < 1.1


def test_forms_that_take_longer_come_in_less_often() -> None:
    came = []
    for each in (0.001, 0.01):
        leader = Leader()
        leader.windows(50, rest=0.0)
        came.append(leader.windows(1000, rest=0.0, each=each))
    assert came[0] > 8 * came[1] > 0


def test_after_a_burst_the_leader_has_its_time_first() -> None:
    leader = Leader()
    leader.windows(1, rest=1.0)
    assert not leader.turnstile.enter()


def test_forms_that_are_not_refused_come_in_at_once_however_busy_it_is() -> None:
    leader = Leader()
    leader.windows(50, rest=0.0)
    assert not leader.turnstile.enter()
    leader.answered(2 * LATEST, refused=False)
    assert all(leader.turnstile.enter() for _ in range(1000))


def test_somebody_who_is_told_to_wait_now_and_then_makes_no_flood() -> None:
    leader = Leader()
    leader.answered(10 * LATEST, refused=False)
    for _ in range(100):
        leader.answered(1, refused=True)
        leader.answered(9, refused=False)
        assert leader.turnstile.enter()


def test_what_came_in_while_it_was_open_is_not_paid_back_when_it_closes() -> None:
    leader = Leader()
    leader.answered(10 * LATEST, refused=False)
    for _ in range(100_000):  # a long and busy morning
        assert leader.turnstile.enter()
        leader.answered(1, refused=False)
    leader.answered(LATEST, refused=True)
    assert leader.windows(int(1 / WINDOW), rest=0.0) > 0
