"""Mixed load with a fault every few seconds: at the end nothing is unexplained, and nothing has grown."""

from __future__ import annotations

import contextlib
import os
import random
import re
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash.processes import gone, kill_nine, tree, wait_until
from tests.faults import blows
from tests.faults.fleet import Fleet, fleet
from tests.faults.people import App, Crowd
from tests.faults.test_faults import came, healthy
from tests.postgresql import Postgres

pytestmark = pytest.mark.deep
SECONDS = float(os.environ.get("HOMEREALM_SOAK_SECONDS", "600"))
AFTERWARDS = 10.0
"""Seconds after a fault within which a documented "not now" is explained by it."""
GROWTH = 1.1
"""What the last quarter of the measurements may have over the second one."""


@contextlib.contextmanager
def _first_replica(two: Fleet) -> Iterator[None]:
    victims = list(tree(two.replicas[0].pid))
    kill_nine(victims)
    assert gone(victims)
    yield


# The web process of the second replica is spared: whether it grows can be seen.
FAULTS = (
    blows.WEB, blows.WORKER, blows.SUPERVISOR, replace(blows.REPLICA, strike=_first_replica),
    blows.DATABASE, blows.DATABASE_KILLED,
)  # fmt: skip


def test_a_soak_ends_without_an_unexplained_error_and_nothing_has_grown(postgres: Postgres) -> None:
    chance = random.Random(20261121)
    windows: list[tuple[float, float]] = []
    sizes: list[tuple[float, int]] = []
    with fleet(postgres, people=80) as two, ExitStack() as restarted:
        app = App(two)
        (spared,) = two.replicas[1].parts("broker.wsgi")
        with Crowd(app, resets_every=31) as crowd:
            wait_until(lambda: crowd.done["login"] >= 10, "people use it")
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                fault = chance.choice(FAULTS)
                began = time.monotonic()
                with fault.strike(two):
                    if two.replicas[0].process is not None and two.replicas[0].process.poll() is not None:
                        restarted.enter_context(two.replicas[0].serving("--workers", "1"))  # as an init system does
                    healthy(app, mails=False)
                windows.append((began, time.monotonic() + AFTERWARDS))
                before = crowd.done["login"]
                wait_until(lambda before=before: crowd.done["login"] >= before + 5, "people use it as before", 60)
                sizes.append(measure(spared))
        unexplained = [
            trouble
            for trouble in crowd.troubles
            if trouble.status not in {None, 503} or not any(begin <= trouble.at <= last for begin, last in windows)
        ]
        print(f"{len(windows)} faults, {dict(crowd.done)}, {len(crowd.troubles)} answers were troubled", sizes)
        assert not unexplained, unexplained
        wait_until(lambda: came(two, crowd), "every mail that was promised")
        crowd.check_the_books()
        assert flat([memory for memory, _ in sizes]), sizes
        assert flat([float(descriptors) for _, descriptors in sizes], spare=8), sizes


def measure(pid: int) -> tuple[float, int]:
    """MB of its own share of memory (PSS counts neighbours that come and go), and open files."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    private = sum(int(size) for size in re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.MULTILINE))
    return private / 1024, len(list(Path(f"/proc/{pid}/fd").iterdir()))


def flat(values: list[float], spare: float = 4.0) -> bool:
    quarter = max(1, len(values) // 4)
    second, last = values[quarter : 2 * quarter] or values[:1], values[-quarter:]
    return statistics.median(last) <= statistics.median(second) * GROWTH + spare
