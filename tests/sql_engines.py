"""Databases for tests, on each of the engines that Homerealm runs on."""

from __future__ import annotations

from pathlib import Path

from broker.core.ports import Clock
from broker.services.secrets import SecretVault
from broker.stores.sql import SqlDatabase
from broker.testing.entropy import SeededEntropy
from tests.postgresql import shared

ENGINES = ("sqlite", "postgresql")
VAULT = SecretVault(bytes(range(32)))


def opened(url: str, clock: Clock, *, upgrade: bool = True) -> SqlDatabase:
    database = SqlDatabase(url, clock, SeededEntropy(), VAULT)
    if upgrade:
        database.upgrade()
    return database


def empty_database(engine: str, folder: Path) -> str:
    """The address of a new database without tables."""
    return f"sqlite:///{folder}/broker.db" if engine == "sqlite" else shared().database()


def ready_database(engine: str, folder: Path) -> str:
    """The address of a new database with our tables and nobody in it."""
    return f"sqlite:///{folder}/broker.db" if engine == "sqlite" else shared().database(shared().ready())
