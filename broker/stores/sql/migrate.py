"""Runs the Alembic migrations in this process: all of them, or none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, delete, event, insert, inspect, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from broker.core.errors import ConfigurationError
from broker.stores.sql.engine import Engines, prepare_sqlite
from broker.stores.sql.schema import HEAD, MARKER, WORKS_WITH
from broker.stores.sql.tables import meta, metadata

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x686F6D65
"""The number of PostgreSQL's advisory lock for migrations: ASCII `home`."""
_TURN_SECONDS = 600
_FORBIDDEN = {"42501", "25006"}
"""SQLSTATE: insufficient privilege; read-only."""


def migrate(engines: Engines, marker: str, migrations: Path = MIGRATIONS, to: str = "head") -> None:
    """One transaction from the stored revision to the newest. `marker` is kept by a database that has none.

    Raises `ConfigurationError` for a database of another program, for tables that this role may not change, and for
    rows that refer to nothing afterwards; then nothing was changed.
    """
    script = ScriptDirectory(str(migrations))
    try:
        with _connection(engines) as connection:
            _migrate(connection, script, marker, to)
            _check_references(connection, engines)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) not in _FORBIDDEN:
            raise
        raise ConfigurationError(
            [
                f"database: its tables are older than this version's, and this role may not change them "
                f"(schema {HEAD} is needed): run `homerealm db upgrade` as the owner of the tables"
            ]
        ) from error


def _migrate(connection: Connection, script: ScriptDirectory, marker: str, to: str) -> None:
    _check_ours(connection)

    def steps(revision: Any, _: object) -> Any:
        return script._upgrade_revs(to, revision)

    with EnvironmentContext(Config(), script, fn=steps, destination_rev=to) as environment:
        environment.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
        environment.run_migrations()
    if connection.execute(select(meta.c.value).where(meta.c.name == MARKER)).scalar() is None:
        connection.execute(insert(meta), {"name": MARKER, "value": marker})
    connection.execute(delete(meta).where(meta.c.name == WORKS_WITH))
    connection.execute(insert(meta), {"name": WORKS_WITH, "value": works_with(script, to)})


def works_with(script: ScriptDirectory, to: str = "head") -> str:
    """The oldest revision whose release can use the tables once they are at `to`.

    A migration says so itself, in a line `works_with = "0007"`; one that says nothing ends the time of all before it.
    """
    return max(str(getattr(one.module, "works_with", one.revision)) for one in script.iterate_revisions(to, "base"))


@contextmanager
def _connection(engines: Engines) -> Iterator[Connection]:
    """With the transaction begun, and nobody else migrating."""
    if not engines.is_sqlite:
        with engines.writer.begin() as connection:
            # Until the replica that was first is done. The changes themselves wait no longer for a lock than anybody,
            # since everybody else would queue behind them.
            connection.execute(text(f"SET LOCAL lock_timeout = {_TURN_SECONDS * 1000}"))
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            connection.execute(text(f"SET LOCAL lock_timeout = {int(engines.patience * 1000)}"))
            yield connection
        return
    engine = create_engine(engines.url, poolclass=NullPool, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        prepare_sqlite(connection)
        # Before BEGIN, since it is ignored after it: a batch change drops and renames tables, and with references
        # enforced it would silently empty the tables that refer to them.
        connection.execute("PRAGMA foreign_keys=OFF")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    with engine.begin() as connection:
        yield connection


def _check_ours(connection: Connection) -> None:
    tables = set(inspect(connection).get_table_names())
    if "alembic_version" not in tables and tables & set(metadata.tables):
        raise ConfigurationError(["database: has tables of another program; Homerealm needs a database of its own"])


def _check_references(connection: Connection, engines: Engines) -> None:
    if not engines.is_sqlite:
        return
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if broken:
        tables = ", ".join(sorted({str(row[0]) for row in broken}))
        raise ConfigurationError([f"database: after the migration, rows in {tables} would refer to nothing"])
