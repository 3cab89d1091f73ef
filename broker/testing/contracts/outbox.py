"""What an outbox has to do (`broker.core.ports.Outbox`)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

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
            work.outbox.done("d", now)
            work.outbox.dead("a", "no", now)
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
        _claim(database, now)
        with database.writing() as work:
            work.outbox.retry("job-1", now + MINUTE * 5, "connection refused")
        assert _claim(database, now + MINUTE * 4) == []
        assert _claim(database, now + MINUTE * 5) == [a_job(now, due_at=now + MINUTE * 5, attempts=1)]

    @pytest.mark.parametrize("end", ["done", "dead"])
    def test_a_finished_job_stays_finished(self, database: Database, now: datetime, end: str) -> None:
        _put(database, a_job(now))
        _claim(database, now)
        with database.writing() as work:
            if end == "done":
                work.outbox.done("job-1", now)
            else:
                work.outbox.dead("job-1", "550 no such mailbox", now)
        with database.writing() as work:
            # A second worker, whose lease had ended, comes too late.
            work.outbox.retry("job-1", now, "late")
            work.outbox.dead("job-1", "late", now)
            work.outbox.done("job-1", now)
            assert work.outbox.depth() == {"new": 0, "done": 0, "dead": 0, end: 1}
        assert _claim(database, now + MINUTE * 99) == []

    def test_the_depth_counts_by_state(self, database: Database, now: datetime) -> None:
        with database.reading() as work:
            assert work.outbox.depth() == {"new": 0, "done": 0, "dead": 0}
        for number in range(6):
            _put(database, a_job(now, f"job-{number}"))
        with database.writing() as work:
            work.outbox.done("job-0", now)
            work.outbox.done("job-1", now)
            work.outbox.dead("job-2", "", now)
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
        with database.writing() as work:
            work.outbox.done("job-0", now)
            work.outbox.dead("job-1", "", now)
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
            work.outbox.give_back([job.id], now + MINUTE / 2)
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
