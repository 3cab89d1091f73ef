"""What an audit log has to do (`broker.core.watching.Audit`)."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from broker.core.chain import START, Mark, verify
from broker.core.events import Action
from broker.core.ports import Database
from broker.core.values import Actor
from broker.testing.contracts.database import Stored
from broker.testing.race import race
from broker.testing.records import DEV, LIVE, an_event


class AuditContract(Stored):
    """Everything, in order, for ever."""

    def test_an_event_comes_back_as_written(self, database: Database, now: datetime) -> None:
        bare = an_event(now, target="", detail={}, reference="", actor=Actor.worker(), action=Action.KEY_ADDED)
        with database.writing() as work:
            work.audit.write(an_event(now))
            work.audit.write(bare)
        with database.reading() as work:
            assert work.audit.read(LIVE) == [bare, an_event(now)]

    def test_the_newest_comes_first_in_the_order_of_writing(self, database: Database, now: datetime) -> None:
        with database.writing() as work:
            for number in range(5):
                # The clock of another machine may be behind: the order is that of writing.
                work.audit.write(an_event(now - timedelta(hours=number), reference=str(number)))
        with database.reading() as work:
            assert [event.reference for event in work.audit.read(LIVE)] == ["4", "3", "2", "1", "0"]
            assert [event.reference for event in work.audit.read(LIVE, limit=2)] == ["4", "3"]

    def test_it_is_read_by_directory_and_target(self, database: Database, now: datetime) -> None:
        with database.writing() as work:
            work.audit.write(an_event(now, target="a"))
            work.audit.write(an_event(now, target="b"))
            work.audit.write(an_event(now, target="a", directory=DEV))
        with database.reading() as work:
            assert [event.target for event in work.audit.read(LIVE)] == ["b", "a"]
            assert work.audit.read(LIVE, target="a") == [an_event(now, target="a")]
            assert work.audit.read(LIVE, target="") == []
            assert work.audit.read(DEV) == [an_event(now, target="a", directory=DEV)]

    def test_nothing_is_lost_when_many_write(self, database: Database, now: datetime) -> None:
        def write(number: int) -> None:
            with database.writing() as work:
                work.audit.write(an_event(now, reference=str(number)))

        race(write, callers=16)
        with database.reading() as work:
            assert {event.reference for event in work.audit.read(LIVE)} == {str(number) for number in range(16)}

    # --- The chain --------------------------------------------------------------------------------------------------

    def test_sealed_rows_make_one_chain_that_verifies(self, database: Database, now: datetime) -> None:
        write(database, now, 5)
        assert sealed(database, limit=2) == 2
        write(database, now, 1)
        assert sealed(database) == 6
        with database.reading() as work:
            records, (start, head) = work.audit.chained(), work.audit.ends()
            assert not work.audit.unsealed()
        assert [record.place for record in records] == [1, 2, 3, 4, 5, 6]
        assert head is not None
        assert verify(records, start=start, head=head).last == Mark(6, head.hash)

    def test_sealing_changes_nothing_else(self, database: Database, now: datetime) -> None:
        write(database, now, 3)
        with database.reading() as work:
            before = work.audit.read(LIVE)
        sealed(database)
        with database.reading() as work:
            assert work.audit.read(LIVE) == before

    def test_there_is_nothing_to_seal_twice(self, database: Database, now: datetime) -> None:
        with database.writing() as work:
            assert work.audit.seal() is None
            assert work.audit.ends() == (START, None)
        write(database, now, 1)
        sealed(database)
        with database.writing() as work:
            assert work.audit.seal() is None

    def test_many_sealers_and_writers_make_one_chain(self, database: Database, now: datetime) -> None:
        def busy(number: int) -> None:
            write(database, now, 1)
            with database.writing() as work:
                work.audit.seal()

        race(busy, callers=12)
        assert sealed(database) == 12
        with database.reading() as work:
            records, (start, head) = work.audit.chained(), work.audit.ends()
        assert verify(records, start=start, head=head).problem == ""

    def test_what_was_archived_can_go_and_the_rest_still_verifies(self, database: Database, now: datetime) -> None:
        write(database, now, 4)
        sealed(database)
        with database.writing() as work:
            assert work.audit.forget(3) == 3
        write(database, now, 1)
        sealed(database)
        with database.reading() as work:
            records, (start, head) = work.audit.chained(), work.audit.ends()
        assert [record.place for record in records] == [4, 5]
        assert start.place == 3
        assert verify(records, start=start, head=head).problem == ""

    def test_a_place_that_is_not_there_is_not_archived(self, database: Database, now: datetime) -> None:
        write(database, now, 1)
        with pytest.raises(LookupError), database.writing() as work:
            work.audit.forget(1)

    def test_rows_are_searched_for_by_what_an_operator_knows(self, database: Database, now: datetime) -> None:
        with database.writing() as work:
            work.audit.write(an_event(now, reference="AAAA-AAAA-AA"))
            work.audit.write(an_event(now - timedelta(days=2), target="eve"))
            work.audit.write(an_event(now, directory=DEV))
        with database.reading() as work:
            audit = work.audit
            assert [one.reference for one in audit.search(reference="AAAA-AAAA-AA")] == ["AAAA-AAAA-AA"]
            assert [one.target for one in audit.search(target="eve")] == ["eve"]
            assert [one.directory for one in audit.search(directory=DEV)] == [DEV]
            assert len(audit.search(since=now - timedelta(days=1))) == 2
            newest = audit.search(limit=1)[0]
            assert audit.search(after=newest.number) == []


def write(database: Database, now: datetime, many: int) -> None:
    """Rows that are not sealed yet."""
    with database.writing() as work:
        for number in range(many):
            work.audit.write(an_event(now, reference=str(number)))


def sealed(database: Database, limit: int = 500) -> int:
    """Seal once. Returns how long the chain is now."""
    with database.writing() as work:
        work.audit.seal(limit)
        head = work.audit.ends()[1]
        return head.place if head else 0
