"""A store that takes commands and does not answer: callers are told soon, and it is used again once it answers."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from datetime import timedelta

import pytest

from broker.core.errors import Unavailable
from broker.stores.kv.embedded import EmbeddedValkey
from broker.stores.kv.redis import RedisKeyValue
from broker.stores.kv.routes import ANSWER_SECONDS
from broker.testing.race import race
from tests.kv_engines import binary
from tests.kv_servers import GO_ON, STOP, Watched, until, watched
from tests.servers import short_folder

pytestmark = pytest.mark.crash
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.stores.kv.routes.ANSWER_SECONDS", ANSWER_SECONDS)


@pytest.fixture
def store() -> Iterator[EmbeddedValkey]:
    with short_folder() as folder:
        store = EmbeddedValkey(folder, binary=binary("valkey"))
        try:
            yield store
        finally:
            if store.pid:
                os.kill(store.pid, signal.SIGCONT)
            store.stop()


def test_eight_who_ask_a_frozen_store_are_told_and_go_on_when_it_thaws(store: EmbeddedValkey) -> None:
    with contextlib.closing(RedisKeyValue.connect(store.start())) as kv:
        kv.put("ticket", b"ada", HOUR)
        assert store.pid is not None
        os.kill(store.pid, signal.SIGSTOP)

        def told(_: int) -> bool:
            with pytest.raises(Unavailable):
                kv.take("ticket")
            return True

        assert all(race(told, 8))  # they come back although nothing answers
        os.kill(store.pid, signal.SIGCONT)
        until(lambda: kv.put("other", b"", HOUR), "the store answers")
        # One of them may have taken it, in the moment that it thawed: the server had read the command.
        assert sum(value is not None for value in race(lambda _: kv.take("ticket"), 8)) <= 1
        assert kv.get("ticket") is None


def test_a_command_that_comes_late_is_not_taken_for_the_answer_of_another(store: EmbeddedValkey) -> None:
    with contextlib.closing(RedisKeyValue.connect(store.start())) as kv:
        for number in range(16):
            kv.put(f"k{number}", f"v{number}".encode(), HOUR)
        assert store.pid is not None
        os.kill(store.pid, signal.SIGSTOP)

        def late(number: int) -> None:
            with contextlib.suppress(Unavailable):
                kv.get(f"k{number}")

        race(late, 8)
        os.kill(store.pid, signal.SIGCONT)
        until(lambda: kv.get("k0") == b"v0", "the store answers")
        assert race(lambda number: kv.get(f"k{number}"), 16) == [f"v{number}".encode() for number in range(16)]


@pytest.fixture
def servers() -> Iterator[Watched]:
    with watched("redis") as servers:
        yield servers


def test_a_frozen_primary_is_replaced_and_no_longer_believed_when_it_thaws(servers: Watched) -> None:
    with contextlib.closing(RedisKeyValue.connect(servers.url)) as kv:
        kv.put("ticket", b"ada", HOUR)
        assert servers.primary.ask("WAIT", 1, 1000) is not None
        servers.primary.signal(STOP)
        until(servers.promoted, "the replica is promoted")
        until(lambda: kv.put("new", b"1", HOUR), "the new primary is found")
        servers.primary.signal(GO_ON)
        until(lambda: "role:slave" in servers.primary.info("replication"), "the old primary is a replica")
        assert kv.get("new") == b"1"
        assert sorted(value is not None for value in race(lambda _: kv.take("ticket"), 8)) in (
            [False] * 7 + [True],
            [False] * 8,
        )
