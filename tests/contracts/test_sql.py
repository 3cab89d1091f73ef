"""The SQL stores keep their contracts, on every engine, and while the next release is being rolled out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.stores.sql import SqlDatabase
from broker.testing.clock import FixedClock
from broker.testing.contracts.audit import AuditContract
from broker.testing.contracts.consents import ConsentsContract
from broker.testing.contracts.database import DatabaseContract
from broker.testing.contracts.keys import KeysContract
from broker.testing.contracts.outbox import OutboxContract
from broker.testing.contracts.tickets import TicketsContract
from broker.testing.contracts.users import DirectoryContract, IdentitiesContract, UsersContract
from tests.sql_engines import ENGINES, newer_database, opened, ready_database

NEWER = "tables of the next release"


@pytest.mark.parametrize("engine", [*ENGINES, NEWER])
class OnEveryEngine:
    @pytest.fixture
    def database(self, engine: str, clock: FixedClock, tmp_path: Path) -> Iterator[SqlDatabase]:
        url = newer_database(tmp_path) if engine == NEWER else ready_database(engine, tmp_path)
        database = opened(url, clock)
        yield database
        database.close()


class TestDatabase(OnEveryEngine, DatabaseContract):
    pass


class TestUsers(OnEveryEngine, UsersContract):
    pass


class TestIdentities(OnEveryEngine, IdentitiesContract):
    pass


class TestDirectory(OnEveryEngine, DirectoryContract):
    pass


class TestTickets(OnEveryEngine, TicketsContract):
    pass


class TestOutbox(OnEveryEngine, OutboxContract):
    pass


class TestAudit(OnEveryEngine, AuditContract):
    pass


class TestConsents(OnEveryEngine, ConsentsContract):
    pass


class TestKeys(OnEveryEngine, KeysContract):
    pass
