"""Databases for tests: SQLite always, PostgreSQL where `HOMEREALM_TEST_POSTGRES` names one that may be emptied."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import create_engine, text

from broker.core.ports import Clock
from broker.services.secrets import SecretVault
from broker.stores.sql import SqlDatabase
from broker.stores.sql.tables import metadata
from broker.testing.entropy import SeededEntropy

POSTGRESQL = os.environ.get("HOMEREALM_TEST_POSTGRES")
ENGINES = ["sqlite", *(["postgresql"] if POSTGRESQL else [])]
VAULT = SecretVault(bytes(range(32)))


def opened(url: str, clock: Clock, *, upgrade: bool = True) -> SqlDatabase:
    database = SqlDatabase(url, clock, SeededEntropy(), VAULT)
    if upgrade:
        database.upgrade()
    return database


def empty_database(engine: str, folder: Path) -> str:
    """The address of a database without tables."""
    if engine == "sqlite":
        return f"sqlite:///{folder}/broker.db"
    assert POSTGRESQL is not None
    owner = create_engine(POSTGRESQL)
    with owner.begin() as connection:
        metadata.drop_all(connection)
        connection.execute(text("DROP TABLE IF EXISTS alembic_version"))
    owner.dispose()
    return POSTGRESQL
