"""A lease is short, so that a killed worker's jobs are soon somebody else's, and lasts while its worker lives."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, select
from structlog.testing import capture_logs

from broker.background.in_hand import LEASE, RENEW, SURE
from broker.background.schedule import IDLE, Worker
from broker.core.mail import Job, JobKind
from broker.core.values import TenantId
from broker.stores.sql.tables import outbox
from broker.testing.mail_server import MailServer
from tests.crash.processes import wait_until
from tests.mail.house import Flow, House, by_smtp

TICK = timedelta(milliseconds=1)


class Thinking(MailServer):
    """Takes a mail, and does not say so before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go_on = threading.Event(), threading.Event()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.asked.set()
        await asyncio.to_thread(self.go_on.wait)
        return await super().handle_DATA(server, session, envelope)


@dataclass
class Freezing(Flow):
    """Before its first job something happens."""

    meanwhile: Callable[[], None] | None = None

    def work(self, job: Job) -> None:
        before, self.meanwhile = self.meanwhile, None
        if before is not None:
            before()
        super().work(job)


@contextmanager
def thinking(house: House) -> Iterator[Thinking]:
    with Thinking().running() as server:
        assert isinstance(server, Thinking)
        by_smtp(house, server)
        try:
            yield server
        finally:
            server.go_on.set()


def renewed(worker: Worker, house: House) -> None:
    worker._in_hand.renew(house.database, house.clock)


def leased_until(house: House) -> datetime | None:
    with house.database._engines.reader.connect() as tables:
        found: datetime | None = tables.execute(select(outbox.c.leased_until)).scalar_one()
    return found


def test_the_jobs_of_a_killed_worker_are_somebody_elses_within_ten_seconds() -> None:
    assert LEASE + timedelta(seconds=IDLE) < timedelta(seconds=10)
    assert RENEW * 2 <= LEASE - SURE, "two renewals may fail before anybody stops"


def test_a_mail_server_that_takes_longer_than_a_lease_gets_the_mail_from_one_worker(house: House) -> None:
    house.mail()
    other = Worker(house)
    with thinking(house) as server:
        assert house.worker._batch() == 1
        assert server.asked.wait(20)
        for _ in range(12):
            house.clock.advance(RENEW)
            renewed(house.worker, house)
            assert other.tick() == 0
        house.clock.advance(LEASE - TICK)
        assert other.tick() == 0
        server.go_on.set()
        house.worker._lanes.wait()
        assert [mail.message["Message-ID"] for mail in server.received] == ["<job-1@acme.example>"]
    assert house.depth == (0, 1, 0)


def test_the_worker_itself_renews_while_it_works(house: House) -> None:
    """Its thread does, while the loop does something else."""
    house.mail()
    stop = threading.Event()
    with thinking(house) as server:
        loop = threading.Thread(target=house.worker.run, args=(stop,))
        loop.start()
        try:
            assert server.asked.wait(20)
            house.clock.advance(timedelta(seconds=5))
            late = house.clock.now() + LEASE
            wait_until(lambda: leased_until(house) == late, "the renewal")
        finally:
            server.go_on.set()
            stop.set()
            loop.join()
    assert house.depth == (0, 1, 0)


def test_a_worker_that_lost_its_job_says_so_and_records_nothing(house: House) -> None:
    """It was frozen for longer than a lease: the other one's record stands."""
    house.mail()
    other = Worker(house)
    with thinking(house) as server:
        house.worker._batch()
        assert server.asked.wait(20)
        house.clock.advance(LEASE)
        with capture_logs() as said:
            server.go_on.set()
            # In this very moment the frozen one may have recorded it; then there is nothing to take.
            taken = other.tick()
            house.worker._lanes.wait()
        events = [one["event"] for one in said]
        assert events.count("job.done") == 1
        assert events.count("job.lost") == taken
        assert "job.retried" not in events
    assert house.depth == (0, 1, 0)


def test_a_job_that_somebody_else_has_taken_is_not_begun(house: House) -> None:
    for id in ("slow", "next"):
        house.put(Job(id, TenantId("acme"), JobKind.RECOVER, {}, house.clock.now(), house.clock.now()))
        house.clock.advance(TICK)
    other = Worker(house)
    house.recovery_mail = flow = Freezing(house.database, house.clock)

    def meanwhile() -> None:
        house.clock.advance(LEASE)
        assert other.tick() == 2
        renewed(house.worker, house)

    flow.meanwhile = meanwhile
    with capture_logs() as said:
        house.worker._batch()
    assert [job.id for job in flow.jobs] == ["slow", "next", "slow"], "the last one is the first one's, who is late"
    assert [one["job"] for one in said if one["event"] == "job.lost"] == ["slow"]
    assert house.depth == (0, 2, 0)


def test_after_the_database_was_away_a_worker_takes_nothing_that_it_has_in_hand_itself(house: House) -> None:
    house.mail()
    with thinking(house) as server:
        house.worker._batch()
        assert server.asked.wait(20)
        house.clock.advance(LEASE * 2)
        assert house.worker._batch() == 0
        server.go_on.set()
        house.worker._lanes.wait()
        assert len(server.received) == 1


@pytest.mark.parametrize("in_hand", [0, 3])
def test_who_has_nothing_in_hand_asks_the_database_nothing(house: House, in_hand: int) -> None:
    for number in range(in_hand):
        house.mail(f"job-{number}")
    sent: list[str] = []

    def note(_c: object, _u: object, statement: str, *_: object) -> None:
        sent.append(statement)

    with thinking(house) as server:
        house.worker._batch()
        if in_hand:
            assert server.asked.wait(20)
        event.listen(house.database._engines.writer, "before_cursor_execute", note)
        renewed(house.worker, house)
        event.remove(house.database._engines.writer, "before_cursor_execute", note)
        server.go_on.set()
        house.worker._lanes.wait()
    assert len([statement for statement in sent if statement.startswith("UPDATE")]) == (1 if in_hand else 0)
