"""Each fault of the table in docs/faults.md: under load, on two replicas, with everything real."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from tests.crash.processes import wait_until
from tests.faults import blows
from tests.faults.blows import Fault
from tests.faults.fleet import Fleet, fleet, person, small_disk
from tests.faults.fleet import postgres as on_small_disk
from tests.faults.people import App, Crowd, Unexpected, links
from tests.faults.rows import Row, note, titles
from tests.postgresql import Postgres
from tests.servers import ROOT

pytestmark = pytest.mark.crash
BOUND = 10.0
"""Seconds within which a fleet recovers without a hand (issue 4)."""


@pytest.fixture(scope="module")
def shared(postgres: Postgres) -> Iterator[tuple[App, ExitStack]]:
    """A fleet for everything after which it is as before; what an init system starts again ends with it."""
    with fleet(postgres, kept=True) as two, ExitStack() as started:
        yield App(two), started


@pytest.mark.parametrize(
    "fault",
    [blows.WEB, blows.WORKER, blows.SLOW, blows.DISK, blows.KEPT, blows.DATABASE, blows.DATABASE_KILLED,
     blows.SUPERVISOR, blows.REPLICA],
    ids=lambda fault: fault.title,
)  # fmt: skip
def test_a_fleet_recovers_by_itself_and_loses_nothing(fault: Fault, shared: tuple[App, ExitStack]) -> None:
    app, started = shared
    for replica in app.fleet.replicas:
        if replica.process is None or replica.process.poll() is not None:
            started.enter_context(replica.serving("--workers", "1"))
    story(fault, app)


def test_a_fleet_recovers_when_its_store_comes_back_empty(postgres: Postgres) -> None:
    with fleet(postgres, aged=True) as two:
        story(blows.EMPTIED, App(two))


def test_a_fleet_recovers_when_the_disk_of_its_database_has_room_again() -> None:
    with on_small_disk(150) as postgres, fleet(postgres) as two:
        story(blows.DATABASE_FULL, App(two))


def test_a_single_node_recovers_when_the_disk_of_its_database_has_room_again(postgres: Postgres) -> None:
    with small_disk(16) as disk, fleet(postgres, alone=True, disk=disk) as one:
        story(blows.SQLITE_FULL, App(one))


def test_a_fleet_recovers_when_the_primary_is_killed(postgres: Postgres) -> None:
    with fleet(postgres, sentinel=True) as two:
        story(blows.PRIMARY, App(two))


def test_a_single_node_recovers_when_its_store_is_killed(postgres: Postgres) -> None:
    with fleet(postgres, alone=True) as one:
        story(blows.STORE, App(one))


def test_what_freezes_outside_hinders_nobody(postgres: Postgres) -> None:
    with fleet(postgres, outside=True) as two:
        app = App(two)
        story(blows.IN_ITS_HANDS, app)
        story(blows.UPSTREAM, app)
        story(blows.MAIL, app)


def test_the_clock_jumps(postgres: Postgres) -> None:
    with fleet(postgres, timed=True) as two:
        app = App(two)
        for fault in blows.STEPS:
            story(fault, app)


def test_every_fault_has_its_row() -> None:
    """`make faults` writes them; a row of a fault that nobody strikes any more is a row too many."""
    faults = [*(one for one in vars(blows).values() if isinstance(one, Fault)), *blows.STEPS]
    assert titles(ROOT / "docs" / "faults.md") == {fault.title for fault in faults}


def story(fault: Fault, app: App) -> None:
    two = app.fleet
    two.turn_the_page()
    with Crowd(app) as crowd:
        wait_until(lambda: crowd.done["login"] >= 3 and bool(crowd.asked), "people use it, and forget")
        assert not crowd.troubles, crowd.troubles
        began, since = time.monotonic(), time.time()
        two.struck = began
        with fault.strike(two):
            if fault.lasts is None:
                healthy(app)
                wait_until(lambda: fault.over is None or fault.over(two), "what must have happened besides")
                seconds = time.monotonic() - two.struck
            else:
                while_it_lasts(fault, app, crowd)
        if fault.lasts is not None:
            two.struck = time.monotonic()
            healthy(app)
            seconds = time.monotonic() - two.struck
        assert seconds <= BOUND
        until = time.time()
        before = crowd.done["login"]
        wait_until(lambda: crowd.done["login"] > before + 3, "people use it as before")
        wait_until(lambda: fault.said(two), f"somebody says {fault.event}")
    unexplained = [trouble for trouble in crowd.troubles if trouble.status not in {None, *fault.answers}]
    assert not unexplained, unexplained
    assert all(trouble.at >= began for trouble in crowd.troubles)
    wait_until(lambda: came(two, crowd), "every mail that was promised")
    if fault.cuts_off:
        two.cut_off.append((since - 1, until))
    crowd.check_the_books(lambda at: any(since <= at <= until for since, until in two.cut_off))
    note(Row(fault.title, fault.done, seconds, fault.lost, fault.event))


def while_it_lasts(fault: Fault, app: App, crowd: Crowd) -> None:
    """People who do not need what failed are not hindered."""
    if not fault.hinders:
        bystander = next(app.bystanders)
        app.forget(bystander)
        crowd.asked[bystander] += 1
        before = crowd.done["login"]
        wait_until(lambda: crowd.done["login"] >= before + 3, "people sign in")
    wait_until(lambda: fault.lasts is None or fault.lasts(app.fleet), "it shows")


def came(two: Fleet, crowd: Crowd) -> bool:
    return all(links(two, number) >= min(times, 5) for number, times in crowd.asked.items())


def healthy(app: App, *, mails: bool = True) -> None:
    """Every replica that runs signs people in and refreshes, and a link that is asked for now comes by mail."""
    deadline, onlooker = time.monotonic() + BOUND, next(app.onlookers)
    for replica in app.fleet.replicas:
        if replica.process is not None and replica.process.poll() is None:
            alone = App(replace(app.fleet, replicas=[replica]))
            at_last(lambda alone=alone: alone.journey(onlooker), deadline)
    if not mails:
        return
    before = len(app.fleet.mailbox.to(person(onlooker).email, "reset"))
    at_last(lambda: app.forget(onlooker), deadline)
    wait_until(
        lambda: len(app.fleet.mailbox.to(person(onlooker).email, "reset")) > before, "the mail",
        max(0.0, deadline - time.monotonic()),
    )  # fmt: skip


def at_last(action: Callable[[], None], deadline: float) -> None:
    """Until it works, or the deadline has passed."""
    said: list[str] = []

    def works() -> bool:
        try:
            action()
        except (OSError, Unexpected) as error:
            said.append(str(error))
            return False
        return True

    wait_until(works, f"health; it last said {said}", max(0.0, deadline - time.monotonic()))
