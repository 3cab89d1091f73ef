"""kill -9 at any moment of a reset (issue 3, "Done when" 5)."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from broker.demo.sample import Person, fill
from broker.testing.mailbox import Mailbox
from tests.crash.processes import gone, kill_nine, like, tree, wait_until
from tests.crash.visitor import Visitor, signs_in
from tests.engines import Pair
from tests.servers import Homerealm, answers, homerealm

pytestmark = pytest.mark.crash

MOST = 30
OLD = "tulip-harbour-anvil"
NEW = "copper-meadow-violin-cloud"
PEOPLE = tuple(Person("acme", f"person{n}", f"person{n}@people.example", "Some Body", "") for n in range(MOST + 1))


@pytest.fixture
def server(engines: Pair) -> Iterator[Homerealm]:
    """Thirty-one people who have the old password."""
    with homerealm(engines=engines) as server:
        fill(server.config, PEOPLE, os.environ)
        yield server


class Reset:
    """One person's reset: the link is opened, and the new password is typed."""

    def __init__(self, server: Homerealm, link: str) -> None:
        self.link = link
        self.visitor = Visitor(server.origin)
        self.form = self.visitor.get(link)
        assert self.form.page == "reset"
        self.answered = threading.Event()

    def send(self) -> None:
        """Press "Save password". The answer may never come."""
        try:
            self.visitor.send(self.form, "/reset", password=NEW)
            self.answered.set()
        except OSError:
            return


def test_who_typed_one_wrong_password_types_the_next_at_once_also_after_a_kill(server: Homerealm) -> None:
    """A new store beside a new database is no flushed one, and an attempt that was cut off is one of five."""
    with server.serving("--workers", "1"):
        assert server.process is not None
        for person in PEOPLE[:2]:
            assert not signs_in(server.origin, "acme", person.email, NEW)
            assert signs_in(server.origin, "acme", person.email, OLD)
            victims = like(tree(server.process.pid), "broker.wsgi")
            kill_nine(victims)
            assert gone(victims)
            wait_until(lambda: answers(server.port, "/healthz"), "the server is back")


@pytest.mark.parametrize("rounds", [10, pytest.param(MOST, marks=pytest.mark.deep)])
def test_exactly_one_of_old_and_new_password_works_and_no_mail_is_lost_or_sent_twice(
    server: Homerealm, rounds: int
) -> None:
    people = PEOPLE[: rounds + 1]
    mailbox = Mailbox(server.mail)
    moments = Moments(random.Random(20261121))
    changed: dict[str, bool] = {}
    with server.serving("--workers", "1"):
        links = everybody_forgets(server, mailbox, people)
        moments.calibrate(Reset(server, links[people[rounds].email]))
        changed[people[rounds].email] = True

    unsettled: list[tuple[Person, Reset]] = []
    for number in range(0, rounds, 2):
        with server.serving("--workers", "1"):
            assert server.process is not None
            # Twice in the life of one server: once its web processes alone are killed, then everything there is.
            for person, everything in zip(people[number : number + 2], (False, True), strict=True):
                settle(server, unsettled, changed, moments)
                reset = Reset(server, links[person.email])
                unsettled.append((person, reset))
                processes = tree(server.process.pid)
                victims = list(processes) if everything else like(processes, "broker.wsgi")
                assert len(victims) >= (3 if everything else 1), processes
                if person is people[rounds - 1]:
                    reset.send()
                    assert reset.answered.is_set(), "the last one is killed after its answer"
                    kill_nine(victims)
                else:
                    moments.kill_around(reset, victims, before=number == 0 and not everything)
                assert gone(victims), "nothing is left behind"
                if not everything:
                    wait_until(lambda: answers(server.port, "/healthz"), "the server is back")

    with server.serving("--workers", "1"):
        settle(server, unsettled, changed, moments)
        wait_until(lambda: nothing_waits(server), "the outbox is empty")
        came_true_later(server, changed)
    print(f"{sum(changed.values())} of {len(changed)} were changed; the write is {moments.boundary * 1000:.0f} ms in")
    assert len(changed) == rounds + 1
    assert set(changed.values()) == {True, False}, "both happened"
    mails = mailbox.all()
    told = Counter(mail.to for mail in mails if mail.kind == "password-changed")
    assert told == Counter(address for address, new in changed.items() if new), "told once, and only if it happened"
    assert Counter(mail.to for mail in mails if mail.kind == "reset") == Counter(person.email for person in people)
    ids = [str(mail.message["Message-ID"]) for mail in mails]
    assert len(set(ids)) == len(ids)


def settle(
    server: Homerealm, unsettled: list[tuple[Person, Reset]], changed: dict[str, bool], moments: Moments
) -> None:
    """See what became of those whose server was killed."""
    while unsettled:
        person, reset = unsettled.pop()
        changed[person.email] = what_works(server, person, reset, moments)


def came_true_later(server: Homerealm, changed: dict[str, bool]) -> None:
    """A commit whose process was killed in its last millisecond may become visible later: SQLite has it in its log,
    and reads that again when nobody else has the database open. Nobody was answered; what counts is what is true at
    the end."""
    for address in [address for address, new in changed.items() if not new]:
        works = [signs_in(server.origin, "acme", address, password) for password in (OLD, NEW)]
        assert sorted(works) == [False, True], f"old and new of {address}, at the end: {works}"
        changed[address] = works[1]


class Moments:
    """When to kill: around the moment at which the new password becomes true, which is looked for by halving."""

    WINDOW = 0.015
    """Seconds before and after it: commits, answers and the wake-up of the worker lie within."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.boundary = 0.0
        self._step = 0.0
        self._was_new: bool | None = None

    def calibrate(self, reset: Reset) -> None:
        started = time.perf_counter()
        reset.send()
        assert reset.answered.is_set()
        self.boundary = time.perf_counter() - started
        self._step = self.boundary / 3

    def kill_around(self, reset: Reset, victims: list[int], *, before: bool) -> None:
        moment = 0.0 if before else max(0.0, self.boundary + self.chance.uniform(-self.WINDOW, self.WINDOW))
        sending = threading.Thread(target=reset.send)
        started = time.perf_counter()
        if not before:
            sending.start()
        # Not a wait for something to happen: the kill comes at this very moment, whatever happens then.
        time.sleep(max(0.0, started + moment - time.perf_counter()))
        kill_nine(victims)
        if not before:
            sending.join()

    def learn(self, new: bool) -> None:
        """The steps are halved when the moment was passed: how long the first one took may be far off."""
        if self._was_new not in (None, new):
            self._step = max(self._step / 2, 0.008)
        self._was_new = new
        self.boundary = max(0.0, self.boundary + (-self._step if new else self._step))


def everybody_forgets(server: Homerealm, mailbox: Mailbox, people: Sequence[Person]) -> dict[str, str]:
    """By address: the link that came by mail."""
    for person in people:
        visitor = Visitor(server.origin)
        answer = visitor.send(visitor.get("/t/acme/forgot"), "/forgot", username=person.email)
        assert "We've just sent you an email" in answer.text.replace("&#39;", "'")
    wait_until(lambda: len(mailbox.all()) == len(people), "a mail for everybody")
    return {mail.to: mail.link("/reset?ticket=") for mail in mailbox.all()}


def what_works(server: Homerealm, person: Person, reset: Reset, moments: Moments) -> bool:
    """Whether the new password works. Exactly one does, and the link is used up exactly when it is the new one."""
    works = [signs_in(server.origin, "acme", person.email, password) for password in (OLD, NEW)]
    assert sorted(works) == [False, True], f"old and new: {works}"
    again = Visitor(server.origin).get(reset.link)
    assert again.page == ("reset-link" if works[1] else "reset"), "the link is used up with the change, and not before"
    if reset.answered.is_set():
        assert works[1], "what was answered is true"
    moments.learn(works[1])
    return works[1]


def nothing_waits(server: Homerealm) -> bool:
    with server.tables() as tables:
        states = {state for (state,) in tables.exec_driver_sql("SELECT DISTINCT state FROM outbox")}
    assert "dead" not in states
    return "new" not in states
