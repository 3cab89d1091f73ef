"""Jobs that are queued at the same time share a transaction, and each caller hears of the own job alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from broker.core.errors import Unavailable
from broker.core.mail import Job
from broker.stores.sql.together import MOST, Together
from broker.testing.clock import START, FixedClock
from broker.testing.race import race
from broker.testing.records import a_job
from tests.kv_servers import until
from tests.sql_engines import opened


class Slow:
    """A database whose transactions end when the test says so."""

    def __init__(self) -> None:
        self.written: list[list[str]] = []
        self.begun: list[list[str]] = []
        self.allowed = threading.Semaphore(0)
        self.fails: list[BaseException] = []
        self.together = Together(self.write)
        self.pool = ThreadPoolExecutor(2 * MOST)

    def write(self, jobs: Sequence[Job]) -> None:
        self.begun.append([job.id for job in jobs])
        assert self.allowed.acquire(timeout=30)
        if self.fails:
            raise self.fails.pop(0)
        self.written.append([job.id for job in jobs])

    def put(self, *names: str) -> list[Future[None]]:
        """Each from a thread of its own. Returns when all wait for somebody."""
        due = len(self.together._waiting) + len(names) - (not self.together._busy)
        puts = [self.pool.submit(self.together.put, a_job(START, name)) for name in names]
        until(lambda: self.together._busy and len(self.together._waiting) == due, "everybody has queued")
        return puts

    def put_first(self) -> Future[None]:
        (first,) = self.put("first")
        until(lambda: bool(self.begun), "the first transaction")
        return first


@pytest.fixture
def slow() -> Iterator[Slow]:
    slow = Slow()
    yield slow
    slow.allowed.release(1000)
    slow.pool.shutdown()


def test_those_who_come_meanwhile_share_the_next_transaction_and_wait_for_its_end(slow: Slow) -> None:
    first = slow.put_first()
    others = slow.put("a", "b", "c", "d")
    slow.allowed.release()
    first.result(30)
    until(lambda: len(slow.begun) == 2, "the second transaction")
    assert not any(one.done() for one in others), "answered before the job was written"
    slow.allowed.release()
    for one in others:
        one.result(30)
    assert slow.written[0] == ["first"]
    assert sorted(slow.written[1]) == ["a", "b", "c", "d"]
    assert len(slow.written) == 2


@pytest.mark.parametrize("error", [Unavailable("database: full"), RuntimeError("a bug"), SystemExit()],
                         ids=["refused", "bug", "end of the thread"])  # fmt: skip
def test_an_error_reaches_everybody_who_was_in_it_and_nobody_else(slow: Slow, error: BaseException) -> None:
    first = slow.put_first()
    others = slow.put("a", "b", "c")
    slow.allowed.release()
    first.result(30)
    until(lambda: len(slow.begun) == 2, "the second transaction")
    slow.fails.append(error)
    later = slow.put("later")
    slow.allowed.release()
    raised = [one.exception(30) for one in others]
    assert raised.count(error) == 1, "who wrote says what it was"
    assert all(isinstance(one, Unavailable) for one in raised if one is not error)
    assert len({id(one) for one in raised}) == 3, "an exception belongs to one thread"
    slow.allowed.release()
    later[0].result(30)
    assert slow.written == [["first"], ["later"]]


def test_a_crowd_does_not_make_one_endless_transaction(slow: Slow) -> None:
    slow.put_first()
    slow.put(*(f"{number}" for number in range(MOST + 20)))
    slow.allowed.release(3)
    until(lambda: len(slow.written) == 3, "three transactions")
    assert [len(jobs) for jobs in slow.written] == [1, MOST, 20]


def test_a_full_disk_is_everybodys_error_and_leaves_nothing(tmp_path: Path) -> None:
    database = opened(f"sqlite:///{tmp_path}/broker.db", FixedClock())
    with database._engines.writer.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    def put(number: int) -> str:
        try:
            database.enqueue(a_job(START, f"job-{number}", payload={"much": "x" * 100_000}))
        except Unavailable as error:
            return error.detail
        return "written"

    assert race(put, callers=8) == ["database: database or disk is full"] * 8
    with database.reading() as work:
        assert work.outbox.depth()["new"] == 0
    database.close()
