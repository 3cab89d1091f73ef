"""What an outbox has to do (`broker.core.ports.Outbox`)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from broker.core.errors import JobLost
from broker.core.mail import Job
from broker.core.ports import Database
from broker.testing.clock import FixedClock
from broker.testing.contracts.database import Stored
from broker.testing.race import race
from broker.testing.records import a_job

MINUTE = timedelta(minutes=1)


class OutboxContract(Stored):
    """Every job once, and no job lost."""

    def test_the_backlog_is_what_waits_and_what_was_given_up(self, database: Database, now: datetime) -> None:
        with database.writing() as work:
            assert work.outbox.backlog() == (0, 0, None)
            for number, id in enumerate(("a", "b", "c", "d")):
                work.outbox.put(a_job(now, id, due_at=now - timedelta(minutes=number)))
            claimed = {job.id: job for job in work.outbox.claim(now, MINUTE)}
            work.outbox.done(claimed["d"], now)
            work.outbox.dead(claimed["a"], "no", now)
            assert work.outbox.backlog() == (2, 1, now - timedelta(minutes=2))

    def test_a_job_comes_out_as_it_went_in(self, database: Database, now: datetime) -> None:
        _put(database, a_job(now))
        assert _claim(database, now) == [a_job(now)]

    def test_a_job_is_not_handed_out_before_it_is_due(self, database: Database, now: datetime) -> None:
        _put(database, a_job(now, due_at=now + MINUTE))
        assert _claim(database, now + MINUTE - timedelta(microseconds=1)) == []
        assert len(_claim(database, now + MINUTE)) == 1

    def test_what_is_due_longest_comes_first_and_only_so_many(self, database: Database, now: datetime) -> None:
        for number in (2, 0, 3, 1):
            _put(database, a_job(now, f"job-{number}", due_at=now + MINUTE * number))
        assert [job.id for job in _claim(database, now + MINUTE * 9, limit=3)] == ["job-0", "job-1", "job-2"]
        assert [job.id for job in _claim(database, now + MINUTE * 9, limit=3)] == ["job-3"]

    def test_nobody_gets_a_job_again_before_its_lease_ends_and_then_somebody_does(
        self, database: Database, now: datetime
    ) -> None:
        _put(database, a_job(now))
        assert len(_claim(database, now)) == 1
        assert _claim(database, now + MINUTE - timedelta(microseconds=1)) == []
        assert _claim(database, now + MINUTE) == [a_job(now, attempts=1)]
        assert _claim(database, now + MINUTE * 2) == [a_job(now, attempts=2)]

    def test_a_claim_that_was_rolled_back_claimed_nothing(self, database: Database, now: datetime) -> None:
        _put(database, a_job(now))
        with pytest.raises(ZeroDivisionError), database.writing() as work:  # noqa: PT012  the last line is the one that raises
            assert len(work.outbox.claim(now, MINUTE)) == 1
            raise ZeroDivisionError
        assert _claim(database, now) == [a_job(now)]

    def test_a_job_to_be_tried_again_waits_for_its_time(self, database: Database, now: datetime) -> None:
        _put(database, a_job(now))
        (job,) = _claim(database, now)
        with database.writing() as work:
            work.outbox.retry(job, now + MINUTE * 5, "connection refused")
        assert _claim(database, now + MINUTE * 4) == []
        assert _claim(database, now + MINUTE * 5) == [a_job(now, due_at=now + MINUTE * 5, attempts=1)]

    @pytest.mark.parametrize("end", ["done", "dead"])
    def test_a_finished_job_stays_finished(self, database: Database, now: datetime, end: str) -> None:
        _put(database, a_job(now))
        (job,) = _claim(database, now)
        with database.writing() as work:
            if end == "done":
                work.outbox.done(job, now)
            else:
                work.outbox.dead(job, "550 no such mailbox", now)
        _is_lost(database, job, now)
        with database.reading() as work:
            assert work.outbox.depth() == {"new": 0, "done": 0, "dead": 0, end: 1}
        assert _claim(database, now + MINUTE * 99) == []

    def test_whoever_lost_a_job_changes_nothing_about_it(self, database: Database, now: datetime) -> None:
        _put(database, a_job(now))
        (frozen,) = _claim(database, now)
        (mine,) = _claim(database, now + MINUTE)
        _is_lost(database, frozen, now)
        assert _claim(database, now + MINUTE) == [], "it is in my hands"
        with database.writing() as work:
            assert work.outbox.renew([frozen, mine], now + MINUTE * 3) == [mine]
            work.outbox.done(mine, now)

    def test_what_was_written_with_the_end_of_a_lost_job_is_not_written(
        self, database: Database, now: datetime
    ) -> None:
        _put(database, a_job(now))
        (frozen,) = _claim(database, now)
        _claim(database, now + MINUTE)
        with pytest.raises(JobLost), database.writing() as work:  # noqa: PT012  the last line is the one that raises
            work.outbox.put(a_job(now, "a mail"))
            work.outbox.done(frozen, now)
        with database.reading() as work:
            assert work.outbox.depth()["new"] == 1

    def test_a_lease_that_is_renewed_ends_later_and_one_that_is_not_as_before(
        self, database: Database, now: datetime
    ) -> None:
        for number in range(3):
            _put(database, a_job(now, f"job-{number}"))
        jobs = _claim(database, now)
        with database.writing() as work:
            assert work.outbox.renew(jobs[:2], now + MINUTE * 1.5) == jobs[:2]
        assert [job.id for job in _claim(database, now + MINUTE, limit=20)] == ["job-2"]
        assert len(_claim(database, now + MINUTE * 1.5)) == 2

    def test_a_lease_from_before_the_clock_went_back_is_over(self, database: Database, now: datetime) -> None:
        _put(database, a_job(now))
        assert len(_claim(database, now + timedelta(hours=1))) == 1
        assert len(_claim(database, now)) == 1

    def test_what_was_put_off_before_the_clock_went_back_is_due(self, database: Database, now: datetime) -> None:
        longest = [MINUTE, MINUTE * 2, MINUTE * 4]
        later = now + timedelta(hours=1)
        for id, due in (("fresh", later), ("soon", now + MINUTE), ("tried", now)):
            _put(database, a_job(now, id, due_at=due))
        for wait in (0, 0, 0, 4):
            (job,) = _claim(database, now)
            with database.writing() as work:
                work.outbox.retry(job, now + MINUTE * wait, "connection refused")
        assert _right(database, now, longest) == 1
        assert [job.id for job in _claim(database, now)] == ["fresh"]
        assert _right(database, now, longest) == 0, "what waits for its time goes on waiting"
        assert _right(database, now - MINUTE, longest) == 2
        assert {job.id for job in _claim(database, now - MINUTE)} == {"soon", "tried"}

    def test_the_depth_counts_by_state(self, database: Database, now: datetime) -> None:
        with database.reading() as work:
            assert work.outbox.depth() == {"new": 0, "done": 0, "dead": 0}
        for number in range(6):
            _put(database, a_job(now, f"job-{number}"))
        jobs = _claim(database, now)
        with database.writing() as work:
            work.outbox.done(jobs[0], now)
            work.outbox.done(jobs[1], now)
            work.outbox.dead(jobs[2], "", now)
            assert work.outbox.depth() == {"new": 3, "done": 2, "dead": 1}

    def test_notes_are_counted_by_tenant_kind_and_address_since_a_time(self, database: Database, now: datetime) -> None:
        with database.writing() as work:
            for minutes in (0, 1, 2):
                work.outbox.note("acme", "reset", "ada", now + MINUTE * minutes)
            work.outbox.note("acme", "reset", "bob", now)
            work.outbox.note("acme", "no-account", "ada", now)
            work.outbox.note("globex", "reset", "ada", now)
        with database.reading() as work:
            assert work.outbox.recent("acme", "reset", "ada", now) == 3
            assert work.outbox.recent("acme", "reset", "ada", now + MINUTE) == 2
            assert work.outbox.recent("acme", "reset", "ada", now + MINUTE * 3) == 0
            assert work.outbox.recent("acme", "reset", "eve", now) == 0

    def test_sweeping_removes_what_is_done_and_old_notes_never_what_waits_or_died(
        self, database: Database, now: datetime
    ) -> None:
        for number in range(3):
            _put(database, a_job(now, f"job-{number}"))
        jobs = _claim(database, now)
        with database.writing() as work:
            work.outbox.done(jobs[0], now)
            work.outbox.dead(jobs[1], "", now)
            work.outbox.note("acme", "reset", "ada", now)
        with database.writing() as work:
            assert work.outbox.sweep(now) == 0
            assert work.outbox.sweep(now + MINUTE) == 2
            assert work.outbox.depth() == {"new": 1, "done": 0, "dead": 1}
            assert work.outbox.recent("acme", "reset", "ada", now) == 0

    def test_what_was_claimed_and_not_begun_is_as_if_it_had_not_been_claimed(
        self, database: Database, now: datetime
    ) -> None:
        _put(database, a_job(now))
        (job,) = _claim(database, now)
        with database.writing() as work:
            work.outbox.give_back([job], now + MINUTE / 2)
        assert _claim(database, now) == []
        (again,) = _claim(database, now + MINUTE / 2)
        assert again.attempts == job.attempts == 0

    def test_claims_at_once_never_hand_one_job_to_two(self, database: Database, clock: FixedClock) -> None:
        now = clock.now()
        for number in range(60):
            _put(database, a_job(now, f"job-{number:02}"))

        def work(_: int) -> list[str]:
            mine: list[str] = []
            while claimed := _claim(database, now, limit=3):
                mine += [job.id for job in claimed]
            return mine

        handed_out = [id for ids in race(work, callers=8) for id in ids]
        assert sorted(handed_out) == [f"job-{number:02}" for number in range(60)]


def _put(database: Database, job: Job) -> None:
    with database.writing() as work:
        work.outbox.put(replace(job))


def _claim(database: Database, now: datetime, limit: int = 20) -> list[Job]:
    with database.writing() as work:
        return work.outbox.claim(now, MINUTE, limit)


def _right(database: Database, now: datetime, longest: list[timedelta]) -> int:
    with database.writing() as work:
        return work.outbox.put_right(now, longest)


def _is_lost(database: Database, job: Job, now: datetime) -> None:
    with database.writing() as work:
        assert work.outbox.renew([job], now + MINUTE * 5) == []
        work.outbox.give_back([job], now)
        with pytest.raises(JobLost):
            work.outbox.retry(job, now, "late")
        with pytest.raises(JobLost):
            work.outbox.dead(job, "late", now)
        with pytest.raises(JobLost):
            work.outbox.done(job, now)
