"""Databases for tests, on each of the engines that Homerealm runs on."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from broker.core.ports import Clock
from broker.services.secrets import SecretVault
from broker.stores.sql import SqlDatabase
from broker.stores.sql.engine import Engines
from broker.stores.sql.schema import HEAD
from broker.stores.sql.tables import metadata
from broker.testing.clock import START, FixedClock
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


@cache
def ready_file() -> Path:
    """A database of SQLite with our tables and nobody in it, to copy from."""
    folder = tempfile.mkdtemp(prefix="hr-ready-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    opened(f"sqlite:///{folder}/ready.db", FixedClock()).close()
    return Path(folder) / "ready.db"


EXPANDED = '''
"""What a release may add while the one before it goes on."""
import sqlalchemy as sa
from alembic import op

revision = "%s"
down_revision = works_with = "%s"


def upgrade() -> None:
    for table in %s:
        op.add_column(table, sa.Column("later", sa.Text(), nullable=True))
    op.create_index("ix_users_later", "users", ["later"])
    op.create_table("notes", sa.Column("user_id", sa.Text(), sa.ForeignKey("users.id", ondelete="CASCADE")))
'''


def newer_database(folder: Path) -> str:
    """The address of a database as the next release would make it: every table has a column that we do not know."""
    # Alembic takes as long to load as all the rest: who opens a database that is current does without.
    from broker.stores.sql.migrate import MIGRATIONS, migrate

    migrations = folder / "next"
    shutil.copytree(MIGRATIONS, migrations)
    number = f"{int(HEAD) + 1:04}"
    text = EXPANDED % (number, HEAD, [table.name for table in metadata.sorted_tables])
    (migrations / "versions" / f"r{number}_next.py").write_text(text)
    url = f"sqlite:///{folder}/newer.db"
    engines = Engines(url)
    migrate(engines, f"{int(START.timestamp())}.{'n' * 22}", migrations)
    engines.close()
    return url


def ready_database(engine: str, folder: Path) -> str:
    """The address of a new database with our tables and nobody in it."""
    return f"sqlite:///{folder}/broker.db" if engine == "sqlite" else shared().database(shared().ready())
