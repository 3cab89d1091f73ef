"""Mixed load with a fault every few seconds: at the end nothing is unexplained, and nothing has grown."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.crash.processes import gone, kill_nine, tree, wait_until
from tests.faults import blows
from tests.faults.blows import Fault
from tests.faults.fleet import Fleet, fleet
from tests.faults.people import App, Crowd, Trouble
from tests.faults.test_faults import came, healthy, while_it_lasts
from tests.postgresql import Postgres

pytestmark = pytest.mark.deep
SECONDS = float(os.environ.get("HOMEREALM_SOAK_SECONDS", "600"))
AFTERWARDS = 3.0
"""Seconds after the fleet was well again within which a documented "not now" is explained by a fault. Then it is quiet
until people have signed in; what goes wrong there is explained by nothing."""
EXPLAINED = frozenset({None, 503})
"""No answer, and "not now". Nobody is told anything else, at any time."""
GROWN = {"broker.wsgi": 8.0, "broker hashing": 4.0 + 20.0 * len(os.sched_getaffinity(0)), "": 4.0}
"""MB that the last quarter of the measurements may have over the second, by process. In a web process 2 are garbage
that waits to be looked for (broker/wsgi.py), 4 are memories of a fixed size that fill slowly, 2 are pieces between what
is in use. If 3 kB were kept of each login, it would be more. Others have little but the pieces.
A password that is hashed in the moment of a measurement takes 19, one on each core."""
DESCRIPTORS = 8
"""More open files: connections that people and stores happen to have."""


@contextlib.contextmanager
def _first_replica(two: Fleet) -> Iterator[None]:
    victims = list(tree(two.replicas[0].pid))
    kill_nine(victims)
    assert gone(victims)
    yield


# The supervisor and the web process of the second replica are spared: whether they grow can be seen.
FAULTS = (
    blows.WEB, blows.WORKER, blows.SUPERVISOR, replace(blows.REPLICA, strike=_first_replica), blows.KEPT,
    blows.DATABASE, blows.DATABASE_KILLED, blows.MAIL, blows.UPSTREAM, blows.SLOW,
)  # fmt: skip
HARMLESS = (blows.MAIL, blows.UPSTREAM, blows.SLOW)
"""What goes wrong for somebody who signs in or resets is not explained by these."""


def shuffled(chance: random.Random) -> Iterator[Fault]:
    """Each as often as the others, without end."""
    while True:
        yield from chance.sample(FAULTS, len(FAULTS))


@dataclass(frozen=True)
class Window:
    """A fault, and how long it explains that something does not work."""

    fault: Fault
    began: float
    healthy: float

    def explains(self, trouble: Trouble) -> bool:
        return (
            self.fault not in HARMLESS
            and trouble.status in EXPLAINED
            and self.began <= trouble.at <= self.healthy + AFTERWARDS
        )

    def cuts_off(self, at: float) -> bool:
        """Whether a worker could not write down that a mail server took a mail just then: it was killed, it had given
        up the server, there was no database. The mail is sent again with its `Message-ID`."""
        return self.fault not in (blows.UPSTREAM, blows.SLOW) and self.began - 1.0 <= at <= self.healthy + AFTERWARDS


def test_a_soak_ends_without_an_unexplained_error_and_nothing_has_grown(
    postgres: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = shuffled(random.Random(20261121))
    windows: list[Window] = []
    sizes: list[dict[str, Size]] = []
    with fleet(postgres, people=80, outside=True, kept=True) as two, ExitStack() as restarted:
        app = App(two, bystanders=itertools.cycle(range(60, 80)))
        with Crowd(app, resets_every=31) as crowd:
            wait_until(lambda: crowd.done["login"] >= 10, "people use it")
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                fault = next(faults)
                two.turn_the_page()
                began = time.monotonic()
                with fault.strike(two):
                    if two.replicas[0].process is not None and two.replicas[0].process.poll() is not None:
                        restarted.enter_context(two.replicas[0].serving("--workers", "1"))  # as an init system does
                    if fault.lasts is None:
                        healthy(app, mails=False)
                    else:
                        while_it_lasts(fault, app, crowd)
                if fault.lasts is not None:
                    healthy(app, mails=False)
                window = Window(fault, began, time.monotonic())
                windows.append(window)
                quiet = window.healthy + AFTERWARDS
                wait_until(lambda quiet=quiet: time.monotonic() > quiet, "what explains no error any more")
                before = crowd.done["login"]
                wait_until(lambda before=before: crowd.done["login"] >= before + 5, "people use it as before", 60)
                sizes.append(measure(two.replicas[1].pid))
        unexplained = [one for one in crowd.troubles if not any(window.explains(one) for window in windows)]
        with capsys.disabled():
            print(f"\n{report(windows, crowd, sizes)}\n{len(unexplained)} unexplained")
        assert not unexplained, unexplained
        wait_until(lambda: came(two, crowd), "every mail that was promised")
        passed = time.time() - time.monotonic()
        crowd.check_the_books(lambda at: any(window.cuts_off(at - passed) for window in windows))
        spared = [name for name in sizes[0] if all(name in each for each in sizes)]
        assert len(spared) >= 2, "the supervisor and the web process"
        for name in spared:
            assert growth([each[name].memory for each in sizes]) <= GROWN.get(name.rpartition(" ")[0], GROWN[""]), (
                name,
                sizes,
            )
            assert growth([float(each[name].descriptors) for each in sizes]) <= DESCRIPTORS, (name, sizes)


def report(windows: list[Window], crowd: Crowd, sizes: list[dict[str, Size]]) -> str:
    """What was done, and what came of it."""
    lines = [f"{len(windows)} faults in {windows[-1].healthy - windows[0].began:.0f} s"]
    for title in sorted({window.fault.title for window in windows}):
        took = [window.healthy - window.began for window in windows if window.fault.title == title]
        lines.append(
            f"  {title}: {len(took)} times, well again after {statistics.median(took):.1f} s, {max(took):.1f} s"
        )
    answers = Counter("no answer" if one.status is None else str(one.status) for one in crowd.troubles)
    told = ", ".join(f"{answer} {times} times" for answer, times in answers.items()) or "nothing but what was asked for"
    lines += [f"{crowd.done['login']} logins, {crowd.done['reset']} resets; people were told {told}"]
    for name in sorted(sizes[0].keys() & sizes[-1].keys()):
        then, now = sizes[len(sizes) // 4][name], sizes[-1][name]
        size = f"{then.memory:.1f} -> {now.memory:.1f} MB, {then.descriptors} -> {now.descriptors} open files"
        lines.append(f"{name} of the second replica: {size}")
    return "\n".join(lines)


class Size(NamedTuple):
    memory: float
    """MB of anonymous memory. What is private is no measure: it grows when a neighbour ends that shared it."""
    descriptors: int


def measure(root: int) -> dict[str, Size]:
    """Each process of a tree, by name and number."""
    found = {}
    for pid in tree(root):
        folder = Path(f"/proc/{pid}")
        with contextlib.suppress(OSError):  # it ended meanwhile
            kilobytes = re.findall(r"^Anonymous:\s+(\d+) kB", (folder / "smaps_rollup").read_text(), re.MULTILINE)
            name = f"{(folder / 'comm').read_text().strip()} {pid}"
            found[name] = Size(sum(map(int, kilobytes)) / 1024, len(list((folder / "fd").iterdir())))
    return found


def growth(values: list[float]) -> float:
    """From the second quarter, when everything has been used once, to the last."""
    quarter = max(1, len(values) // 4)
    second, last = values[quarter : 2 * quarter] or values[:1], values[-quarter:]
    return statistics.median(last) - statistics.median(second)
