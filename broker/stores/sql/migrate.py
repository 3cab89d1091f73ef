"""Runs the Alembic migrations in this process: all of them, or none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event, insert, inspect, select, text
from sqlalchemy.pool import NullPool

from broker.core.errors import ConfigurationError
from broker.stores.sql.engine import Engines, prepare_sqlite
from broker.stores.sql.schema import HEAD, MARKER
from broker.stores.sql.tables import meta, metadata

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x686F6D65
"""The number of PostgreSQL's advisory lock for migrations: ASCII `home`."""


def migrate(engines: Engines, marker: str, migrations: Path = MIGRATIONS) -> None:
    """One transaction from the stored revision to the newest. `marker` is kept by a database that has none.

    Raises `ConfigurationError` for a database of a newer version or of another program, and for rows that refer to
    nothing afterwards; then nothing was changed.
    """
    script = ScriptDirectory(str(migrations))
    with _connection(engines) as connection:
        _check_known(connection, script)

        def steps(revision: Any, _: object) -> Any:
            return script._upgrade_revs("head", revision)

        with EnvironmentContext(Config(), script, fn=steps, destination_rev="head") as environment:
            environment.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
            environment.run_migrations()
        if connection.execute(select(meta.c.value).where(meta.c.name == MARKER)).scalar() is None:
            connection.execute(insert(meta), {"name": MARKER, "value": marker})
        _check_references(connection, engines)


@contextmanager
def _connection(engines: Engines) -> Iterator[Connection]:
    """With the transaction begun, and nobody else migrating."""
    if not engines.is_sqlite:
        with engines.writer.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
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


def _check_known(connection: Connection, script: ScriptDirectory) -> None:
    tables = set(inspect(connection).get_table_names())
    if "alembic_version" not in tables:
        if tables & set(metadata.tables):
            raise ConfigurationError(["database: has tables of another program; Homerealm needs a database of its own"])
        return
    stored = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if stored is not None and stored not in {one.revision for one in script.walk_revisions()}:
        raise ConfigurationError(
            [
                f"database: was made by a newer version of Homerealm (schema {stored}, this version knows {HEAD}): "
                "install that version again, or restore the backup from before"
            ]
        )


def _check_references(connection: Connection, engines: Engines) -> None:
    if not engines.is_sqlite:
        return
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if broken:
        tables = ", ".join(sorted({str(row[0]) for row in broken}))
        raise ConfigurationError([f"database: after the migration, rows in {tables} would refer to nothing"])
