"""What a database has to do (`broker.core.ports.Database`): transactions that hold, and views that stand still."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from broker.core.errors import IdentifierTaken
from broker.core.ports import Database, UnitOfWork
from broker.core.ticket import Purpose
from broker.core.values import ClientId, UserId
from broker.testing.clock import START, FixedClock
from broker.testing.race import race
from broker.testing.records import BOTH, HASH, LIVE, USERS, a_job, a_signing_key, a_ticket, a_user, an_event
from broker.testing.samples import an_identity

ADA = UserId("user-ada")
SHOP = ClientId("shop")


class Stored:
    """Inherit, and give the fixtures `database` (upgraded, without a row) and `clock`, which it reads."""

    @pytest.fixture
    def database(self) -> Database:
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> FixedClock:
        return FixedClock()

    @pytest.fixture
    def now(self, clock: FixedClock) -> datetime:
        return clock.now()

    @pytest.fixture
    def ada(self, database: Database, now: datetime) -> UserId:
        """A user who is there, with a password."""
        with database.writing() as work:
            return work.users.add(a_user(now), hash=HASH, kinds=BOTH).id


WRITES: dict[str, Callable[[UnitOfWork], object]] = {
    "users.add": lambda work: work.users.add(a_user(START, "eve")),
    "users.update": lambda work: work.users.update(ADA, lambda user: user),
    "users.write_hash": lambda work: work.users.write_hash(ADA, "h", must_change=False, at=START),
    "users.rehash": lambda work: work.users.rehash(ADA, HASH, "h"),
    "users.move_epoch": lambda work: work.users.move_epoch(ADA),
    "users.link": lambda work: work.users.link(ADA, LIVE, an_identity(START), START),
    "users.delete": lambda work: work.users.delete(ADA),
    "tickets.hold": lambda work: work.tickets.hold(ADA),
    "tickets.issue": lambda work: work.tickets.issue(a_ticket(START)),
    "tickets.redeem": lambda work: work.tickets.redeem("secret", Purpose.RESET, LIVE, 0, START),
    "tickets.void": lambda work: work.tickets.void(ADA, START),
    "tickets.sweep": lambda work: work.tickets.sweep(START),
    "outbox.put": lambda work: work.outbox.put(a_job(START)),
    "outbox.note": lambda work: work.outbox.note("acme", "reset", "k", START),
    "outbox.claim": lambda work: work.outbox.claim(START, timedelta(minutes=1)),
    "outbox.put_right": lambda work: work.outbox.put_right(START, [timedelta(minutes=1)]),
    "outbox.give_back": lambda work: work.outbox.give_back([a_job(START)], START),
    "outbox.renew": lambda work: work.outbox.renew([a_job(START)], START),
    "outbox.done": lambda work: work.outbox.done(a_job(START), START),
    "outbox.retry": lambda work: work.outbox.retry(a_job(START), START, ""),
    "outbox.dead": lambda work: work.outbox.dead(a_job(START), "", START),
    "outbox.sweep": lambda work: work.outbox.sweep(START),
    "audit.write": lambda work: work.audit.write(an_event(START)),
    "audit.seal": lambda work: work.audit.seal(),
    "audit.forget": lambda work: work.audit.forget(1),
    "consents.grant": lambda work: work.consents.grant(ADA, SHOP, frozenset({"openid"}), START),
    "consents.revoke": lambda work: work.consents.revoke(ADA, SHOP),
    "keys.add": lambda work: work.keys.add(a_signing_key(START)),
    "keys.retire": lambda work: work.keys.retire("k1", START),
    "keys.remove": lambda work: work.keys.remove("k1"),
}
"""Every method that changes something."""
READS: dict[str, Callable[[UnitOfWork], object]] = {
    "users.get": lambda work: work.users.get(ADA),
    "users.find": lambda work: work.users.find(LIVE, USERS, "ada@acme.example"),
    "users.find_by_email": lambda work: work.users.find_by_email(LIVE, "ada@acme.example"),
    "users.find_by_username": lambda work: work.users.find_by_username(LIVE, "ada"),
    "users.find_by_identity": lambda work: work.users.find_by_identity(
        LIVE, an_identity(START).connection, an_identity(START).issuer, an_identity(START).subject
    ),
    "users.hash_of": lambda work: work.users.hash_of(ADA),
    "users.identities": lambda work: work.users.identities(ADA),
    "users.each": lambda work: list(work.users.each(LIVE)),
    "users.only_by": lambda work: work.users.only_by(LIVE, [USERS], [], 9),
    "tickets.look": lambda work: work.tickets.look("secret"),
    "tickets.latest": lambda work: work.tickets.latest(ADA, Purpose.RESET),
    "outbox.recent": lambda work: work.outbox.recent("acme", "reset", "k", START),
    "outbox.depth": lambda work: work.outbox.depth(),
    "outbox.backlog": lambda work: work.outbox.backlog(),
    "audit.read": lambda work: work.audit.read(LIVE),
    "audit.search": lambda work: work.audit.search(target="user-ada"),
    "audit.unsealed": lambda work: work.audit.unsealed(),
    "audit.chained": lambda work: work.audit.chained(),
    "consents.granted": lambda work: work.consents.granted(ADA, SHOP),
    "keys.of": lambda work: work.keys.of("acme"),
}
"""Every method that answers by one question."""


class DatabaseContract(Stored):
    """The promises of transactions."""

    def test_leaving_the_block_commits_over_all_stores(self, database: Database, now: datetime, ada: UserId) -> None:
        with database.writing() as work:
            secret = work.tickets.issue(a_ticket(now))
            work.outbox.put(a_job(now))
            work.audit.write(an_event(now))
        with database.reading() as work:
            assert work.tickets.look(secret) is not None
            assert work.outbox.depth()["new"] == 1
            assert work.audit.read(LIVE) == [an_event(now)]

    def test_an_exception_takes_everything_back(self, database: Database, now: datetime, ada: UserId) -> None:
        with database.writing() as work:
            secret = work.tickets.issue(a_ticket(now))

        class Refused(Exception):
            pass

        with pytest.raises(Refused), database.writing() as work:  # noqa: PT012  the last line is the one that raises
            assert work.tickets.redeem(secret, Purpose.RESET, LIVE, 0, now) is not None
            work.users.write_hash(ada, "another", must_change=False, at=now)
            assert work.users.move_epoch(ada) == 1
            work.outbox.put(a_job(now))
            work.audit.write(an_event(now))
            raise Refused
        with database.reading() as work:
            ticket = work.tickets.look(secret)
            assert ticket is not None
            assert ticket.used_at is None
            assert work.users.hash_of(ada) == HASH
            user = work.users.get(ada)
            assert user is not None
            assert user.epoch == 0
            assert work.outbox.depth()["new"] == 0
            assert work.audit.read(LIVE) == []

    def test_a_refusal_that_is_caught_leaves_the_rest_of_the_work_intact(
        self, database: Database, now: datetime, ada: UserId
    ) -> None:
        with database.writing() as work:
            work.audit.write(an_event(now))
            with pytest.raises(IdentifierTaken):
                work.users.add(a_user(now, "eve", email="ada@acme.example"), kinds=BOTH)
            assert work.users.get(UserId("user-eve")) is None
            work.users.add(a_user(now, "eve"), kinds=BOTH)
        with database.reading() as work:
            assert work.users.get(UserId("user-eve")) == a_user(now, "eve")
            assert len(work.audit.read(LIVE)) == 1

    def test_nobody_sees_work_before_it_is_committed(self, database: Database, now: datetime, ada: UserId) -> None:
        with database.writing() as work:
            work.users.move_epoch(ada)
            with ThreadPoolExecutor(1) as other:
                assert other.submit(_epoch, database, ada).result() == 0
        assert _epoch(database, ada) == 1

    def test_a_view_stands_still_while_others_write(self, database: Database, now: datetime, ada: UserId) -> None:
        with database.reading() as view:
            before = view.users.get(ada)
            with ThreadPoolExecutor(1) as other:
                other.submit(_write, database, lambda work: work.users.move_epoch(ada)).result()
                other.submit(_write, database, lambda work: work.audit.write(an_event(now))).result()
            assert view.users.get(ada) == before
            assert view.audit.read(LIVE) == []
        assert _epoch(database, ada) == 1

    @pytest.mark.parametrize("name", WRITES)
    def test_writing_through_a_view_is_an_error_and_changes_nothing(
        self, database: Database, ada: UserId, name: str
    ) -> None:
        with database.reading() as work:
            before = work.users.get(ada), work.users.hash_of(ada)
            with pytest.raises(RuntimeError, match="writing"):
                WRITES[name](work)
        with database.reading() as work:
            assert (work.users.get(ada), work.users.hash_of(ada)) == before
            assert work.outbox.depth()["new"] == 0

    @pytest.mark.parametrize("name", READS)
    def test_one_question_alone_gets_the_same_answer_as_in_a_view(
        self, database: Database, now: datetime, ada: UserId, name: str
    ) -> None:
        with database.writing() as work:
            work.users.link(ada, LIVE, an_identity(now), now)
            work.tickets.issue(a_ticket(now))
            work.consents.grant(ada, SHOP, frozenset({"openid"}), now)
            work.outbox.note("acme", "reset", "k", now)
            work.audit.write(an_event(now))
            work.keys.add(a_signing_key(now))
        with database.reading() as work:
            viewed = READS[name](work)
        with database.asking() as work:
            asked = READS[name](work)
        assert asked == viewed

    def test_a_second_question_is_an_error(self, database: Database, ada: UserId) -> None:
        """Its answer might be of another moment than that of the first."""
        with database.asking() as work:
            assert work.users.get(ada) is not None
            with pytest.raises(RuntimeError, match="reading"):
                work.users.get(ada)
        with pytest.raises(RuntimeError):
            work.users.get(ada)

    @pytest.mark.parametrize("name", WRITES)
    def test_writing_through_a_question_is_an_error(self, database: Database, ada: UserId, name: str) -> None:
        with database.asking() as work, pytest.raises(RuntimeError):
            WRITES[name](work)
        with database.reading() as work:
            assert work.users.hash_of(ada) == HASH

    def test_a_question_sees_what_is_committed_and_holds_nobody_up(self, database: Database, ada: UserId) -> None:
        with database.asking() as before:
            with database.writing() as work:
                work.users.move_epoch(ada)
                with ThreadPoolExecutor(1) as other:
                    assert other.submit(_ask, database, ada).result() == 0
            found = before.users.get(ada)
        assert found is not None
        assert found.epoch == 1
        assert race(lambda _: _ask(database, ada), 16) == [1] * 16

    def test_every_method_that_changes_something_is_in_the_list_of_writes(self, database: Database) -> None:
        with database.reading() as work:
            there = {
                f"{store}.{name}"
                for store in ("audit", "consents", "keys", "outbox", "tickets", "users")
                for name in dir(getattr(work, store))
                if not name.startswith("_")
            }
        several = {"users.search", "audit.ends"}
        beyond_the_port = {"audit.seal_anew"}
        assert there - beyond_the_port == set(WRITES) | set(READS) | several

    def test_a_unit_of_work_is_of_no_use_after_its_block(self, database: Database, ada: UserId) -> None:
        with database.writing() as work:
            pass
        with pytest.raises(RuntimeError):
            work.users.move_epoch(ada)
        with pytest.raises(RuntimeError):
            work.users.get(ada)
        assert _epoch(database, ada) == 0

    def test_a_thread_that_writes_cannot_begin_to_write_again(self, database: Database) -> None:
        with database.writing(), pytest.raises(RuntimeError, match="already"), database.writing():
            raise AssertionError("two transactions in one thread wait for each other forever")
        with database.writing():
            pass

    def test_jobs_that_many_enqueue_at_once_are_there_when_their_call_returns(
        self, database: Database, now: datetime
    ) -> None:
        def put(number: int) -> bool:
            database.enqueue(a_job(now, f"job-{number}"))
            with database.reading() as work:
                return work.outbox.depth()["new"] > 0

        assert all(race(put, callers=16))
        with database.writing() as work:
            claimed = work.outbox.claim(now, timedelta(minutes=1))
        assert sorted(one.id for one in claimed) == sorted(f"job-{number}" for number in range(16))

    def test_who_is_writing_puts_jobs_into_that_transaction_and_cannot_wait_for_another(
        self, database: Database, now: datetime
    ) -> None:
        with database.writing() as work, pytest.raises(RuntimeError, match="already"):
            database.enqueue(a_job(now))
        with database.reading() as work:
            assert work.outbox.depth()["new"] == 0

    def test_four_threads_that_read_and_then_write_are_never_locked_out(
        self, database: Database, now: datetime, ada: UserId
    ) -> None:
        def write(number: int) -> None:
            for turn in range(25):
                with database.writing() as work:
                    user = work.users.get(ada)
                    assert user is not None
                    work.users.move_epoch(ada)
                    work.outbox.put(a_job(now, f"{number}-{turn}"))

        race(write, callers=4)
        assert _epoch(database, ada) == 100
        with database.reading() as work:
            assert work.outbox.depth()["new"] == 100

    def test_changes_of_one_person_wait_for_each_other_and_never_in_a_circle(
        self, database: Database, now: datetime, ada: UserId
    ) -> None:
        """Each takes the person's row first: a deadlock would end one of them as `Unavailable`."""

        def change(number: int) -> None:
            with database.writing() as work:
                secret = work.tickets.issue(a_ticket(now, id=f"{number}"))
            for turn in range(8):
                with database.writing() as work:
                    user = work.users.get(ada)
                    assert user is not None
                    match (number + turn) % 4:
                        case 0:
                            work.tickets.redeem(secret, Purpose.RESET, LIVE, user.epoch, now)
                            work.users.write_hash(ada, "new", must_change=False, at=now)
                        case 1:
                            work.users.move_epoch(ada)
                            work.tickets.void(ada, now)
                        case 2:
                            work.users.update(ada, lambda user: replace(user, blocked=not user.blocked))
                            work.tickets.issue(a_ticket(now, id=f"{number} {turn}"))
                        case _:
                            work.users.link(ada, LIVE, an_identity(now), now)
                            work.consents.grant(ada, SHOP, frozenset({"openid"}), now)

        race(change, callers=8)
        assert _epoch(database, ada) == 16

    def test_readers_are_not_held_up_by_a_writer(self, database: Database, ada: UserId) -> None:
        with database.writing() as work:
            work.users.move_epoch(ada)
            with ThreadPoolExecutor(1) as other:
                assert other.submit(race, lambda _: _epoch(database, ada), 8).result() == [0] * 8

    def test_the_marker_stays_and_tells_when_the_database_was_made(self, database: Database, clock: FixedClock) -> None:
        marker = database.marker()
        clock.advance(timedelta(days=1))
        assert database.marker() == marker
        seconds, dot, random = marker.partition(".")
        assert int(seconds) == int(START.timestamp())
        assert dot
        assert len(random) >= 16

    def test_a_ping_is_answered(self, database: Database) -> None:
        database.ping()

    def test_a_database_that_was_closed_opens_again_when_it_is_needed(self, database: Database, ada: UserId) -> None:
        database.close()
        assert _epoch(database, ada) == 0


def _epoch(database: Database, user: UserId) -> int | None:
    with database.reading() as work:
        found = work.users.get(user)
        return None if found is None else found.epoch


def _ask(database: Database, user: UserId) -> int | None:
    with database.asking() as work:
        found = work.users.get(user)
    return None if found is None else found.epoch


def _write(database: Database, change: Callable[[UnitOfWork], object]) -> None:
    with database.writing() as work:
        change(work)
