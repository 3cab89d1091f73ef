"""`homerealm db`: what it says, what it refuses, and that a refusal changes nothing."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import create_engine, select

from broker.cli import main
from broker.stores.sql.engine import parse_url
from broker.stores.sql.schema import HEAD, WORKS_WITH
from broker.stores.sql.tables import audit, meta, users
from broker.testing.clock import START, FixedClock
from broker.testing.records import BOTH, HASH, a_user, an_event
from broker.wiring import load_settings, open_engines
from tests.postgresql import shared
from tests.servers import program
from tests.sql_engines import ENGINES, empty_database, opened, ready_database

BROKER = """
base_url: http://localhost:8000
database: {database}
key_value: redis://127.0.0.1:1
secret_key_file: var/secret.key
"""


class Site:
    def __init__(self, folder: Path, database: str) -> None:
        self.folder = folder
        self.config = folder / "config"
        (self.config / "tenants").mkdir(parents=True, exist_ok=True)
        (self.config / "broker.yaml").write_text(BROKER.format(database=database))
        (self.config / "tenants" / "acme.yaml").write_text("tenant: acme\nname: Acme\n")

    def run(self, *arguments: str, code: int = 0) -> Result:
        done = CliRunner().invoke(main, ["db", *arguments, "--config", str(self.config)], catch_exceptions=False)
        assert done.exit_code == code, done.output
        return done


def change(url: str, *statements: object) -> None:
    engine = create_engine(parse_url(url))
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]
    engine.dispose()


def numbers(url: str, table: object = users.c.id) -> list[object]:
    engine = create_engine(parse_url(url))
    with engine.connect() as connection:
        found = list(connection.execute(select(table).order_by(table)).scalars())  # type: ignore[call-overload]
    engine.dispose()
    return found


def filled(url: str, *people: str) -> str:
    database = opened(url, FixedClock())
    with database.writing() as work:
        for name in people:
            work.users.add(a_user(START, name), hash=HASH, kinds=BOTH)
            work.audit.write(an_event(START))
    database.close()
    return url


@pytest.mark.parametrize("engine", ENGINES)
def test_status_and_upgrade_say_what_is_and_what_was_done(engine: str, tmp_path: Path) -> None:
    url = empty_database(engine, tmp_path)
    site = Site(tmp_path, url)
    told = site.run("status", code=1)
    assert "no tables yet" in told.stdout
    assert "homerealm db upgrade" in told.stdout
    assert f"schema none is now schema {HEAD}" in site.run("upgrade").stdout
    assert f"schema {HEAD}, as before" in site.run("upgrade").stdout
    facts = json.loads(site.run("status", "--json").stdout)
    assert facts.pop("database").startswith(f"{engine}://")
    assert facts == {"schema": HEAD, "state": "current", "version_needs": HEAD, "works_with": HEAD}


def test_status_tells_a_newer_database_that_works_from_one_that_does_not(tmp_path: Path) -> None:
    url = filled(empty_database("sqlite", tmp_path))
    site = Site(tmp_path, url)
    newer = meta.update().where(meta.c.name == WORKS_WITH)
    engine = create_engine(parse_url(url))
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '7777'")
    engine.dispose()
    change(url, newer.values(value=HEAD))
    assert "made by a newer version, and this one works with it" in site.run("status").stdout
    change(url, newer.values(value="7777"))
    assert json.loads(site.run("status", "--json", code=1).stdout)["state"] == "refused"
    assert "install that version" in site.run("upgrade", code=2).stderr


def test_status_does_not_show_the_password(tmp_path: Path) -> None:
    site = Site(tmp_path, "postgresql://homerealm:CANARY@127.0.0.1:1/homerealm")
    told = site.run("status", code=1)
    assert "database.unavailable" in told.stderr
    assert "CANARY" not in told.output
    url = shared().database().replace("homerealm@", "homerealm:CANARY@")
    told = Site(tmp_path / "there", url).run("status", code=1)
    assert "homerealm:***@" in told.stdout
    assert "CANARY" not in told.output


DIRECTIONS = [("sqlite", "postgresql"), ("postgresql", "sqlite"), ("postgresql", "postgresql")]


@pytest.mark.parametrize(("here", "there"), DIRECTIONS)
def test_everything_is_copied_and_numbers_go_on_behind_the_highest_that_was_given(
    here: str, there: str, tmp_path: Path
) -> None:
    source = filled(ready_database(here, tmp_path), "ada", "eve", "kim")
    change(source, audit.delete().where(audit.c.number == 3))
    (tmp_path / "new").mkdir()
    target = empty_database(there, tmp_path / "new")
    site = Site(tmp_path, target)
    told = site.run("copy", "--from", source).stdout
    assert "users                   3\n" in told
    assert numbers(target) == numbers(source)
    filled(target, "zoe")
    assert numbers(target, audit.c.number) == [1, 2, 4], "the third was given, and is not given again"
    assert "nothing was copied" in site.run("copy", "--from", source, code=2).stderr
    assert len(numbers(target)) == 4


def test_what_cannot_be_right_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    source = filled(empty_database("sqlite", tmp_path), "ada")
    target = shared().database()
    site = Site(tmp_path, target)
    for address, why in (
        ("sqlite:///nowhere/x.db", "--from: there is no file"),
        ("mysql://host/x", "--from: mysql is not supported"),
        ("postgresql://u:CANARY@host/x", "--from: has a password"),
        (target, "--from: is the target itself"),
        (shared().database(), "--from: database: has no tables yet"),
    ):
        told = site.run("copy", "--from", address, code=2)
        assert why in told.stderr
        assert "CANARY" not in told.output
    assert not (tmp_path / "nowhere").exists()
    assert "no tables yet" in site.run("status", code=1).stdout, "the target was not touched"
    assert (
        "nothing was copied"
        in site.run("copy", "--from", source, "--to", "postgresql://x@127.0.0.1:1/x", code=1).stderr
    )


def test_a_copy_that_fails_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    """A row that PostgreSQL cannot keep; SQLite takes everything."""
    source = filled(empty_database("sqlite", tmp_path), "ada", "eve")
    change(source, users.update().where(users.c.id == "user-eve").values(profile="nul \0 nul"))
    target = shared().database()
    site = Site(tmp_path, target)
    assert "nothing was copied" in site.run("copy", "--from", source, code=1).stderr
    assert numbers(target) == []
    change(source, users.update().where(users.c.id == "user-eve").values(profile="{}"))
    site.run("copy", "--from", source)
    assert numbers(target) == ["user-ada", "user-eve"]


def test_on_a_terminal_progress_is_shown(tmp_path: Path) -> None:
    source = filled(empty_database("sqlite", tmp_path), "ada")
    site = Site(tmp_path, shared().database())
    terminal, ours = pty.openpty()
    done = subprocess.run(
        [program(), "db", "copy", "--config", site.config, "--from", source],
        stdout=subprocess.PIPE, stderr=ours, text=True,
    )  # fmt: skip
    os.close(ours)
    assert done.returncode == 0
    assert "1 of 1" in os.read(terminal, 65536).decode()
    os.close(terminal)
    assert "copied to postgresql://" in done.stdout


def test_serve_can_be_told_to_leave_the_tables_alone(tmp_path: Path) -> None:
    from broker.core.errors import ConfigurationError

    site = Site(tmp_path, empty_database("sqlite", tmp_path))
    with pytest.raises(ConfigurationError, match="homerealm db upgrade"):
        open_engines(load_settings(site.config), environ={"HOMEREALM_NO_UPGRADE": "1"})
    assert "no tables yet" in site.run("status", code=1).stdout
