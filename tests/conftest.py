"""What every test stands on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import pytest
import structlog

from tests.engines import PAIRS, Pair
from tests.servers import Homerealm, homerealm

FIRST = "sqlite-valkey"
PASSWORD = "a long sentence that ada remembers"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engines", choices=PAIRS, default=FIRST, help="what the tests that open stores stand on")


WORKING, WAITING = ("browser", "peer", "packaging"), ("crash",)
"""Markers of files that take long: most of the time they compute, or they wait."""


HERE = Path(__file__).parent
ALIKE = frozenset(
    ["architecture", "browser", "contracts", "core", "demo", "faults", "fleet", "packaging", "peers", "seeing",
     "services", "settings", "stores", "stores_kv", "world"]
)  # fmt: skip
"""Folders in which no test asks for `engines`: for the second pair they are not even read."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    second = config.getoption("--engines") != FIRST
    return True if second and collection_path.parent == HERE and collection_path.name in ALIKE else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The second pair is for what touches an engine. Long files come first: who begins one late ends alone; and in
    turn those that compute and those that wait, so that few wait at the same time."""
    working, waiting = ([item.path for item in items if any(map(item.get_closest_marker, names))]
                        for names in (WORKING, WAITING))  # fmt: skip
    long = zip_longest(dict.fromkeys(working), dict.fromkeys(waiting))
    order = {path: place for place, path in enumerate(path for both in long for path in both if path)}
    items.sort(key=lambda item: order.get(item.path, len(order)))
    second = config.getoption("--engines") != FIRST
    wanted, left = [], []
    for item in items:
        other = "engines" in getattr(item, "fixturenames", ()) and item.get_closest_marker("own_stores") is None
        (wanted if other or not second else left).append(item)
        if other and item.path.relative_to(HERE).parts[0] in ALIKE:
            raise pytest.UsageError(
                f"{item.nodeid} asks for engines: take its folder out of ALIKE in tests/conftest.py"
            )
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = wanted


@pytest.fixture(scope="session", autouse=True)
def stores_may_take_their_time() -> Iterator[None]:
    """A busy machine or its disk may stand still for seconds. What becomes of those who wait then is told by
    tests/stores_kv/test_frozen.py, with the product's own patience; and by servers in processes of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("broker.stores.kv.routes.ANSWER_SECONDS", 20.0)
        yield


@pytest.fixture(autouse=True)
def events_go_where_the_next_test_expects_them() -> Iterator[None]:
    """`capture_logs` leaves structlog configured, and events then go to it instead of to `logging`."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()


@pytest.fixture(scope="session")
def engines(pytestconfig: pytest.Config) -> Pair:
    """What this run stands on. Whoever opens stores asks for it (tests/engines.py)."""
    return PAIRS[pytestconfig.getoption("--engines")]


SKIPPED = "skipped, although CI is set: "


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """With CI set, a skip is a failure: it must not look like a pass."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome, report.longrepr = "failed", SKIPPED + str(report.longrepr)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):
    """So is a module that skips itself."""
    report = yield
    if os.environ.get("CI") and report.skipped:
        report.outcome, report.longrepr = "failed", SKIPPED + str(report.longrepr)
    return report


@pytest.fixture(scope="session")
def homerealm_server(engines: Pair) -> Iterator[Homerealm]:
    """`homerealm serve` on a free port: tenant `acme` with the user `ada` and her `PASSWORD`. One per worker."""
    with homerealm(engines=engines) as server:
        server.add_user("ada", PASSWORD)
        with server.serving():
            yield server
