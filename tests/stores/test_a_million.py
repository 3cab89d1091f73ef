"""Among a million people every question costs what it costs among a thousand: steps and pages, by the engines."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Connection, text

from broker.core.ports import UnitOfWork
from broker.stores.sql import SqlDatabase
from broker.stores.sql.tables import users
from broker.testing.records import LIVE, USERS
from tests.stores.test_queries import HOT, WRITTEN, statements

pytestmark = pytest.mark.deep
FEW, MANY = 1_000, 1_000_000
ALLOWED = {"sqlite": 200, "postgresql": 16}
"""More than among a thousand: steps of SQLite's machine, pages of PostgreSQL. Indices of a million are a page deeper,
and a question may join five of them; a table that is read has 10,000 pages."""

Question = Callable[[UnitOfWork], object]
ASKED: dict[str, Question] = HOT | WRITTEN | {
    "find the last one": lambda work: work.users.find(LIVE, USERS, f"person{MANY - 2}@acme.example"),
    "search for what many are called": lambda work: work.users.search(LIVE, "person"),
}  # fmt: skip

_PEOPLE = """
WITH RECURSIVE others(n) AS (
    SELECT CAST(:first AS INTEGER) UNION ALL SELECT n + 1 FROM others WHERE n < CAST(:last AS INTEGER)
)
INSERT INTO users ({columns}) SELECT {values} FROM others CROSS JOIN users AS one WHERE one.id = 'user-ada'
"""
_NAMES = """
INSERT INTO identifiers (directory, connection, kind, key, user_id)
SELECT directory, connection, '{kind}', {kind}_key, id FROM users WHERE id LIKE 'person%' AND epoch = :epoch
"""


def fill(connection: Connection, first: int, last: int, epoch: int) -> None:
    """Copies of Ada with names of their own; `epoch` tells those of one call from others."""
    name = "'person' || CAST(n AS TEXT)"
    values = {column.name: f'one."{column.name}"' for column in users.columns} | {
        "id": name, "username": name, "username_key": name, "name_key": name, "email": f"{name} || '@acme.example'",
        "email_key": f"{name} || '@acme.example'", "epoch": str(epoch),
    }  # fmt: skip
    quoted = ", ".join(f'"{column}"' for column in values)
    connection.execute(
        text(_PEOPLE.format(columns=quoted, values=", ".join(values.values()))), {"first": first, "last": last}
    )
    for kind in ("username", "email"):
        connection.execute(text(_NAMES.format(kind=kind)), {"epoch": epoch})


def cost(database: SqlDatabase, question: Question) -> int:
    """Steps (SQLite) or pages (PostgreSQL) of all its statements; what they changed is taken back."""
    with suppress(_Undone), database.writing() as work:
        with statements(database) as sent:
            question(work)
        raise _Undone
    assert sent
    found = 0
    with database._engines.writer.connect() as connection:
        for statement, parameters in sent:
            found += (steps if database._engines.is_sqlite else pages)(connection, statement, parameters)
        connection.rollback()
    return found


class _Undone(Exception):
    pass


def steps(connection: Connection, statement: str, parameters: Any) -> int:
    taken = [0]

    def step() -> int:
        taken[0] += 1
        return 0

    driver: Any = connection.connection.driver_connection
    driver.set_progress_handler(step, 1)
    try:
        rows = connection.exec_driver_sql(statement, parameters)
        if rows.returns_rows:
            rows.fetchall()
    finally:
        driver.set_progress_handler(None, 1)
    return taken[0]


def pages(connection: Connection, statement: str, parameters: Any) -> int:
    explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
    plan = connection.exec_driver_sql(explained, parameters).scalar_one()[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def test_every_question_costs_what_it_costs_among_a_thousand(database: SqlDatabase) -> None:
    kind = "sqlite" if database._engines.is_sqlite else "postgresql"
    costs: list[dict[str, int]] = []
    for epoch, (first, last) in enumerate([(0, FEW - 2), (FEW - 1, MANY - 2)], start=1):
        with database._engines.writer.begin() as connection:
            fill(connection, first, last, epoch)
            connection.exec_driver_sql("ANALYZE")
        costs.append({name: cost(database, question) for name, question in ASKED.items()})
    with database._engines.reader.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM users")) == MANY
    few, many = costs
    assert few["get"] > 0
    dear = {name: (few[name], many[name]) for name in ASKED if many[name] > few[name] + ALLOWED[kind]}
    assert dear == {}


def test_a_question_that_reads_everybody_is_noticed(database: SqlDatabase) -> None:
    found = []
    for epoch, (first, last) in enumerate([(0, FEW), (FEW + 1, 20 * FEW)], start=1):
        with database._engines.writer.begin() as connection:
            fill(connection, first, last, epoch)
            connection.exec_driver_sql("ANALYZE")
            asked = (connection, "SELECT id FROM users WHERE email = 'nobody'", ())
            found.append((steps if database._engines.is_sqlite else pages)(*asked))
    assert found[1] > found[0] + max(ALLOWED.values())
