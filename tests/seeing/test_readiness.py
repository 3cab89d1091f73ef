"""What is missing is named, once in the log with its reason, and not to strangers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from broker.core.errors import Unavailable
from broker.flows.readiness import Readiness
from broker.stores.kv.embedded import EmbeddedValkey
from broker.testing.town import Town


class Store:
    there = True

    def ping(self) -> None:
        if not self.there:
            raise Unavailable("db.internal:5432 refused", code="database.unavailable")


def test_a_store_that_goes_and_comes_back_is_said_once_each() -> None:
    store, said = Store(), []

    def say(event: str, reference: str, **facts: Any) -> None:
        said.append((event, facts.get("detail", "")))

    readiness = Readiness({"database": store.ping, "key_value": lambda: None}, say)
    assert readiness.missing() == ()
    store.there = False
    assert [readiness.missing() for _ in range(3)] == [("database",)] * 3
    store.there = True
    assert readiness.missing() == ()
    assert said == [("store.unavailable", "db.internal:5432 refused"), ("store.back", "")]


@pytest.fixture
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Town, EmbeddedValkey]]:
    servers = [EmbeddedValkey(tmp_path_factory.mktemp("kv")) for _ in range(2)]
    town = Town(tmp_path_factory.mktemp("town"), (servers[0].start(), servers[1].start()))
    yield town, servers[0]
    town.close()
    for server in servers:
        server.stop()


def test_strangers_learn_the_name_of_what_is_missing_and_no_more(town: tuple[Town, EmbeddedValkey]) -> None:
    houses, valkey = town
    ask = houses.broker.app.test_client()
    assert ask.get("/readyz").json == {"ready": True, "missing": [], "configuration_refused": False}
    valkey.stop()
    answer = ask.get("/readyz")
    assert answer.status_code == 503
    assert answer.json == {"ready": False, "missing": ["key_value"], "configuration_refused": False}
    assert ask.get("/healthz").status_code == 200
