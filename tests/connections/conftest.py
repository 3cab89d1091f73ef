"""A workbench with a real database on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.services.hashing import Argon2Hasher
from broker.services.secrets import SecretVault
from broker.stores.sql.database import SqlDatabase
from broker.testing.clock import FixedClock
from broker.testing.entropy import SeededEntropy
from broker.testing.tools import Workbench
from tests.engines import Pair


@pytest.fixture
def bench(tmp_path: Path, engines: Pair) -> Iterator[Workbench]:
    clock, entropy = FixedClock(), SeededEntropy()
    database = SqlDatabase(engines.database(tmp_path / "people.db"), clock, entropy, SecretVault(b"k" * 32))
    database.upgrade()
    hasher = Argon2Hasher(memory_kib=8, time_cost=1)
    yield Workbench(clock=clock, entropy=entropy, database=database, hasher=hasher)
    hasher.close()
    database.close()
