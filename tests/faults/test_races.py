"""One-time things under 32 uses at once, shared out over two replicas: one success (SECURITY, promises)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from broker.demo.sample import PASSWORD
from broker.testing.race import race
from tests.crash.processes import wait_until
from tests.crash.visitor import Answer
from tests.faults.fleet import Fleet, fleet, person
from tests.faults.people import App, Unexpected
from tests.postgresql import Postgres

pytestmark = pytest.mark.crash
PARALLEL = 32
NOBODY_RESETS = 22
"""Whose password stays."""
ROUNDS = pytest.mark.parametrize("people", [range(2), pytest.param(range(2, 22), marks=pytest.mark.deep)], ids=len)
"""As many rounds as people: within a minute nobody gets a second link."""


@pytest.fixture(scope="module")
def app(postgres: Postgres) -> Iterator[App]:
    with fleet(postgres, people=23) as two:
        yield App(two)


def both_took_part(two: Fleet, before: list[int]) -> bool:
    return all(len(replica.events()) > said for replica, said in zip(two.replicas, before, strict=True))


def said(two: Fleet) -> list[int]:
    return [len(replica.events()) for replica in two.replicas]


@ROUNDS
def test_a_reset_link_works_once_over_both_replicas(app: App, people: range) -> None:
    for number in people:
        address = person(number).email
        app.forget(number)
        wait_until(lambda address=address: bool(app.fleet.mailbox.to(address, "reset")), "the mail")
        visitor = app.visitor()
        form = visitor.get(app.fleet.mailbox.last(address, "reset").link("/reset?ticket="))
        before = said(app.fleet)

        def redeem(attempt: int, form: Answer = form, cookies: dict[str, str] = visitor.cookies) -> Answer:
            mine = app.visitor()
            mine.cookies = dict(cookies)
            return mine.send(form, "/reset", password=f"attempt {attempt} of a long race")

        answers = race(redeem, PARALLEL)
        winners = [attempt for attempt, page in enumerate(answers) if page.page in ("reset-done", "login")]
        assert len(winners) == 1, [(page.page, page.status) for page in answers]
        wait_until(lambda before=before: both_took_part(app.fleet, before), "both replicas have refused some")
        for attempt in (winners[0], (winners[0] + 1) % PARALLEL):
            if attempt == winners[0]:
                app.journey(number, f"attempt {attempt} of a long race")
            else:
                with pytest.raises(Unexpected):
                    app.code(number, f"attempt {attempt} of a long race")
        wait_until(lambda address=address: bool(app.fleet.mailbox.to(address, "password-changed")), "the notice")
        assert len(app.fleet.mailbox.to(address, "password-changed")) == 1


@ROUNDS
def test_a_code_and_a_refresh_token_work_once_over_both_replicas(app: App, people: range) -> None:
    for _ in people:
        code = app.code(NOBODY_RESETS, PASSWORD)
        one_at_most(race(lambda _, code=code: app.token(grant_type="authorization_code", code=code), PARALLEL))
        tokens = app.tokens(grant_type="authorization_code", code=app.code(NOBODY_RESETS, PASSWORD))
        one_at_most(
            race(lambda _, old=tokens.refresh: app.token(grant_type="refresh_token", refresh_token=old), PARALLEL)
        )


def one_at_most(answers: list[tuple[int, dict[str, str]]]) -> None:
    good = [found for status, found in answers if status == 200]
    assert len(good) == 1, [status for status, _ in answers]
    assert all(found["error"] == "invalid_grant" for status, found in answers if status != 200)
