"""Migrations: what they make, what they refuse, and that they happen whole or not at all."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, MetaData, Table, create_engine, inspect, select

from broker.core.errors import ConfigurationError, Unavailable
from broker.core.values import ClientId, UserId
from broker.stores.sql import SqlDatabase
from broker.stores.sql.engine import Engines, parse_url
from broker.stores.sql.migrate import MIGRATIONS, migrate, works_with
from broker.stores.sql.schema import HEAD, WORKS_WITH, State
from broker.stores.sql.tables import meta, metadata
from broker.testing.clock import START, FixedClock
from broker.testing.entropy import SeededEntropy
from broker.testing.race import race
from broker.testing.records import BOTH, HASH, LIVE, a_ticket, a_user
from broker.testing.samples import an_identity
from tests.postgresql import shared
from tests.sql_engines import ENGINES, VAULT, empty_database, opened

ADA = UserId("user-ada")

CHANGE_OF_USERS = '''
"""A change of `users` as SQLite does it: a new table, a copy, and the old one dropped."""
import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "%s"

def upgrade() -> None:
    with op.batch_alter_table("users") as users:
        users.add_column(sa.Column("nickname", sa.Text()))
        users.alter_column("kinds", nullable=True)
    %s
'''


@pytest.fixture
def url(tmp_path: Path) -> str:
    return empty_database("sqlite", tmp_path)


def shape(engine: Engine) -> dict[str, Any]:
    """Everything that the tables promise, comparable."""
    found = inspect(engine)

    def sorted_by_name(items: Any) -> list[Any]:
        return sorted(items, key=lambda item: str(item["name"]))

    return {
        table: {
            "columns": {c["name"]: (repr(c["type"]), c["nullable"]) for c in found.get_columns(table)},
            "primary key": found.get_pk_constraint(table),
            "references": sorted_by_name(found.get_foreign_keys(table)),
            "unique": sorted_by_name(found.get_unique_constraints(table)),
            "indexes": sorted_by_name(found.get_indexes(table)),
        }
        for table in found.get_table_names()
        if table != "alembic_version"
    }


@pytest.mark.parametrize("engine", ENGINES)
def test_the_migrations_make_the_tables_that_the_statements_are_written_for(engine: str, tmp_path: Path) -> None:
    url = empty_database(engine, tmp_path)
    declared = create_engine(parse_url(url))
    metadata.create_all(declared)
    wanted = shape(declared)
    declared.dispose()
    for file in tmp_path.iterdir():
        file.unlink()
    url = empty_database(engine, tmp_path)
    opened(url, FixedClock()).close()
    migrated = create_engine(parse_url(url))
    made = shape(migrated)
    migrated.dispose()
    assert made.keys() == wanted.keys()
    for table, facts in wanted.items():
        assert made[table] == facts


def test_the_revision_in_the_code_is_that_of_the_newest_migration() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [HEAD]


def test_an_empty_database_has_no_revision_and_an_upgraded_one_the_newest(url: str) -> None:
    database = opened(url, FixedClock(), upgrade=False)
    assert database.revision() is None
    with pytest.raises(Unavailable):
        database.ping()
    database.upgrade()
    assert database.revision() == HEAD
    marker = database.marker()
    database.upgrade()
    database.close()
    again = opened(url, FixedClock(START + timedelta(days=1)))
    assert again.marker() == marker
    again.close()


def test_starting_on_a_current_database_does_not_load_alembic(url: str) -> None:
    opened(url, FixedClock()).close()
    program = (
        "import sys; from tests.sql_engines import opened; from broker.testing.clock import FixedClock\n"
        "opened(sys.argv[1], FixedClock()).ping(); print('alembic' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program, url], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


def test_many_that_start_at_once_on_an_empty_folder_share_one_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/deep/down/broker.db"

    def start(_: int) -> str:
        database = opened(url, FixedClock())
        marker = database.marker()
        database.close()
        return marker

    assert len(set(race(start, callers=8))) == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_replicas_that_start_at_once_on_an_empty_database_upgrade_it_once(engine: str, tmp_path: Path) -> None:
    url = empty_database(engine, tmp_path)

    def start(number: int) -> str:
        # Each would make a marker of its own.
        database = SqlDatabase(url, FixedClock(START + timedelta(days=number)), SeededEntropy(str(number)), VAULT)
        database.upgrade()
        marker = database.marker()
        database.close()
        return marker

    assert len(set(race(start, callers=6))) == 1


def newer(url: str, works_with: str | None) -> SqlDatabase:
    """A database as a newer release left it."""
    opened(url, FixedClock()).close()
    owner = create_engine(parse_url(url))
    with owner.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '7777'")
        connection.execute(meta.delete().where(meta.c.name == WORKS_WITH))
        if works_with is not None:
            connection.execute(meta.insert(), {"name": WORKS_WITH, "value": works_with})
    owner.dispose()
    return opened(url, FixedClock(), upgrade=False)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("works_with", ["7777", None])
def test_a_database_of_a_newer_version_is_refused_with_what_to_do(
    engine: str, works_with: str | None, tmp_path: Path
) -> None:
    database = newer(empty_database(engine, tmp_path), works_with)
    for call in (database.upgrade, database.check):
        with pytest.raises(ConfigurationError, match=r"newer version .*7777.*backup"):
            call()
    with pytest.raises(ConfigurationError, match=r"newer version .*7777"):
        database.ping()
    assert database.revision() == "7777"
    database.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_newer_database_that_still_works_with_this_version_is_used_as_it_is(engine: str, tmp_path: Path) -> None:
    database = newer(empty_database(engine, tmp_path), HEAD)
    database.upgrade()
    database.check()
    assert database.revision() == "7777"
    assert database.schema().state is State.NEWER
    assert database.ping() == "7777"
    database.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_whoever_may_not_upgrade_is_told_what_to_do(engine: str, tmp_path: Path) -> None:
    url = empty_database(engine, tmp_path)
    database = opened(url, FixedClock(), upgrade=False)
    with pytest.raises(ConfigurationError, match=r"no tables yet.*homerealm db upgrade"):
        database.check()
    engines = Engines(url)
    migrate(engines, "0.marker", to="0001")
    engines.close()
    assert database.schema().state is State.OLDER
    with pytest.raises(ConfigurationError, match=rf"schema 0001.*needs schema {HEAD}.*homerealm db upgrade"):
        database.check()
    database.upgrade()
    database.check()
    database.close()


def test_a_role_that_may_not_change_tables_is_told_what_to_do() -> None:
    url = shared().database()
    engines = Engines(url)
    migrate(engines, "0.marker", to="0001")
    with engines.writer.begin() as connection:
        connection.exec_driver_sql("DROP ROLE IF EXISTS clerk")
        connection.exec_driver_sql("CREATE ROLE clerk LOGIN")
        connection.exec_driver_sql("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO clerk")
    engines.close()
    database = opened(url.replace("homerealm@", "clerk@"), FixedClock(), upgrade=False)
    with pytest.raises(ConfigurationError, match="run `homerealm db upgrade` as the owner"):
        database.upgrade()
    assert database.revision() == "0001"
    database.close()
    opened(url, FixedClock()).close()
    database.upgrade()
    with database.writing() as work:
        work.users.add(a_user(START), hash=HASH, kinds=BOTH)
    database.close()


REVISIONS = [one.revision for one in reversed(list(ScriptDirectory(str(MIGRATIONS)).walk_revisions()))]


def test_revisions_are_numbers_in_a_row() -> None:
    assert [f"{number:04}" for number in range(1, len(REVISIONS) + 1)] == REVISIONS


def a_row(table: Table, user: str) -> dict[str, Any]:
    """Something for each column that may not be empty."""
    made: dict[str, Any] = {}
    for column in table.columns:
        if column.name in ("user_id", "id"):
            made[column.name] = user
        elif column.nullable or column.autoincrement is True:
            continue
        else:
            of = {bool: False, int: 1, datetime: START, bytes: b"bytes", str: user}
            made[column.name] = of[column.type.python_type]
    if table.name in ("tickets", "mail_log", "audit"):
        made.pop("number", None)
    return made


def rows_of(connection: Connection, tables: MetaData, user: str) -> None:
    for table in tables.sorted_tables:
        if table.name not in ("alembic_version", "meta"):
            connection.execute(table.insert(), a_row(table, user))


def at(url: str, revision: str) -> MetaData:
    """Bring an empty database to a revision; the tables as the release of that revision knew them."""
    engines = Engines(url)
    migrate(engines, "0.marker", to=revision)
    tables = MetaData()
    tables.reflect(engines.writer)
    engines.close()
    return tables


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("revision", REVISIONS)
def test_rows_of_every_earlier_release_are_there_after_the_upgrade(engine: str, revision: str, tmp_path: Path) -> None:
    url = empty_database(engine, tmp_path)
    tables = at(url, revision)
    owner = create_engine(parse_url(url))
    with owner.begin() as connection:
        rows_of(connection, tables, "old")
        before = {name: connection.execute(select(table)).mappings().all() for name, table in tables.tables.items()}
    opened(url, FixedClock()).close()
    with owner.begin() as connection:
        after = {name: connection.execute(select(table)).mappings().all() for name, table in tables.tables.items()}
    owner.dispose()
    for name in set(before) - {"alembic_version", "meta"}:
        assert len(before[name]) == 1
        assert after[name] == before[name]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("revision", [one for one in REVISIONS if one >= works_with(ScriptDirectory(str(MIGRATIONS)))])
def test_a_release_that_the_newest_tables_say_they_work_with_reads_and_writes_them(
    engine: str, revision: str, tmp_path: Path
) -> None:
    """It knows the tables as they were, and fills no column that came later."""
    url = empty_database(engine, tmp_path)
    tables = at(url, revision)
    opened(url, FixedClock()).close()
    engines = Engines(url)
    with engines.writer.begin() as connection:
        for user in ("one", "two"):
            rows_of(connection, tables, user)
        for name, table in tables.tables.items():
            if name not in ("alembic_version", "meta"):
                assert len(connection.execute(select(table)).all()) == 2
        connection.execute(tables.tables["users"].delete())
        assert connection.execute(select(tables.tables["tickets"])).all() == []
    engines.close()


def test_the_tables_of_another_program_are_left_alone(url: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "broker.db") as connection:
        connection.execute("CREATE TABLE users (name TEXT)")
        connection.execute("INSERT INTO users VALUES ('somebody')")
    connection.close()
    database = opened(url, FixedClock(), upgrade=False)
    with pytest.raises(ConfigurationError, match="another program"):
        database.upgrade()
    database.close()
    connection = sqlite3.connect(tmp_path / "broker.db")
    assert connection.execute("SELECT name FROM users").fetchall() == [("somebody",)]
    connection.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_change_of_users_keeps_the_rows_that_refer_to_them(engine: str, tmp_path: Path) -> None:
    """With references enforced, dropping the old table would have emptied five others without a word."""
    url, migrations = empty_database(engine, tmp_path), copied(tmp_path, "")
    database = filled(url)
    before = counts(url)
    engines = Engines(url)
    migrate(engines, "unused", migrations)
    engines.close()
    assert counts(url) == before
    with database.reading() as work:
        assert work.users.get(ADA) == a_user(START, has_password=True)
        assert len(work.users.identities(ADA)) == 1
    with database.writing() as work:
        work.users.delete(ADA)
    assert counts(url) == dict.fromkeys(before, 0), "and references still cascade"
    database.close()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("mishap", ["raise OSError('in the middle')", "op.execute('DELETE FROM users')"])
def test_a_migration_that_fails_or_leaves_rows_without_their_user_changes_nothing(
    engine: str, tmp_path: Path, mishap: str
) -> None:
    if engine == "postgresql" and "DELETE" in mishap:
        mishap = "op.execute('UPDATE tickets SET user_id = 42')"
    url, migrations = empty_database(engine, tmp_path), copied(tmp_path, mishap)
    database = filled(url)
    before = counts(url)
    engines = Engines(url)
    with pytest.raises(Exception, match=r"middle|refer to nothing|violates foreign key"):
        migrate(engines, "unused", migrations)
    engines.close()
    assert counts(url) == before
    assert database.revision() == HEAD
    owner = create_engine(parse_url(url))
    assert "nickname" not in {column["name"] for column in inspect(owner).get_columns("users")}
    owner.dispose()
    database.close()


def copied(folder: Path, also: str) -> Path:
    """The migrations, and one more."""
    migrations = folder / "migrations"
    shutil.copytree(MIGRATIONS, migrations)
    (migrations / "versions" / "r9999_change.py").write_text(CHANGE_OF_USERS % (HEAD, also or "pass"))
    return migrations


def filled(url: str) -> SqlDatabase:
    database = opened(url, FixedClock())
    with database.writing() as work:
        work.users.add(a_user(START), hash=HASH, kinds=BOTH)
        work.users.link(ADA, LIVE, an_identity(START), START)
        work.tickets.issue(a_ticket(START))
        work.consents.grant(ADA, ClientId("shop"), frozenset({"openid"}), START)
    return database


def counts(url: str) -> dict[str, int]:
    engine = create_engine(parse_url(url))
    with engine.connect() as connection:
        found = {
            table: connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()
            for table in ("users", "identifiers", "identities", "tickets", "consents")
        }
    engine.dispose()
    return found
