"""The provider on real stores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from broker.services.secrets import SecretVault
from broker.stores.kv.grants import KvGrants
from broker.stores.kv.redis import RedisKeyValue
from broker.stores.kv.sessions import KvSessions
from broker.stores.sql.database import SqlDatabase
from broker.testing.clock import FixedClock
from broker.testing.entropy import SeededEntropy
from tests.engines import Pair
from tests.oidc.op import Op

VAULT = SecretVault(bytes(range(32)))


@dataclass
class Stores:
    database: SqlDatabase
    kv: RedisKeyValue


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory, engines: Pair) -> Iterator[Stores]:
    """Shared by all tests: each has a person and grants of its own."""
    url = engines.database(tmp_path_factory.mktemp("op") / "op.db", lasting=True)
    database = SqlDatabase(url, FixedClock(), SeededEntropy("op"), VAULT)
    database.upgrade()
    with engines.key_value() as address, closing(RedisKeyValue.connect(address)) as kv:
        yield Stores(database, kv)
    database.close()


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
