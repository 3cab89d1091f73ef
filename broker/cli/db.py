"""`homerealm db`: the tables, and moving them to another database."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.cli import REFUSED
from broker.cli.options import config_option, json_option
from broker.core.errors import ConfigurationError

if TYPE_CHECKING:
    from broker.core.tenant import Settings
    from broker.stores.sql.database import SqlDatabase
    from broker.stores.sql.schema import Schema

_MEANINGS = {
    "empty": "no tables yet: `homerealm db upgrade` makes them",
    "current": "as this version makes it",
    "older": "older than this version: `homerealm db upgrade` brings it up to date",
    "newer": "made by a newer version, and this one works with it",
    "refused": "made by a newer version that this one cannot work with: install that version",
}


@click.group()
def db() -> None:
    """The database: its tables, and moving it."""


@db.command()
@config_option
@json_option
def status(config: Path, as_json: bool) -> None:
    """Whether the tables are what this version needs. Exit code 1 when it could not run with them as they are."""
    from broker.stores.sql.engine import shown

    settings = _settings(config)
    database = _open(settings, settings.database)
    try:
        found = database.schema()
    finally:
        database.close()
    facts = _facts(shown(settings.database), found)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        click.echo(f"{facts['database']}: schema {facts['schema'] or 'none'}, {_MEANINGS[facts['state']]}")
    if facts["state"] not in ("current", "newer"):
        raise SystemExit(REFUSED)


@db.command()
@config_option
def upgrade(config: Path) -> None:
    """Bring the tables to what this version needs, or make them. Takes a moment; take a backup first.

    The version before this one may go on running, unless the changes say otherwise.
    """
    settings = _settings(config)
    database = _open(settings, settings.database)
    try:
        before = database.revision()
        database.upgrade()
        after = database.revision()
    finally:
        database.close()
    click.echo(f"schema {after}, as before" if before == after else f"schema {before or 'none'} is now schema {after}")


@db.command()
@config_option
@click.option("--from", "source", required=True, metavar="ADDRESS", help="sqlite:///var/homerealm.db, for example.")
@click.option("--to", "target", metavar="ADDRESS", help="The database of the configuration by default.")
@json_option
def copy(config: Path, source: str, target: str | None, as_json: bool) -> None:
    """Everything from one database into another, empty one: all of it, or nothing.

    Stop Homerealm first. Relative paths start where those of the configuration do. Passwords do not belong in
    arguments: let the configuration name the target, or use PGPASSWORD or ~/.pgpass.
    """
    from broker.core.errors import Unavailable
    from broker.stores.sql.engine import shown

    settings = _settings(config)
    addresses = [_address(settings, source, "--from"), _address(settings, target, "--to") or settings.database]
    if addresses[0] == addresses[1]:
        raise ConfigurationError(["--from: is the target itself; write the new address into broker.yaml first"])
    databases: list[SqlDatabase] = []
    try:
        for address in addresses:
            databases.append(_open(settings, address or ""))
        try:
            databases[0].check()
        except ConfigurationError as error:
            raise ConfigurationError([f"--from: {problem}" for problem in error.problems]) from None
        done = databases[1].fill_from(databases[0], _progress())
    except Unavailable as error:
        raise Unavailable(f"nothing was copied: {error.detail}", code=error.code) from error
    finally:
        for database in databases:
            database.close()
    if as_json:
        click.echo(json.dumps(done, indent=2))
        return
    for table, many in done.items():
        click.echo(f"{table:<14} {many:>10}")
    click.echo(f"copied to {shown(addresses[1] or '')}")


def _settings(config: Path) -> Settings:
    from broker.wiring import load_settings

    return load_settings(config)


def _open(settings: Settings, address: str) -> SqlDatabase:
    from broker.services.clock import SystemClock
    from broker.services.secrets import SecretVault, SystemEntropy
    from broker.stores.sql.database import SqlDatabase

    return SqlDatabase(address, SystemClock(), SystemEntropy(), SecretVault(settings.secret_key))


def _address(settings: Settings, given: str | None, option: str) -> str | None:
    """An address as the configuration would read it. Raises `ConfigurationError`."""
    from broker.stores.sql.engine import parse_url

    if given is None:
        return None
    try:
        url = parse_url(given)
    except ConfigurationError as error:
        raise ConfigurationError(
            [problem.replace("database:", f"{option}:", 1) for problem in error.problems]
        ) from None
    if url.password:
        raise ConfigurationError(
            [
                f"{option}: has a password, which everybody on this machine can read in the list of processes: "
                "leave it out, and use the configuration, PGPASSWORD or ~/.pgpass"
            ]
        )
    if url.get_backend_name() != "sqlite":
        return given
    file = Path(settings.root) / (url.database or "")
    if option == "--from" and not file.is_file():
        raise ConfigurationError([f"{option}: there is no file {file}"])
    return f"sqlite:///{file}"


def _facts(address: str, found: Schema) -> dict[str, Any]:
    from broker.stores.sql.schema import HEAD

    return {
        "database": address,
        "schema": found.revision,
        "state": found.state.value,
        "version_needs": HEAD,
        "works_with": found.works_with,
    }


def _progress() -> Callable[[str, int, int], None]:
    if not sys.stderr.isatty():
        return lambda table, done, total: None

    def show(table: str, done: int, total: int) -> None:
        click.echo(f"\r{table:<14} {done:>10} of {total}\033[K", err=True, nl=done == total)

    return show
