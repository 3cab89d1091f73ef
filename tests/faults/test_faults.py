"""Each fault of the table in docs/faults.md: under load, on two replicas, with everything real."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.crash.processes import wait_until
from tests.faults import blows
from tests.faults.blows import Fault
from tests.faults.fleet import Fleet, fleet, person
from tests.faults.people import App, Crowd, Unexpected
from tests.faults.rows import Row, note
from tests.postgresql import Postgres

pytestmark = pytest.mark.crash
BOUND = 10.0
"""Seconds within which a fleet recovers without a hand (issue 4)."""
LAST = 39
"""The person who looks whether it is well."""


@pytest.mark.parametrize(
    "fault",
    [blows.WEB, blows.WORKER, blows.SUPERVISOR, blows.REPLICA, blows.EMPTIED, blows.DATABASE, blows.DATABASE_KILLED],
    ids=lambda fault: fault.title,
)
def test_a_fleet_recovers_by_itself_and_loses_nothing(fault: Fault, postgres: Postgres) -> None:
    with fleet(postgres) as two:
        story(fault, two)


def test_a_fleet_recovers_when_the_primary_is_killed(postgres: Postgres) -> None:
    with fleet(postgres, sentinel=True) as two:
        story(blows.PRIMARY, two)


def story(fault: Fault, two: Fleet) -> None:
    app = App(two)
    with Crowd(app) as crowd:
        wait_until(lambda: crowd.done["login"] >= 3, "people use it")
        assert not crowd.troubles, crowd.troubles
        began = time.monotonic()
        with fault.strike(two):
            struck = time.monotonic()
            healthy(app)
            seconds = time.monotonic() - struck
        before = crowd.done["login"]
        wait_until(lambda: crowd.done["login"] > before + 3, "people use it as before")
        wait_until(lambda: fault.said(two), f"somebody says {fault.event}")
    unexplained = [trouble for trouble in crowd.troubles if trouble.status not in {None, *fault.answers}]
    assert not unexplained, unexplained
    assert all(trouble.at >= began for trouble in crowd.troubles)
    wait_until(lambda: came(two, crowd), "every mail that was promised")
    crowd.check_the_books()
    note(Row(fault.title, fault.done, seconds, fault.lost, fault.event))


def came(two: Fleet, crowd: Crowd) -> bool:
    return all(len(two.mailbox.to(person(number).email, "reset")) >= times for number, times in crowd.asked.items())


def healthy(app: App) -> None:
    """Every replica that runs signs people in and refreshes, and a link that is asked for now comes by mail."""
    deadline = time.monotonic() + BOUND
    for replica in app.fleet.replicas:
        if replica.process is not None and replica.process.poll() is None:
            alone = App(replace(app.fleet, replicas=[replica]))
            at_last(lambda alone=alone: alone.journey(LAST), deadline)
    before = len(app.fleet.mailbox.to(person(LAST).email, "reset"))
    at_last(lambda: app.forget(LAST), deadline)
    wait_until(
        lambda: len(app.fleet.mailbox.to(person(LAST).email, "reset")) > before, "the mail",
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
