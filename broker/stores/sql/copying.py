"""A whole database into another one, on the same engine or not: every row as it is, all of them or none.

Sealed columns are bound to their table, column and row, and all three stay what they are. The marker is copied too:
it is the same installation, so sessions and throttles of a key-value store that stays go on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Integer, Table, func, insert, select, text

from broker.core.errors import ConfigurationError
from broker.stores.sql.engine import Engines
from broker.stores.sql.tables import meta, metadata

_CHUNK = 1000
Progress = Callable[[str, int, int], None]
"""Called with the table, the rows done and the rows in all."""


def copy(source: Engines, target: Engines, progress: Progress) -> dict[str, int]:
    """Both have the tables of this release. Returns the number of rows by table.

    The source cannot change meanwhile: SQLite is locked for writers, PostgreSQL shows one moment.
    Raises `ConfigurationError` for a target that holds anything, and then nothing was written.
    """
    tables = metadata.sorted_tables
    with source.begun(writable=source.is_sqlite) as there, target.begun(writable=True) as here:
        if not target.is_sqlite:
            # Whatever is slow here holds nobody up.
            here.execute(text("SET LOCAL statement_timeout = 0"))
            here.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            here.execute(text(f"LOCK TABLE {', '.join(table.name for table in tables)} IN EXCLUSIVE MODE"))
        for table in tables:
            if table is not meta and here.execute(select(table).limit(1)).first() is not None:
                raise ConfigurationError([f"the target is not empty (it has {table.name}): nothing was copied"])
        here.execute(meta.delete())
        done = {}
        for table in tables:
            done[table.name] = _copy(table, there, here, progress)
            _count_on(table, there, here, source, target)
        here.commit()
        return done


def _copy(table: Table, there: Connection, here: Connection, progress: Progress) -> int:
    total, done = _many(there, table), 0
    progress(table.name, 0, total)
    rows = there.execution_options(yield_per=_CHUNK).execute(select(table).order_by(*table.primary_key))
    for chunk in rows.mappings().partitions(_CHUNK):
        here.execute(insert(table), [dict(row) for row in chunk])
        done += len(chunk)
        progress(table.name, done, total)
    arrived = _many(here, table)
    if not total == done == arrived:
        raise ConfigurationError([f"of {total} rows of {table.name} {arrived} arrived: nothing was copied"])
    return done


def _count_on(table: Table, there: Connection, here: Connection, source: Engines, target: Engines) -> None:
    """A number that was given once is not given again, also when its row is gone."""
    column = next((one for one in table.primary_key if isinstance(one.type, Integer)), None)
    if column is None:
        return
    last = there.execute(select(func.max(column))).scalar() or 0
    last = max(last, _given(table, str(column.name), there, source))
    if not last:
        return
    if target.is_sqlite:
        if _remembers(table):
            here.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": table.name})
            here.execute(text("INSERT INTO sqlite_sequence VALUES (:name, :last)"), {"name": table.name, "last": last})
    else:
        which = {"table": table.name, "column": column.name, "last": last}
        here.execute(text("SELECT setval(pg_get_serial_sequence(:table, :column), :last)"), which)


def _given(table: Table, column: str, there: Connection, source: Engines) -> int:
    if source.is_sqlite:
        if not _remembers(table):
            return 0
        query, which = "SELECT seq FROM sqlite_sequence WHERE name = :name", {"name": table.name}
        return int(there.execute(text(query), which).scalar() or 0)
    sequence = there.execute(
        text("SELECT pg_get_serial_sequence(:table, :column)"), {"table": table.name, "column": column}
    ).scalar_one()
    query = f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}"  # noqa: S608 - our own name
    return int(there.execute(text(query)).scalar_one())


def _remembers(table: Table) -> bool:
    return bool(table.dialect_options["sqlite"]["autoincrement"])


def _many(connection: Connection, table: Table) -> Any:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()
