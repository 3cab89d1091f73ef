"""Every story is told twice: the broker as an app of its own, and inside somebody's Flask app at /sso."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from broker.testing.town import Town
from tests.engines import Pair


@pytest.fixture(scope="session")
def key_values(engines: Pair) -> Iterator[tuple[str, str]]:
    """Two real servers: the broker's, and the upstream's."""
    with engines.key_values() as addresses:
        yield addresses


@pytest.fixture(params=[False, True], ids=["alone", "mounted"])
def mounted(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def build_town(
    tmp_path: Path, key_values: tuple[str, str], engines: Pair, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Town]]:
    towns: list[Town] = []

    def build(**how: Any) -> Town:
        for url in key_values:
            with redis.Redis.from_url(url) as client:
                client.flushall()
        folder = tmp_path / f"town{len(towns)}"
        if "databases" not in how:
            files = [tmp_path / f"{house}{len(towns)}.db" for house in ("broker", "upstream")]
            how["databases"] = tuple(map(engines.database, files))
        town = Town(folder, key_values, seed=request.node.nodeid, **how)
        towns.append(town)
        return town

    yield build
    for town in towns:
        town.close()


@pytest.fixture
def town(build_town: Callable[..., Town], mounted: bool) -> Town:
    """A town with Ada (a password at Acme), Grace (Acme's support desk) and Carol (signs in at Contoso)."""
    town = build_town(mounted=mounted)
    town.broker.add("acme", email="ada@acme.test", username="ada", name="Ada Lovelace")
    town.broker.add("acme", email="grace@acme.test", username="grace")
    town.upstream.add("contoso", email="carol@contoso.test", name="Carol Shaw")
    return town
