"""A stolen database holds no usable secret (SECURITY 2, 19)."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.core.values import UserId
from broker.services.secrets import SecretVault
from broker.stores.sql import SqlDatabase
from broker.testing.clock import START, FixedClock
from broker.testing.entropy import SeededEntropy
from broker.testing.records import BOTH, HASH, LIVE, a_job, a_signing_key, a_ticket, a_user
from broker.testing.samples import an_identity
from tests.sql_engines import opened

ADA = UserId("user-ada")


def stored(folder: Path) -> bytes:
    """All bytes of the database, its log included."""
    return b"".join(file.read_bytes() for file in sorted(folder.glob("broker.db*")))


@pytest.fixture
def database(tmp_path: Path) -> SqlDatabase:
    return opened(f"sqlite:///{tmp_path}/broker.db", FixedClock())


def test_no_secret_is_in_the_file(tmp_path: Path, database: SqlDatabase) -> None:
    with database.writing() as work:
        work.users.add(a_user(START), hash=HASH, kinds=BOTH)
        work.users.link(ADA, LIVE, an_identity(START, private={"id_token": "CANARY of an upstream"}), START)
        secret = work.tickets.issue(a_ticket(START))
        work.outbox.put(a_job(START, payload={"link": "CANARY of a link"}))
        work.keys.add(a_signing_key(START, private=b"CANARY of a key"))
    found = stored(tmp_path)
    assert HASH.encode() in found, "the search finds what is there"
    assert secret.encode() not in found
    assert b"CANARY" not in found
    database.close()


@pytest.mark.parametrize("end", ["done", "dead"])
def test_the_payload_of_a_finished_job_is_gone_from_the_file(tmp_path: Path, database: SqlDatabase, end: str) -> None:
    with database.writing() as work:
        work.outbox.put(a_job(START))
    with database._engines.reader.connect() as connection:
        sealed = connection.exec_driver_sql("SELECT payload FROM outbox").scalar_one()
    assert sealed in stored(tmp_path)
    with database.writing() as work:
        (job,) = work.outbox.claim(START, START - START)
        if end == "done":
            work.outbox.done(job, START)
        else:
            work.outbox.dead(job, "550", START)
    # Closing folds the log into the file.
    database.close()
    assert b"job-1" in stored(tmp_path)
    assert sealed not in stored(tmp_path)


def test_a_sealed_value_that_was_moved_to_another_row_does_not_open(database: SqlDatabase) -> None:
    with database.writing() as work:
        work.outbox.put(a_job(START, "job-1"))
        work.outbox.put(a_job(START, "job-2"))
        work.keys.add(a_signing_key(START, "k1"))
        work.keys.add(a_signing_key(START, "k2"))
    with database._engines.writer.begin() as connection:
        connection.exec_driver_sql("UPDATE outbox SET payload = (SELECT payload FROM outbox WHERE id = 'job-2')")
        connection.exec_driver_sql("UPDATE signing_keys SET private = (SELECT private FROM signing_keys LIMIT 1)")
    with database.writing() as work:
        assert [job.id for job in work.outbox.claim(START, START - START)] == ["job-2"]
        assert work.outbox.depth() == {"new": 1, "done": 0, "dead": 1}
        with pytest.raises(ValueError, match="signing_keys"):
            work.keys.of("acme")
    database.close()


def test_a_job_sealed_with_a_lost_key_is_given_up_and_blocks_nobody(tmp_path: Path, database: SqlDatabase) -> None:
    with database.writing() as work:
        work.outbox.put(a_job(START))
    database.close()
    vault = SecretVault(bytes(range(32, 64)))
    other = SqlDatabase(f"sqlite:///{tmp_path}/broker.db", FixedClock(), SeededEntropy(), vault)
    with other.writing() as work:
        work.outbox.put(a_job(START, "job-2"))
        assert [job.id for job in work.outbox.claim(START, START - START)] == ["job-2"]
        assert work.outbox.depth()["dead"] == 1
    other.close()
