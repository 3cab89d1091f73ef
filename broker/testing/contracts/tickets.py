"""What a store of tickets has to do (`broker.core.ports.Tickets`, SECURITY 2)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from broker.core.ports import Database
from broker.core.ticket import Purpose, RedeemedTicket, Ticket
from broker.core.values import UserId
from broker.testing.clock import FixedClock
from broker.testing.contracts.database import Stored
from broker.testing.race import CALLERS, ROUNDS, race
from broker.testing.records import BOTH, DEV, LIVE, a_ticket, a_user

SECOND = timedelta(seconds=1)


class TicketsContract(Stored):
    """One winner, for one purpose, in one place."""

    @pytest.fixture
    def secret(self, database: Database, now: datetime, ada: UserId) -> str:
        return _issue(database, a_ticket(now))

    def test_a_ticket_is_found_by_its_secret_as_it_was_issued(
        self, database: Database, now: datetime, secret: str
    ) -> None:
        with database.reading() as work:
            assert work.tickets.look(secret) == a_ticket(now)
            assert work.tickets.look(secret) == a_ticket(now), "looking changes nothing"

    def test_a_ticket_with_nothing_optional_is_found_as_it_was_issued(
        self, database: Database, now: datetime, ada: UserId
    ) -> None:
        ticket = a_ticket(now, connection=None, address=None, client=None, transaction=None, browser=None)
        secret = _issue(database, ticket)
        with database.reading() as work:
            assert work.tickets.look(secret) == ticket

    def test_a_secret_is_long_random_and_fit_for_an_address(
        self, database: Database, now: datetime, ada: UserId
    ) -> None:
        secrets = {_issue(database, a_ticket(now, id=f"t{number}")) for number in range(20)}
        assert len(secrets) == 20
        for secret in secrets:
            assert len(secret) >= 43
            assert secret.replace("-", "").replace("_", "").isalnum()
            assert secret.isascii()

    @pytest.mark.parametrize("mangle", [lambda s: s[:-1], lambda s: s + "A", lambda s: s.swapcase(), lambda s: ""])
    def test_a_secret_that_was_mangled_is_nobodys(
        self, database: Database, now: datetime, secret: str, mangle: Any
    ) -> None:
        with database.writing() as work:
            assert work.tickets.look(mangle(secret)) is None
            assert work.tickets.redeem(mangle(secret), Purpose.RESET, LIVE, 0, now) is None
            assert work.tickets.look(secret) == a_ticket(now)

    @pytest.mark.parametrize("secret", ["\0", "\ud800", "ä" * 10_000, "' OR 1=1 --"])
    def test_what_cannot_be_a_secret_is_nobodys_and_no_error(
        self, database: Database, now: datetime, secret: str
    ) -> None:
        with database.writing() as work:
            assert work.tickets.look(secret) is None
            assert work.tickets.redeem(secret, Purpose.RESET, LIVE, 0, now) is None

    def test_it_is_redeemed_once(self, database: Database, now: datetime, secret: str) -> None:
        used = now + SECOND
        with database.writing() as work:
            redeemed = work.tickets.redeem(secret, Purpose.RESET, LIVE, 0, used)
            assert redeemed == RedeemedTicket(a_ticket(now, used_at=used))
        with database.writing() as work:
            assert work.tickets.redeem(secret, Purpose.RESET, LIVE, 0, used + SECOND) is None
            assert work.tickets.look(secret) == a_ticket(now, used_at=used)

    @pytest.mark.parametrize(
        "elsewhere",
        [
            {"purpose": Purpose.SIGN_IN_ONCE},
            {"purpose": Purpose.VERIFY_EMAIL},
            {"directory": DEV},
            {"epoch": 1},
            {"epoch": -1},
            {"after": timedelta(minutes=30)},
        ],
        ids=str,
    )
    def test_elsewhere_or_too_late_it_is_refused_and_not_consumed(
        self, database: Database, now: datetime, secret: str, elsewhere: dict[str, Any]
    ) -> None:
        what = {"purpose": Purpose.RESET, "directory": LIVE, "epoch": 0, "after": SECOND, **elsewhere}
        with database.writing() as work:
            assert (
                work.tickets.redeem(secret, what["purpose"], what["directory"], what["epoch"], now + what["after"])
                is None
            )
        with database.writing() as work:
            assert work.tickets.look(secret) == a_ticket(now)
            assert work.tickets.redeem(secret, Purpose.RESET, LIVE, 0, now) is not None

    def test_it_lives_up_to_the_last_moment(self, database: Database, now: datetime, secret: str) -> None:
        last = now + timedelta(minutes=30) - timedelta(microseconds=1)
        with database.writing() as work:
            assert work.tickets.redeem(secret, Purpose.RESET, LIVE, 0, last) is not None

    def test_it_dies_with_the_epoch_whatever_the_caller_believes(
        self, database: Database, now: datetime, ada: UserId, secret: str
    ) -> None:
        with database.writing() as work:
            work.users.move_epoch(ada)
        with database.writing() as work:
            assert work.tickets.redeem(secret, Purpose.RESET, LIVE, 0, now) is None
            assert work.tickets.redeem(secret, Purpose.RESET, LIVE, 1, now) is None

    def test_only_the_newest_works(self, database: Database, now: datetime, secret: str) -> None:
        later = now + SECOND
        newest = _issue(database, a_ticket(later, id="t2"))
        with database.writing() as work:
            assert work.tickets.look(secret) == a_ticket(now, replaced_at=later)
            assert work.tickets.redeem(secret, Purpose.RESET, LIVE, 0, later) is None
            assert work.tickets.redeem(newest, Purpose.RESET, LIVE, 0, later) is not None

    def test_a_new_one_leaves_other_purposes_people_and_used_ones_alone(
        self, database: Database, now: datetime, ada: UserId, secret: str
    ) -> None:
        with database.writing() as work:
            work.users.add(a_user(now, "bob"), kinds=BOTH)
        verify = _issue(database, a_ticket(now, id="t2", purpose=Purpose.VERIFY_EMAIL))
        bobs = _issue(database, a_ticket(now, UserId("user-bob"), id="t3"))
        with database.writing() as work:
            work.tickets.redeem(secret, Purpose.RESET, LIVE, 0, now)
        _issue(database, a_ticket(now, id="t4"))
        with database.reading() as work:
            assert work.tickets.look(verify) == a_ticket(now, id="t2", purpose=Purpose.VERIFY_EMAIL)
            assert work.tickets.look(bobs) == a_ticket(now, UserId("user-bob"), id="t3")
            assert work.tickets.look(secret) == a_ticket(now, used_at=now)

    def test_the_latest_is_the_newest_used_or_not(
        self, database: Database, now: datetime, ada: UserId, secret: str
    ) -> None:
        with database.writing() as work:
            assert work.tickets.latest(ada, Purpose.INVITE) is None
            assert work.tickets.latest(ada, Purpose.RESET) == a_ticket(now)
        # Two in one moment: the one that was issued last.
        newest = _issue(database, a_ticket(now, id="t0"))
        with database.writing() as work:
            assert work.tickets.latest(ada, Purpose.RESET) == a_ticket(now, id="t0")
            work.tickets.redeem(newest, Purpose.RESET, LIVE, 0, now)
            assert work.tickets.latest(ada, Purpose.RESET) == a_ticket(now, id="t0", used_at=now)

    def test_of_many_who_want_to_issue_only_the_first_does(
        self, database: Database, now: datetime, ada: UserId
    ) -> None:
        def issue(number: int) -> bool:
            with database.writing() as work:
                work.tickets.hold(ada)
                if work.tickets.latest(ada, Purpose.RESET) is not None:
                    return False
                work.tickets.issue(a_ticket(now, id=f"t{number}"))
                return True

        assert sum(race(issue, callers=8)) == 1

    def test_all_unused_ones_of_somebody_can_be_voided(
        self, database: Database, now: datetime, ada: UserId, secret: str
    ) -> None:
        verify = _issue(database, a_ticket(now, id="t2", purpose=Purpose.VERIFY_EMAIL))
        with database.writing() as work:
            assert work.tickets.void(ada, now) == 2
            assert work.tickets.void(ada, now) == 0
            assert work.tickets.redeem(secret, Purpose.RESET, LIVE, 0, now) is None
            assert work.tickets.redeem(verify, Purpose.VERIFY_EMAIL, LIVE, 0, now) is None

    def test_one_is_issued_only_to_somebody_of_that_directory(
        self, database: Database, now: datetime, ada: UserId
    ) -> None:
        with pytest.raises(LookupError):
            _issue(database, a_ticket(now, UserId("nobody")))
        with pytest.raises(LookupError):
            _issue(database, a_ticket(now, directory=DEV))

    def test_sweeping_removes_what_expired_long_ago_and_nothing_else(
        self, database: Database, now: datetime, secret: str
    ) -> None:
        with database.writing() as work:
            assert work.tickets.sweep(now + timedelta(minutes=30)) == 0
            assert work.tickets.look(secret) is not None
            assert work.tickets.sweep(now + timedelta(minutes=31)) == 1
            assert work.tickets.look(secret) is None

    def test_of_32_that_redeem_one_ticket_at_once_exactly_one_wins(
        self, database: Database, clock: FixedClock, ada: UserId
    ) -> None:
        for turn in range(ROUNDS):
            now = clock.advance(SECOND)
            secret = _issue(database, a_ticket(now, id=f"race-{turn}"))

            def redeem(_: int, secret: str = secret, now: datetime = now) -> bool:
                with database.writing() as work:
                    return work.tickets.redeem(secret, Purpose.RESET, LIVE, 0, now) is not None

            assert sum(race(redeem, CALLERS)) == 1

    def test_of_two_tickets_of_one_epoch_only_the_first_has_its_effect(
        self, database: Database, now: datetime, ada: UserId, secret: str
    ) -> None:
        """A reset mail and an operator's login link, used at the same moment: the epoch moves once."""
        link = _issue(database, a_ticket(now, id="t2", purpose=Purpose.SIGN_IN_ONCE))
        both = [(secret, Purpose.RESET), (link, Purpose.SIGN_IN_ONCE)]

        def use(number: int) -> bool:
            with database.writing() as work:
                if work.tickets.redeem(*both[number], LIVE, 0, now) is None:
                    return False
                work.users.move_epoch(ada)
                return True

        assert sorted(race(use, callers=2)) == [False, True]

    def test_of_many_issued_at_once_one_stays_valid(self, database: Database, now: datetime, ada: UserId) -> None:
        secrets = race(lambda number: _issue(database, a_ticket(now, id=f"t{number}")), callers=8)
        with database.reading() as work:
            alive = [work.tickets.look(secret) for secret in secrets]
        assert [ticket is not None and ticket.replaced_at is None for ticket in alive].count(True) == 1


def _issue(database: Database, ticket: Ticket) -> str:
    with database.writing() as work:
        return work.tickets.issue(replace(ticket))
