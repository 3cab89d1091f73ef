"""A primary that is killed: what happens once still happens once, and the store is back without a hand."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from redis.exceptions import ConnectionError as Broken
from redis.exceptions import RedisError

from broker.core.attempts import Demand, Limit
from broker.core.errors import Unavailable
from broker.services.secrets import SecretVault
from broker.stores.kv import routes
from broker.stores.kv.grants import KvGrants
from broker.stores.kv.redis import RedisKeyValue
from broker.stores.kv.scripts import BY_SHA
from broker.stores.kv.throttle import KvThrottle
from broker.testing.clock import FixedClock
from broker.testing.race import race
from broker.testing.samples import a_grant
from tests.kv_engines import ENGINES, LossyProxy
from tests.kv_servers import GO_ON, STOP, Watched, certificates, cluster, processes, until, watched
from tests.servers import free_ports, short_folder

pytestmark = pytest.mark.crash
HOUR = timedelta(hours=1)
FROM = Limit("from", burst=20, period=timedelta(seconds=1))
LEFT = pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
"""Where the other side goes between connection and handshake, Python's `SSLContext.wrap_socket` raises and leaves its
socket to be collected."""
TICKETS = [f"ticket-{number}" for number in range(300)]


@dataclass
class Fallible:
    """A store whose primary can be killed, and that gets another one by itself."""

    url: str
    kill: Callable[[], None]


@contextlib.contextmanager
def fallible(kind: str, engine: str) -> Iterator[Fallible]:
    with short_folder() as files:
        secret = certificates(files).parent if "TLS" in kind else None
        if "sentinel" in kind:
            with watched(engine, secret) as servers:
                yield Fallible(servers.url, servers.primary.kill)
        else:
            with cluster(engine, replicas=3, files=secret) as nodes:
                yield Fallible(nodes.url, nodes.nodes[0].kill)


@pytest.fixture(params=ENGINES)
def servers(request: pytest.FixtureRequest) -> Iterator[Watched]:
    with watched(request.param) as servers:
        yield servers


@contextlib.contextmanager
def connected(url: str) -> Iterator[RedisKeyValue]:
    with contextlib.closing(RedisKeyValue.connect(url)) as kv:
        yield kv


@pytest.mark.parametrize(
    ("kind", "engine"),
    [("sentinel", "redis"), ("sentinel", "valkey"), ("cluster", "redis"),
     pytest.param("sentinel over TLS", "redis", marks=LEFT), pytest.param("cluster over TLS", "redis", marks=LEFT)],
)  # fmt: skip
def test_a_primary_is_killed_under_eight_who_take_and_nothing_is_taken_twice(kind: str, engine: str) -> None:
    with fallible(kind, engine) as store, connected(store.url) as kv:
        for ticket in TICKETS:
            kv.put(ticket, ticket.encode(), HOUR)
        taken: list[list[str]] = [[] for _ in range(8)]
        half_way, back = threading.Event(), threading.Event()

        def greedy(number: int) -> None:
            """Try every ticket; then, when the store is back, every ticket again."""

            def take(ticket: str) -> bool:
                if kv.take(ticket) is not None:
                    taken[number].append(ticket)
                return True

            order = random.Random(number).sample(TICKETS, len(TICKETS))
            for at, ticket in enumerate(order):
                if at == len(order) // 8:
                    half_way.set()
                with contextlib.suppress(Unavailable):
                    take(ticket)
            back.wait()
            for ticket in order:
                until(partial(take, ticket), "the store is back for all")

        threads = [threading.Thread(target=greedy, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        half_way.wait()
        store.kill()
        try:
            until(lambda: all(kv.put(f"new-{at}", b"", HOUR) for at in range(50)), "the store is back")
        finally:
            back.set()
        for thread in threads:
            thread.join()
        times = Counter(itertools.chain(*taken))
        assert max(times.values()) == 1
        assert sum(times.values()) > len(TICKETS) // 8
        assert all(kv.get(ticket) is None for ticket in TICKETS)


def test_a_take_that_only_a_dead_primary_has_counts_as_failed(servers: Watched) -> None:
    with connected(servers.url) as kv:
        kv.put("ticket", b"ada", HOUR)
        _replicated(servers)
        servers.link.hold()
        with pytest.raises(Unavailable, match="0 of 1 replicas"):
            kv.take("ticket")
        _fail_over(servers)
        until(lambda: kv.get("ticket") == b"ada", "the replica has become the primary")
        assert kv.take("ticket") == b"ada"
        assert kv.take("ticket") is None


def test_a_solved_challenge_and_a_revoked_token_that_only_a_dead_primary_has_count_as_failed(servers: Watched) -> None:
    demand = Demand(always=True, solved="one", lifetime=HOUR)
    with connected(servers.url) as kv:
        clock = FixedClock()
        grants = KvGrants(kv, SecretVault(bytes(range(32))), clock)
        throttle = KvThrottle(kv, clock, "marker")
        throttle.charge(FROM)
        kv.put("the first", b"", HOUR)
        assert kv.take("the first") == b"", "it knows the replica now"
        _replicated(servers)
        servers.link.hold()
        with pytest.raises(Unavailable, match="0 of 1 replicas"):
            throttle.charge(FROM, demand=demand)
        with pytest.raises(Unavailable, match="0 of 1 replicas"):
            grants.revoke_token("jti", HOUR)
        throttle.charge(FROM)  # what is merely counted waits for nobody
        _fail_over(servers)
        until(lambda: not throttle.charge(FROM, demand=demand).demanded, "the replica has become the primary")
        assert throttle.charge(FROM, demand=demand).demanded
        grants.revoke_token("jti", HOUR)
        assert grants.is_revoked("jti")


def test_who_does_not_want_to_wait_for_replicas_has_it_taken_twice(servers: Watched) -> None:
    """What the others guard against does happen."""
    with connected(f"{servers.url}?replicas=0") as kv:
        kv.put("ticket", b"ada", HOUR)
        _replicated(servers)
        servers.link.hold()
        assert kv.take("ticket") == b"ada"
        _fail_over(servers)
        until(lambda: kv.take("ticket") == b"ada", "the ticket is back")


def test_with_no_replica_left_there_is_nothing_to_wait_for(servers: Watched) -> None:
    with connected(servers.url) as kv:
        kv.put("1", b"", HOUR)
        kv.put("2", b"", HOUR)
        assert kv.take("1") == b""
        servers.replica.kill()
        until(lambda: "connected_slaves:0" in servers.primary.info("replication"), "the replica is missed")
        assert kv.take("2") == b""
        kv.put("3", b"", HOUR)
    with connected(f"{servers.url}?replicas=1") as kv, pytest.raises(Unavailable, match="0 of 1 replicas"):
        kv.take("3")


@pytest.mark.parametrize("step", ["take", "put_absent", "swap", "redeem", "rotate", "revoke token", "solved"])
def test_a_step_that_is_asked_for_again_waits_for_replicas_again(servers: Watched, step: str) -> None:
    """Its answer was lost, so it is repeated, and changes nothing the second time: replicas still have not got it."""
    proxy = LossyProxy(f"redis://127.0.0.1:{servers.primary.port}")
    with connected(f"{proxy.url}?replicas=1") as kv:
        clock = FixedClock()
        grants = KvGrants(kv, SecretVault(bytes(range(32))), clock)
        throttle = KvThrottle(kv, clock, "marker")
        grant = a_grant(clock.now())
        for script in BY_SHA.values():
            kv.everywhere("SCRIPT", "LOAD", script.text)
        code, first, second = grants.code_for(grant.id, "r"), *(grants.refresh_for(grant.id, at) for at in "12")
        kv.put("ticket", b"ada", HOUR)
        grants.save_code(code, grant, HOUR)
        if step == "rotate":
            grants.redeem_code(code, first)
        steps: dict[str, Callable[[], object]] = {
            "take": lambda: kv.take("ticket"),
            "put_absent": lambda: kv.put("jti", b"", HOUR, only_if_absent=True),
            "swap": lambda: kv.swap("ticket", b"ada", b"eve", HOUR),
            "redeem": lambda: grants.redeem_code(code),
            "rotate": lambda: grants.rotate_refresh(first, second),
            "revoke token": lambda: grants.revoke_token("jti", HOUR),
            "solved": lambda: throttle.charge(FROM, demand=Demand(always=True, solved="one", lifetime=HOUR)),
        }
        _replicated(servers)
        servers.link.hold()
        try:
            proxy.lose_next_answer()
            with pytest.raises(Unavailable, match="0 of 1 replicas"):
                steps[step]()
            assert proxy.lost == 1
        finally:
            proxy.close()


@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
def test_who_only_asks_whether_the_store_is_there_finds_the_new_primary(kind: str) -> None:
    """`/readyz` asks so. A proxy that believes it sends nobody else meanwhile who would find it."""

    def there() -> bool:
        with contextlib.suppress(Unavailable):
            kv.ping()
            return True
        return False

    with fallible(kind, "redis") as store, connected(store.url) as kv:
        assert there()
        store.kill()
        assert not there()
        until(there, "the new primary is found")


@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
def test_a_planned_failover_is_noticed_by_who_only_takes_steps_that_replicas_must_have(kind: str) -> None:
    """A background worker's leases are such steps. A replica refuses to wait for replicas, before anything else."""

    names = map(str, itertools.count())

    def steps() -> bool:
        return all(kv.put(next(names), b"", HOUR, only_if_absent=True) for _ in range(30))

    with contextlib.ExitStack() as stores:
        if kind == "sentinel":
            servers = stores.enter_context(watched("redis"))
            url, old, new = servers.url, servers.primary, servers.replica
            fail_over = partial(servers.sentinel.ask, "SENTINEL", "FAILOVER", "acme")
        else:
            nodes = stores.enter_context(cluster("redis", replicas=3))
            url, old, new = nodes.url, nodes.nodes[0], nodes.nodes[3]
            fail_over = partial(new.ask, "CLUSTER", "FAILOVER")
        kv = stores.enter_context(connected(url))
        until(steps, "the replicas have it")
        until(lambda: bool(fail_over()), "the failover has begun")
        until(lambda: "role:master" in new.info("replication"), "the replica is promoted")
        until(lambda: "role:slave" in old.info("replication"), "the old primary replicates the new one")
        until(steps, "the new primary is found")


def test_an_address_that_moves_at_a_failover_is_followed() -> None:
    """Managed stores, proxies and services of Kubernetes have one: connections to the old primary stay open."""
    port = free_ports(2)
    with processes() as start:
        old, new = start("redis", port), start("redis", port + 1, f"replicaof 127.0.0.1 {port}")
        until(lambda: "master_link_status:up" in new.info("replication"), "the replica")
        proxy = LossyProxy(f"redis://127.0.0.1:{port}")
        with contextlib.closing(proxy), connected(f"{proxy.url}?replicas=0") as kv:
            kv.put("before", b"1", HOUR)
            assert kv.take("before") == b"1"
            new.ask("REPLICAOF", "NO", "ONE")
            proxy.lead_to(f"redis://127.0.0.1:{port + 1}")
            old.ask("REPLICAOF", "127.0.0.1", port + 1)
            kv.put("after", b"2", HOUR)
            assert kv.take("after") == b"2"
            assert kv.put("absent", b"3", HOUR, only_if_absent=True)


def test_while_nobody_names_a_primary_threads_do_not_wait_one_after_the_other() -> None:
    """A machine that is off does not refuse: each try takes as long as a connection may."""
    looked: list[str] = []
    with watched("redis") as servers, connected(servers.url) as kv:
        route = kv.route
        assert isinstance(route, routes.Watched)
        route.everywhere(("PING",))
        servers.sentinel.signal(STOP)
        servers.primary.kill()
        ask = route._sentinels[0].exchange

        def counted(*commands: Any, **how: Any) -> Any:
            looked.append("")
            return ask(*commands, **how)

        route._sentinels[0].exchange = counted  # type: ignore[method-assign]
        with contextlib.suppress(RedisError, OSError):
            route.everywhere(("PING",))  # forgets the one that is dead

        def asks(_: int) -> bool:
            with pytest.raises((RedisError, OSError)):
                route.everywhere(("PING",))
            return True

        looked.clear()
        assert all(race(asks, 24))
        assert len(looked) <= 3
        servers.sentinel.signal(GO_ON)


def test_whoever_hears_from_a_primary_that_was_given_up_meanwhile_keeps_no_connection_to_it(servers: Watched) -> None:
    lines = []

    def gone() -> bool:
        lines[:] = [line for line in kv.everywhere("CLIENT", "LIST").popitem()[1].decode().splitlines()
                    if "cmd=blpop" in line]  # fmt: skip
        return not lines

    with connected(servers.url) as kv:
        slow = threading.Thread(target=kv.route.exchange, args=([("BLPOP", b"soon", 0)],))
        slow.start()
        until(lambda: not gone(), "it waits for its answer")
        with pytest.raises(Broken, match="has become a replica"):
            kv.route.exchange([("EVAL", "return redis.error_reply('READONLY no more')", 0)])
        kv.everywhere("LPUSH", "soon", "an answer")
        slow.join()
        until(gone, "the server has noticed that it was closed")


def _replicated(servers: Watched) -> None:
    """Wait until the replica has everything."""

    def offsets() -> tuple[str, str]:
        told = servers.primary.info("replication"), servers.replica.info("replication")
        return tuple(one.partition("master_repl_offset:")[2].split()[0] for one in told)  # type: ignore[return-value]

    until(lambda: len(set(offsets())) == 1, "the replica has it")


def _fail_over(servers: Watched) -> None:
    servers.primary.kill()
    until(servers.promoted, "the replica is promoted")


def test_eight_threads_find_the_new_primary_of_a_dead_one(servers: Watched) -> None:
    with connected(servers.url) as kv:
        kv.put("kept", b"1", HOUR)
        _replicated(servers)
        servers.primary.kill()
        until(servers.promoted, "the replica is promoted")

        def get(_: int) -> bool:
            until(lambda: kv.get("kept") == b"1", "the new primary is found")
            return True

        assert all(race(get, 8))
