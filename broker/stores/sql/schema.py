"""Which revision the tables have, and how they come to the newest. Alembic is loaded only when there is work.

Revisions are numbers of four digits, one after the other. The database also says which release it still serves
(`WORKS_WITH`), so that two releases can run side by side while one replaces the other (docs/decisions/postgresql.md).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sqlalchemy import Engine, inspect, select, text

from broker.core.errors import ConfigurationError
from broker.core.ports import Clock, Entropy
from broker.stores.sql.engine import Engines
from broker.stores.sql.tables import meta

HEAD = "0002"
"""The newest file in migrations/versions. A test compares the two."""
MARKER = "marker"
"""The row of `meta` that tells one database from another."""
WORKS_WITH = "schema.works_with"
"""The row of `meta` with the oldest revision whose release can still use these tables."""


class State(StrEnum):
    EMPTY = "empty"
    CURRENT = "current"
    OLDER = "older"
    NEWER = "newer"
    """Made by a newer release, and this one can use it."""
    REFUSED = "refused"
    """Made by a newer release, and this one would do harm."""


@dataclass(frozen=True, slots=True)
class Schema:
    """What is known of the tables of one database."""

    revision: str | None
    """None for a database that Alembic never saw."""
    works_with: str | None = None
    """The oldest revision whose release can use it. Old databases do not say."""

    @property
    def state(self) -> State:
        if self.revision is None:
            return State.EMPTY
        if self.revision == HEAD:
            return State.CURRENT
        if self.revision < HEAD:
            return State.OLDER
        return State.NEWER if self.works_with is not None and self.works_with <= HEAD else State.REFUSED

    def refuse(self) -> None:
        """Raises `ConfigurationError` for tables that a newer release made, and that this one cannot use."""
        if self.state is State.REFUSED:
            raise ConfigurationError(
                [
                    f"database: was made by a newer version of Homerealm (schema {self.revision}, for versions from "
                    f"schema {self.works_with or self.revision} on; this version knows {HEAD}): install that version "
                    "again, or restore the backup from before"
                ]
            )

    def need(self) -> None:
        """Raises `ConfigurationError` for tables that this release cannot work with as they are."""
        self.refuse()
        if self.state in (State.EMPTY, State.OLDER):
            found = "no tables yet" if self.revision is None else f"schema {self.revision}"
            raise ConfigurationError(
                [f"database: has {found}, and this version needs schema {HEAD}: run `homerealm db upgrade`"]
            )


def read(engine: Engine) -> Schema:
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return Schema(None)
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        if found is None or found == HEAD:
            return Schema(found, HEAD)
        return Schema(str(found), connection.execute(select(meta.c.value).where(meta.c.name == WORKS_WITH)).scalar())


def upgrade(engines: Engines, clock: Clock, entropy: Entropy) -> None:
    """Nothing to do is the usual case, and takes one query or two."""
    with _alone(engines):
        found = read(engines.reader)
        found.refuse()
        if found.state in (State.EMPTY, State.OLDER):
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
