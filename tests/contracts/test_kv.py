"""The key-value stores keep their contracts: on Valkey, on Redis, and on a cluster of either."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from broker.services.secrets import SecretVault
from broker.stores.kv.grants import KvGrants
from broker.stores.kv.leases import KvLeases
from broker.stores.kv.logins import KvLogins
from broker.stores.kv.redis import RedisKeyValue
from broker.stores.kv.sessions import KvSessions
from broker.stores.kv.throttle import KvThrottle
from broker.stores.kv.transactions import KvTransactions
from broker.testing.clock import FixedClock
from broker.testing.contracts.grants import GrantsContract
from broker.testing.contracts.key_value import KeyValueContract
from broker.testing.contracts.leases import LeasesContract
from broker.testing.contracts.sessions import SessionsContract
from broker.testing.contracts.throttle import ThrottleContract
from broker.testing.contracts.transactions import LoginsContract, TransactionsContract
from broker.testing.entropy import SeededEntropy
from tests.kv_engines import ENGINES, emptied, server
from tests.kv_servers import cluster

VAULT = SecretVault(bytes(range(32)))


@pytest.fixture(scope="module", params=[*ENGINES, *(f"{engine} cluster" for engine in ENGINES)])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    engine, _, several = request.param.partition(" ")
    if several:
        with cluster(engine) as nodes:
            yield nodes.url
    else:
        with server(engine) as url:
            yield url


@pytest.fixture
def kv(url: str) -> Iterator[RedisKeyValue]:
    with emptied(url) as kv:
        yield kv


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


class Stores:
    """The stores under test; each contract asks for those that it is about."""

    @pytest.fixture
    def clock(self, clock: FixedClock) -> FixedClock:
        return clock

    @pytest.fixture
    def transactions(self, kv: RedisKeyValue, clock: FixedClock) -> KvTransactions:
        return KvTransactions(kv, clock)

    @pytest.fixture
    def sessions(self, kv: RedisKeyValue, clock: FixedClock) -> KvSessions:
        return KvSessions(kv, VAULT, clock)

    @pytest.fixture
    def grants(self, kv: RedisKeyValue, clock: FixedClock) -> KvGrants:
        return KvGrants(kv, VAULT, clock)

    @pytest.fixture
    def logins(self, kv: RedisKeyValue, clock: FixedClock) -> KvLogins:
        return KvLogins(kv, VAULT, clock, SeededEntropy())

    @pytest.fixture
    def throttle(self, kv: RedisKeyValue, clock: FixedClock) -> KvThrottle:
        return KvThrottle(kv, clock, f"{int(clock.now().timestamp())}.installation")

    @pytest.fixture
    def leases(self, kv: RedisKeyValue) -> KvLeases:
        return KvLeases(kv)


class TestKeyValue(KeyValueContract):
    @pytest.fixture
    def kv(self, kv: RedisKeyValue) -> RedisKeyValue:
        return kv


class TestTransactions(Stores, TransactionsContract):
    pass


class TestLogins(Stores, LoginsContract):
    pass


class TestSessions(Stores, SessionsContract):
    pass


class TestGrants(Stores, GrantsContract):
    pass


class TestThrottle(Stores, ThrottleContract):
    pass


class TestLeases(Stores, LeasesContract):
    pass
