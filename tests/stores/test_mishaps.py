"""Full disks, locks, broken files, kills and forks: a clear refusal, and nothing half-written."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from broker.core.errors import ConfigurationError, Unavailable
from broker.core.ticket import Purpose
from broker.core.values import UserId
from broker.stores.sql import SqlDatabase
from broker.stores.sql.engine import parse_url
from broker.testing.clock import START, FixedClock
from broker.testing.entropy import SeededEntropy
from broker.testing.records import BOTH, HASH, LIVE, USERS, a_job, a_ticket, a_user, an_event
from tests.sql_engines import VAULT, opened

ADA = UserId("user-ada")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqlDatabase]:
    database = opened(f"sqlite:///{tmp_path}/broker.db", FixedClock())
    with database.writing() as work:
        work.users.add(a_user(START), hash=HASH, kinds=BOTH)
    yield database
    database.close()


@pytest.fixture
def full_disk(database: SqlDatabase) -> SqlDatabase:
    """No page more than there is; SQLite then says what it says when the disk is full."""
    with database._engines.writer.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        assert connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}").scalar_one() == pages
    return database


def test_a_full_disk_is_unavailable_and_leaves_nothing_half_written(full_disk: SqlDatabase) -> None:
    with pytest.raises(Unavailable, match="full"), full_disk.writing() as work:  # noqa: PT012  the error may come at any statement
        work.users.move_epoch(ADA)
        work.audit.write(an_event(START, detail={"much": "x" * 100_000}))
    with full_disk.reading() as work:
        assert work.users.get(ADA) == a_user(START, has_password=True)
        assert work.audit.read(LIVE) == []
    with full_disk.writing() as work:
        assert work.users.move_epoch(ADA) == 1, "what fits is still written"


def test_an_engine_that_failed_is_not_made_good_by_catching_it(full_disk: SqlDatabase) -> None:
    """SQLite ends the transaction by itself on a full disk; what follows would be committed piece by piece."""
    with pytest.raises(Unavailable, match="full"), full_disk.writing() as work:  # noqa: PT012  the error may come at any statement
        work.users.move_epoch(ADA)
        with pytest.raises(Unavailable):
            work.audit.write(an_event(START, detail={"much": "x" * 100_000}))
        with pytest.raises(Unavailable):
            work.users.move_epoch(ADA)
        with pytest.raises(Unavailable):
            work.users.add(a_user(START, "eve"), kinds=BOTH)
    with full_disk.reading() as work:
        assert work.users.get(ADA) == a_user(START, has_password=True)
        assert work.users.get(UserId("user-eve")) is None


def test_a_full_disk_inside_a_savepoint_is_unavailable_too(full_disk: SqlDatabase) -> None:
    with pytest.raises(Unavailable, match="full"), full_disk.writing() as work:  # noqa: PT012  the error may come at any statement
        work.users.move_epoch(ADA)
        work.users.add(a_user(START, "eve", profile={"name": "x" * 100_000}), kinds=BOTH)
    with full_disk.reading() as work:
        assert work.users.get(ADA) == a_user(START, has_password=True)


def test_an_error_of_the_engine_does_not_quote_what_was_to_be_written(full_disk: SqlDatabase) -> None:
    with pytest.raises(Unavailable) as caught, full_disk.writing() as work:
        work.users.write_hash(ADA, "CANARY" * 10_000, must_change=False, at=START)
    error: BaseException | None = caught.value
    while error is not None:
        assert "CANARY" not in str(error)
        error = error.__cause__ or error.__context__


def test_a_lock_that_another_process_keeps_is_unavailable_for_writers_alone(
    tmp_path: Path, database: SqlDatabase
) -> None:
    other = sqlite3.connect(tmp_path / "broker.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    impatient = SqlDatabase(f"sqlite:///{tmp_path}/broker.db", FixedClock(), SeededEntropy(), VAULT, patience=0.01)
    with pytest.raises(Unavailable, match="locked"), impatient.writing():
        raise AssertionError("the lock was not taken")
    with impatient.reading() as work:
        assert work.users.find(LIVE, USERS, "ada") is not None
    other.execute("ROLLBACK")
    other.close()
    with impatient.writing() as work:
        assert work.users.move_epoch(ADA) == 1
    impatient.close()


def test_a_thread_that_waits_too_long_for_another_is_unavailable(tmp_path: Path, database: SqlDatabase) -> None:
    impatient = SqlDatabase(f"sqlite:///{tmp_path}/broker.db", FixedClock(), SeededEntropy(), VAULT, patience=0.01)

    def write() -> int:
        with impatient.writing() as work:
            return work.users.move_epoch(ADA)

    with ThreadPoolExecutor(1) as other:
        with impatient.writing(), pytest.raises(Unavailable, match="in time"):
            other.submit(write).result()
        assert other.submit(write).result() == 1
    impatient.close()


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "broker.db").write_bytes(b"no database at all " * 100)
    database = opened(f"sqlite:///{tmp_path}/broker.db", FixedClock(), upgrade=False)
    for call in (database.upgrade, database.ping, database.revision, database.marker):
        with pytest.raises(Unavailable, match="not a database"):
            call()
    with pytest.raises(Unavailable), database.reading():
        raise AssertionError("it was opened")
    with pytest.raises(Unavailable), database.writing():
        raise AssertionError("it was opened")
    database.close()


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be made"):
        opened(f"sqlite:///{tmp_path}/file/broker.db", FixedClock())


def test_a_database_without_tables_says_what_to_do(tmp_path: Path) -> None:
    database = opened(f"sqlite:///{tmp_path}/broker.db", FixedClock(), upgrade=False)
    with pytest.raises(Unavailable):
        database.ping()
    with pytest.raises(Unavailable, match="no such table"), database.writing() as work:
        work.users.move_epoch(ADA)
    database.close()


@pytest.mark.parametrize(
    "url",
    ["", "broker.db", "sqlite://", "sqlite:///:memory:", "sqlite:///x.db?mode=memory", "mysql://host/db", "a:b:c"],
)
def test_an_address_that_is_not_supported_is_a_mistake_in_the_configuration(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^database: "):
        parse_url(url)


def test_a_mistake_in_the_address_does_not_quote_the_password() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_url("postgresql:/user:CANARY@host/db")
    assert "CANARY" not in str(caught.value)


def test_the_address_of_postgresql_names_no_driver() -> None:
    assert parse_url("postgresql://user@host/db").drivername == "postgresql+psycopg"


KILLED = """
import sys
from tests.sql_engines import opened
from tests.stores.test_mishaps import reset
from broker.testing.clock import FixedClock
database = opened(sys.argv[1], FixedClock(), upgrade=False)
reset(database, sys.argv[2], int(sys.argv[3]))
"""


def reset(database: SqlDatabase, secret: str, step: int) -> None:
    """What a reset writes; at the given step it says so, and waits to be killed."""

    def at(number: int) -> None:
        if number == step:
            print(number, flush=True)
            sys.stdin.read()

    with database.writing() as work:
        at(0)
        work.tickets.redeem(secret, Purpose.RESET, LIVE, 0, START)
        at(1)
        work.users.write_hash(ADA, "new", must_change=False, at=START)
        at(2)
        work.users.move_epoch(ADA)
        at(3)
        work.audit.write(an_event(START))
        at(4)
        work.outbox.put(a_job(START))
        at(5)
    at(6)


@pytest.mark.crash
@pytest.mark.parametrize("step", range(7))
def test_killed_at_any_step_all_of_a_reset_is_there_or_nothing(
    tmp_path: Path, database: SqlDatabase, step: int
) -> None:
    with database.writing() as work:
        secret = work.tickets.issue(a_ticket(START))
    url = f"sqlite:///{tmp_path}/broker.db"
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, url, secret, str(step)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == f"{step}\n"
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    child.stdin.close()
    child.stdout.close()

    done = step == 6
    with database.reading() as work:
        ticket, user = work.tickets.look(secret), work.users.get(ADA)
        assert ticket is not None
        assert user is not None
        found = (
            ticket.used_at is not None,
            work.users.hash_of(ADA),
            user.epoch,
            len(work.audit.read(LIVE)),
            work.outbox.depth()["new"],
        )
    assert found == ((True, "new", 1, 1, 1) if done else (False, HASH, 0, 0, 0))
    # And the dead hold no lock.
    with database.writing() as work:
        assert (work.tickets.redeem(secret, Purpose.RESET, LIVE, 0, START) is None) is done


FORKED = """
import os, sys
from tests.sql_engines import opened
from broker.testing.clock import FixedClock
from broker.testing.contracts.database import ADA
database = opened(sys.argv[1], FixedClock(), upgrade=False)
def move():
    with database.writing() as work:
        return work.users.move_epoch(ADA)
with database.reading() as view:
    before = view.users.get(ADA).epoch
    assert move() == before + 1
    children = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            moved = [move() for _ in range(20)]
            with database.reading() as mine:
                seen = mine.users.get(ADA).epoch
            sys.exit(0 if moved == sorted(set(moved)) and seen >= moved[-1] else 1)
        children.append(pid)
    mine = [move() for _ in range(20)]
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    assert view.users.get(ADA).epoch == before
print(move() - before)
"""


def test_children_and_parent_go_on_after_a_fork_and_no_write_is_lost(tmp_path: Path, database: SqlDatabase) -> None:
    database.close()
    ran = subprocess.run(
        [sys.executable, "-c", FORKED, f"sqlite:///{tmp_path}/broker.db"], capture_output=True, text=True
    )
    assert (ran.stdout, ran.returncode) == ("82\n", 0), ran.stderr


def test_every_connection_is_durable_and_keeps_references(database: SqlDatabase) -> None:
    for engine, query_only in ((database._engines.writer, 0), (database._engines.reader, 1)):
        with engine.connect() as connection:
            found = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "query_only")
            }
        assert found == {
            "journal_mode": "wal",
            "synchronous": 2,  # FULL
            "foreign_keys": 1,
            "busy_timeout": 10_000,
            "query_only": query_only,
        }


def test_the_file_is_not_readable_by_others(tmp_path: Path, database: SqlDatabase) -> None:
    assert [file.stat().st_mode & 0o777 for file in tmp_path.glob("broker.db*")] == [0o600] * 3
