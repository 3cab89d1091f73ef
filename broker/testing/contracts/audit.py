"""What an audit log has to do (`broker.core.ports.Audit`)."""

from __future__ import annotations

from datetime import datetime, timedelta

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
