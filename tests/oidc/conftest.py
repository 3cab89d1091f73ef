"""The provider on SQLite and Valkey."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.services.secrets import SecretVault
from broker.stores.kv.embedded import EmbeddedValkey
from broker.stores.kv.grants import KvGrants
from broker.stores.kv.redis import RedisKeyValue
from broker.stores.kv.sessions import KvSessions
from broker.stores.sql.database import SqlDatabase
from broker.testing.clock import FixedClock
from broker.testing.entropy import SeededEntropy
from tests.oidc.op import Op

VAULT = SecretVault(bytes(range(32)))


@dataclass
class Stores:
    database: SqlDatabase
    kv: RedisKeyValue


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    """Shared by all tests: each has a person and grants of its own."""
    folder: Path = tmp_path_factory.mktemp("op")
    server = EmbeddedValkey(folder / "valkey")
    kv = RedisKeyValue.connect(server.start())
    database = SqlDatabase(f"sqlite:///{folder}/op.db", FixedClock(), SeededEntropy("op"), VAULT)
    database.upgrade()
    yield Stores(database, kv)
    kv.close()
    database.close()
    server.stop()


@pytest.fixture
def op(stores: Stores, request: pytest.FixtureRequest) -> Op:
    clock = FixedClock()
    return Op(
        stores.database,
        KvGrants(stores.kv, VAULT, clock),
        KvSessions(stores.kv, VAULT, clock),
        VAULT,
        clock,
        SeededEntropy(request.node.nodeid),
    )
