"""What every test stands on."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.servers import Homerealm, homerealm

PASSWORD = "a long sentence that ada remembers"


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
def homerealm_server() -> Iterator[Homerealm]:
    """`homerealm serve` on a free port: tenant `acme` with the user `ada` and her `PASSWORD`. One per worker."""
    with homerealm() as server:
        server.add_user("ada", PASSWORD)
        with server.serving():
            yield server
