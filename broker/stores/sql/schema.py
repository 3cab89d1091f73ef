"""Which revision the tables have, and how they come to the newest. Alembic is loaded only when there is work."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, inspect, text

from broker.core.ports import Clock, Entropy
from broker.stores.sql.engine import Engines

HEAD = "0002"
"""The newest file in migrations/versions. A test compares the two."""
MARKER = "marker"
"""The row of `meta` that tells one database from another."""


def revision(engine: Engine) -> str | None:
    """None for a database that Alembic never saw."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return None if found is None else str(found)


def upgrade(engines: Engines, clock: Clock, entropy: Entropy) -> None:
    """Nothing to do is the usual case, and takes one query or two."""
    with _alone(engines):
        if revision(engines.reader) != HEAD:
            from broker.stores.sql.migrate import migrate

            marker = f"{int(clock.now().timestamp())}.{entropy.token(16)}"
            migrate(engines, marker)


@contextmanager
def _alone(engines: Engines) -> Iterator[None]:
    """SQLite: the very first connection switches the file to WAL, and two that do it at once are "locked".

    PostgreSQL takes a lock of its own in `migrate`.
    """
    if not engines.is_sqlite:
        yield
        return
    # The kernel releases it when its holder dies, so a crash here blocks nobody.
    folder = os.open(Path(engines.url.database or "").parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
