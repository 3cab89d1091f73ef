"""What questions are put to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.stores.sql import SqlDatabase
from broker.testing.clock import START, FixedClock
from broker.testing.records import BOTH, HASH, a_user
from tests.sql_engines import ENGINES, opened, ready_database


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlDatabase]:
    database = opened(ready_database(request.param, tmp_path), FixedClock())
    with database.writing() as work:
        work.users.add(a_user(START), hash=HASH, kinds=BOTH)
    yield database
    database.close()
