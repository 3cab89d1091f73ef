"""What a statement costs: how many there are, and that each one finds its rows by an index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event

from broker.core.ports import UnitOfWork
from broker.core.ticket import Purpose
from broker.core.values import ClientId, ConnectionId, UserId
from broker.stores.sql import SqlDatabase
from broker.testing.clock import START
from broker.testing.records import LIVE, USERS, a_job

ADA = UserId("user-ada")

HOT: dict[str, Callable[[UnitOfWork], object]] = {
    "find by address": lambda work: work.users.find(LIVE, USERS, "ada@acme.example"),
    "find by name": lambda work: work.users.find(LIVE, USERS, "ada"),
    "get": lambda work: work.users.get(ADA),
    "find by identity": lambda work: work.users.find_by_identity(LIVE, ConnectionId("staff"), "https://i", "s"),
    "find by contact address": lambda work: work.users.find_by_email(LIVE, "ada@acme.example"),
    "identities": lambda work: work.users.identities(ADA),
    "consents": lambda work: work.consents.granted(ADA, ClientId("shop")),
    "look at a ticket": lambda work: work.tickets.look("secret"),
    "latest ticket": lambda work: work.tickets.latest(ADA, Purpose.RESET),
    "recent mails": lambda work: work.outbox.recent("acme", "reset", "k", START),
    "keys": lambda work: work.keys.of("acme"),
    "audit": lambda work: work.audit.read(LIVE),
    "audit of somebody": lambda work: work.audit.read(LIVE, target="user-ada"),
    "a page": lambda work: work.users.each(LIVE, after=ADA),
}
WRITTEN: dict[str, Callable[[UnitOfWork], object]] = {
    "search": lambda work: work.users.search(LIVE, "ad"),
    "claim": lambda work: work.outbox.claim(START, timedelta(minutes=1)),
    "renew": lambda work: work.outbox.renew([a_job(START), a_job(START, "job-2")], START),
    "redeem": lambda work: work.tickets.redeem("secret", Purpose.RESET, LIVE, 0, START),
    "sweep of jobs": lambda work: work.outbox.sweep(START),
    "sweep of tickets": lambda work: work.tickets.sweep(START),
    "delete": lambda work: work.users.delete(ADA),
    "void": lambda work: work.tickets.void(ADA, START),
}


@contextmanager
def statements(database: SqlDatabase) -> Iterator[list[tuple[str, Any]]]:
    """What is sent to the engine meanwhile."""
    sent: list[tuple[str, Any]] = []

    def note(_c: object, _u: object, statement: str, parameters: Any, _x: object, _m: object) -> None:
        sent.append((statement, parameters))

    engines = {database._engines.writer}
    if database._engines.is_sqlite:  # on PostgreSQL both are one, which would tell everything twice
        engines.add(database._engines.reader)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    yield sent
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)


@pytest.mark.parametrize("name", HOT)
def test_one_question_is_one_query(database: SqlDatabase, name: str) -> None:
    with database.reading() as work, statements(database) as sent:
        HOT[name](work)
    assert len(sent) == 1


def test_all_jobs_in_hand_are_renewed_by_one_statement(database: SqlDatabase) -> None:
    jobs = [a_job(START, f"job-{number}") for number in range(40)]
    with database.writing() as work:
        for job in jobs:
            work.outbox.put(job)
        claimed = work.outbox.claim(START, timedelta(minutes=1), 40)
        with statements(database) as sent:
            assert len(work.outbox.renew(claimed, START + timedelta(minutes=2))) == 40
    assert len(sent) == 1


@pytest.mark.parametrize("name", [*HOT, *WRITTEN])
def test_no_query_reads_a_whole_table(database: SqlDatabase, name: str) -> None:
    with database.writing() as work, statements(database) as sent:
        {**HOT, **WRITTEN}[name](work)
    sent = [one for one in sent if one[0].startswith(("SELECT", "UPDATE", "DELETE"))]
    assert sent
    with database._engines.reader.connect() as connection:
        if not database._engines.is_sqlite:
            # Nearly empty tables are read whole for good reason: ask what it would do if that were dear.
            connection.exec_driver_sql("SET enable_seqscan = off")
        for statement, parameters in sent:
            assert not whole_tables(connection, statement, parameters), statement


def whole_tables(connection: Connection, statement: str, parameters: Any) -> list[str]:
    """The steps of a plan that look at every row of a table."""
    if connection.dialect.name == "sqlite":
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
        # What was handed over with the statement is no table.
        found = [step for step in plan if step.startswith("SCAN") and "CONSTANT ROW" not in step]
    else:
        plan = [row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)]
        # An index that is walked from end to end has no condition.
        found = [step for step in plan if "Seq Scan" in step]
        found += [
            step for step, following in zip(plan, [*plan[1:], ""], strict=True)
            if "Index" in step and "Scan" in step and "Index Cond" not in following
        ]  # fmt: skip
    assert plan
    return found


def test_a_query_without_an_index_is_noticed(database: SqlDatabase) -> None:
    with database._engines.reader.connect() as connection:
        assert whole_tables(connection, "SELECT id FROM users WHERE epoch = 1", ())
        assert whole_tables(connection, "UPDATE users SET epoch = 2 WHERE email = 'a'", ())
