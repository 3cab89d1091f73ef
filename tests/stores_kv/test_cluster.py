"""A cluster: which keys lie together, and what the client does when they move."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from broker.core.errors import Unavailable
from broker.core.store_address import parse_store_address
from broker.services.secrets import SecretVault
from broker.stores.kv.line import EVAL, EVALSHA, Command
from broker.stores.kv.redis import RedisKeyValue
from broker.stores.kv.routes import Cluster
from broker.stores.kv.scripts import BY_SHA
from broker.testing.race import race
from tests.kv_engines import ENGINES, emptied
from tests.kv_servers import Nodes, Process, cluster, until
from tests.stores_kv.journey import everything_that_is_done_with_a_login

pytestmark = pytest.mark.crash
HOUR = timedelta(hours=1)
VAULT = SecretVault(bytes(range(32)))
NAMES = {one.text: one.name for one in BY_SHA.values()}


@pytest.fixture(scope="module", params=ENGINES)
def nodes(request: pytest.FixtureRequest) -> Iterator[Nodes]:
    with cluster(request.param) as nodes:
        yield nodes


@pytest.fixture
def kv(nodes: Nodes) -> Iterator[RedisKeyValue]:
    with emptied(nodes.url) as kv:
        yield kv


class Listening(Cluster):
    """Remembers the real keys of each script."""

    def __init__(self, url: str) -> None:
        super().__init__(parse_store_address(url))
        self.keys: dict[str, list[set[int]]] = defaultdict(list)

    def exchange(self, commands: Sequence[Command], *, once: bool = False) -> list[Any]:
        for command in commands:
            if command[0] in (EVAL, EVALSHA):
                name = NAMES[str(command[1])] if command[0] == EVAL else BY_SHA[command[1]].name  # type: ignore[index]
                keys = command[3 : 3 + int(command[2])]
                self.keys[name].append({key_slot(key) for key in keys})  # type: ignore[arg-type]
        return super().exchange(commands, once=once)


def test_the_keys_of_every_script_lie_in_one_slot(nodes: Nodes) -> None:
    route = Listening(nodes.url)
    with contextlib.closing(RedisKeyValue(route)) as kv:
        everything_that_is_done_with_a_login(kv)
    assert {name for name, slots in route.keys.items() if any(len(each) != 1 for each in slots)} == set()
    assert set(NAMES.values()) - route.keys.keys() == {"login_finish"}  # for one server; on a cluster it goes by slot


def test_a_script_over_two_slots_is_refused_before_it_is_sent(kv: RedisKeyValue) -> None:
    some = next(iter(BY_SHA.values()))
    with pytest.raises(ValueError, match="2 slots"):
        kv.run(some, ["a", "b"], [])


def test_many_keys_are_read_in_the_order_that_they_were_asked_for(kv: RedisKeyValue) -> None:
    keys = [f"key {number}" for number in range(60)]
    for key in keys[::2]:
        kv.put(key, key.encode(), HOUR)
    assert kv.get_many(keys) == [key.encode() if number % 2 == 0 else None for number, key in enumerate(keys)]
    kv.delete(*keys)
    assert kv.get_many(keys) == [None] * 60


def test_a_slot_that_is_moving_is_asked_for_where_it_goes(nodes: Nodes, kv: RedisKeyValue) -> None:
    """ASK while it moves, MOVED afterwards; nobody notices, and what is taken is taken once."""
    kv.put("{moving}", b"old", HOUR)
    slot = key_slot(b"{moving}")
    source, target = _owner(nodes, slot), next(one for one in nodes.nodes if one is not _owner(nodes, slot))
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", nodes.id(source))
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", nodes.id(target))
    assert kv.get("{moving}") == b"old"
    kv.put("{moving}new", b"new", HOUR)
    assert kv.get("{moving}new") == b"new"
    # One key is there, the one beside it nowhere: a cluster runs no script over both as long as their slot moves.
    with pytest.raises(Unavailable):
        kv.take("{moving}")
    source.ask("MIGRATE", "127.0.0.1", target.port, "{moving}", 0, 5000)
    for node in (target, source, *nodes.nodes):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", nodes.id(target))
    assert _owner(nodes, slot) is target
    assert sorted(value is not None for value in race(lambda _: kv.take("{moving}"), 8)) == [False] * 7 + [True]


def _owner(nodes: Nodes, slot: int) -> Process:
    for node in nodes.nodes:
        for first, end, primary, *_ in _slots(node):
            if first <= slot <= end:
                return next(one for one in nodes.nodes if one.port == primary[1])
    raise AssertionError("nobody owns it")


def _slots(node: Process) -> Any:
    kv = RedisKeyValue.connect(f"redis://127.0.0.1:{node.port}")
    with contextlib.closing(kv):
        (table,) = kv.everywhere("CLUSTER", "SLOTS").values()
        return table


def test_a_cluster_that_lost_a_part_of_itself_says_so_and_is_used_again_when_it_is_back() -> None:
    with cluster("redis") as nodes, contextlib.closing(RedisKeyValue.connect(nodes.url)) as kv:
        kv.put("key", b"1", HOUR)
        lost = _owner(nodes, key_slot(b"key"))
        lost.kill()
        with pytest.raises(Unavailable):
            kv.get("key")
        lost.start()
        until(lambda: kv.get("key") is None and kv.put("key", b"2", HOUR), "the node is back, and empty")
        assert kv.take("key") == b"2"


def test_an_address_needs_one_living_node_only(nodes: Nodes) -> None:
    url = f"redis+cluster://127.0.0.1:1,127.0.0.1:{nodes.nodes[2].port}"
    with contextlib.closing(RedisKeyValue.connect(url)) as kv:
        kv.put("key", b"1", HOUR)
        assert kv.get("key") == b"1"
        kv.ping()


def test_redis_py_reads_what_we_wrote_where_it_looks_for_it(nodes: Nodes, kv: RedisKeyValue) -> None:
    """A second opinion on slots."""
    for number in range(30):
        kv.put(f"x{{tag {number}}}y", str(number).encode(), HOUR)
    with redis.RedisCluster(port=nodes.nodes[0].port, host="127.0.0.1") as client:
        assert all(client.get(f"x{{tag {number}}}y") == str(number).encode() for number in range(30))
