"""`homerealm check`, `homerealm config ...`, `homerealm tenant ...`: nothing here needs a running broker."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.cli import REFUSED, WRONG
from broker.cli.options import config_option, json_option
from broker.core.errors import BrokerError, ConfigurationError
from broker.core.values import ConnectionId, DirectoryId, TenantId

if TYPE_CHECKING:
    from broker.core.tenant import Settings
    from broker.settings.changes import Change
    from broker.settings.connection import ConnectionSettings
    from broker.wiring import Runtime

_DISTRIBUTION = "homerealm"
_PACKAGES = ("broker", "connections")


def _existing_key(path: Path) -> bytes:
    """The secret key if there is one: looking at a configuration makes no files."""
    from broker.services.secrets import KEY_BYTES, read_or_make_key

    return read_or_make_key(path) if path.exists() else bytes(KEY_BYTES)


def read_settings(config: Path) -> Settings:
    """The configuration, without side effects. Raises `ConfigurationError`."""
    from broker import registry
    from broker.settings.load import load

    return load(config, registry.settings_of, registry.known, os.environ, _existing_key)


def connection_types() -> Mapping[str, type[ConnectionSettings]]:
    """The settings of every type of connection that this installation has."""
    from broker import registry

    found = {name: registry.settings_of(name) for name in registry.known()}
    return {name: model for name, model in found.items() if model is not None}


def _table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _count(number: int, one: str) -> str:
    return f"{number} {one}" if number == 1 else f"{number} {one}s"


# --- check ---------------------------------------------------------------------------------------------------------


@click.command()
@config_option
@click.option("--live", is_flag=True, help="Also try what the configuration names: stores, mail, upstream providers.")
@json_option
def check(config: Path, live: bool, as_json: bool) -> None:
    """Find every mistake in the configuration: `file:line:column: key: what is wrong, what would be right`.

    Exit code 2 if there is one.
    """
    problems = foreign_packages()
    settings = None
    stores: list[str] = []
    warnings: list[str] = []
    passwords: list[str] = []
    try:
        settings = read_settings(config)
    except ConfigurationError as error:
        problems += error.problems
    if live and settings is not None and not problems:
        tried, stores, warnings = _try_out(config)
        problems += tried
        passwords = _capacity()
    if as_json:
        known = {"found": _found(settings) if settings else None, "stores": stores, "passwords": passwords,
                 "warnings": warnings}  # fmt: skip
        click.echo(json.dumps({"problems": problems, **known}, indent=2))
        if problems:
            raise SystemExit(WRONG)
        return
    if problems:
        raise ConfigurationError(problems)
    if settings is not None:
        counts = [_count(number, what.removesuffix("s")) for what, number in _found(settings).items()]
        click.echo(f"{config}: fine. {', '.join(counts)}.")
        for line in [*stores, *(f"passwords: {line}" for line in passwords)]:
            click.echo(line)
        for line in warnings:
            click.echo(f"warning: {line}", err=True)


def _found(settings: Settings) -> dict[str, int]:
    tenants = settings.tenants.values()
    return {
        "tenants": len(tenants),
        "connections": sum(len(tenant.connections) for tenant in tenants),
        "clients": sum(len(tenant.clients) for tenant in tenants),
    }


def foreign_packages() -> list[str]:
    """Other distributions that also install a top-level `broker` or `connections`: pip overwrites files silently."""
    from importlib.metadata import packages_distributions

    owners = packages_distributions()
    return [
        f"{package}: is installed by {other}, too, and one overwrites the other; an environment of its own for "
        f"{_DISTRIBUTION} would be right"
        for package in _PACKAGES
        for other in sorted(set(owners.get(package, [])) - {_DISTRIBUTION})
    ]


def _capacity() -> list[str]:
    from broker.services.hashing import Argon2Hasher

    return Argon2Hasher().capacity()


def _try_out(config: Path) -> tuple[list[str], list[str], list[str]]:
    """What does not work right now; what was found; what should be otherwise although it works."""
    from broker import wiring
    from broker.services.mailer import SmtpTransport, open_transport

    problems: list[str] = []
    found: list[str] = []
    warnings: list[str] = []

    def attempt(what: str, action: Any) -> Any:
        try:
            return action()
        except (BrokerError, OSError) as error:
            problems.append(f"{what}: {getattr(error, 'detail', '') or error}")
            return None

    try:
        with wiring.running(config) as runtime:
            attempt("database", runtime.database.ping)
            problems += _sealed_otherwise(runtime)
            told, warned = attempt("key_value", runtime.engines.inspect) or ([], [])
            found += [f"key_value: {line}" for line in told]
            warnings += [f"key_value: {line}" for line in warned]
            transports = {tenant.mail.transport for tenant in runtime.settings.tenants.values()}
            for address in sorted(transports):
                transport = open_transport(address, Path(runtime.settings.root))
                if isinstance(transport, SmtpTransport):
                    attempt(f"mail.transport: {transport}", transport.check)
            for tenant in runtime.settings.tenants.values():
                for entry in tenant.connections:
                    where = f"{tenant.id}: connections[{entry.id}]"
                    connection = attempt(where, partial(runtime.connection, tenant, entry.id))
                    if connection is not None:
                        problems += [f"{where}: {message}" for message in attempt(where, connection.check_live) or []]
    except (BrokerError, OSError) as error:
        problems.append(f"stores: {getattr(error, 'detail', '') or error}")
    return problems, found, warnings


def _sealed_otherwise(runtime: Runtime) -> list[str]:
    """Whether the signing keys that there are open; the first that does not is enough. Makes none."""
    from broker.flows.readiness import WRONG_KEY

    try:
        with runtime.database.reading() as work:
            for tenant in runtime.settings.tenants:
                work.keys.of(tenant)
    except ValueError as error:
        return [f"signing keys of {tenant}: {error}; {WRONG_KEY}"]
    except BrokerError:
        return []  # the database itself, which is asked beside this
    return []


# --- config --------------------------------------------------------------------------------------------------------


@click.group()
def config() -> None:
    """The configuration: schema, example, effective values, differences."""


@config.command()
def schema() -> None:
    """The JSON Schema of both kinds of files, for editors."""
    from broker.settings.render import schema_text

    click.echo(schema_text(connection_types()), nl=False)


@config.command()
def example() -> None:
    """Both files with every key, its meaning and its default."""
    from broker.settings.render import example as text

    click.echo(text(connection_types()), nl=False)


@config.command()
@config_option
@json_option
def show(config: Path, as_json: bool) -> None:
    """The configuration as it works: defaults filled in, secrets masked."""
    import yaml

    from broker.settings.effective import effective

    shown = effective(read_settings(config))
    if as_json:
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        click.echo(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=120), nl=False)


@config.command()
@config_option
@click.option(
    "--against",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Compare with this configuration folder, and not with what runs.",
)
@json_option
def diff(config: Path, against: Path | None, as_json: bool) -> None:
    """What a reload would change: what runs here, against the files. Secrets stay masked.

    Exit code 0: nothing; 1: something.
    """
    from broker.settings.changes import changes, describe, describe_like, published

    new = read_settings(config)
    if against is None:
        old = published(Path(new.root))
        found = changes(old, describe_like(old, new))
    else:
        old = describe(read_settings(against), new.secret_key)
        found = changes(old, describe(new))
    people = _left_without_a_way_in(new, old, found)
    if as_json:
        rows = [
            {"key": one.key, "change": one.what, "old": one.old, "new": one.new, "restart": one.restart,
             "loses": one.loses or None, **({"people": people[one.key]} if one.key in people else {})}
            for one in found
        ]  # fmt: skip
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    for one in () if as_json else found:
        _print_change(one)
        if one.key in people:
            click.echo(f"  (people without another way in: {_number(people[one.key])})")
    if not found:
        click.echo("No differences.", err=True)
    raise SystemExit(REFUSED if found else 0)


COUNTED = 100_000
"""People are counted up to here: a diff is no survey."""


def _left_without_a_way_in(new: Settings, old: Mapping[str, Any], found: Sequence[Change]) -> dict[str, int | None]:
    """How many people sign in by each connection or tenant that goes, and by nothing that stays, by its key; None when
    the database cannot say."""
    from broker.services.clock import SystemClock
    from broker.services.secrets import SecretVault, SystemEntropy
    from broker.stores.sql.database import SqlDatabase

    asked: dict[str, tuple[str, list[ConnectionId], list[ConnectionId]]] = {}
    for change in found:
        match change.key.split(".") if change.new is None else ():
            case ["tenants", id]:
                asked[change.key] = id, list(old["tenants"][id]["connections"]), []
            case ["tenants", id, "connections", connection]:
                asked[change.key] = (
                    id,
                    [ConnectionId(connection)],
                    [entry.id for entry in new.tenants[TenantId(id)].connections],
                )
    if not asked:
        return {}
    file = new.database.removeprefix("sqlite:///")
    if file != new.database and not Path(file).exists():  # to ask would make it
        return dict.fromkeys(asked)
    database = SqlDatabase(new.database, SystemClock(), SystemEntropy(), SecretVault(new.secret_key))
    try:
        with database.reading() as work:
            return {
                key: work.users.only_by(DirectoryId(old["tenants"][id]["directory"]), going, staying, COUNTED)
                for key, (id, going, staying) in asked.items()
            }
    except BrokerError as error:
        click.echo(f"homerealm: people are not counted: {error.detail or error.code}", err=True)
        return dict.fromkeys(asked)
    finally:
        database.close()


def _number(people: int | None) -> str:
    if people is None:
        return "unknown, the database does not answer"
    return f"{people} or more" if people >= COUNTED else str(people)


def _print_change(change: Change) -> None:
    if change.old is not None:
        click.echo(f"- {change.key}: {json.dumps(change.old, ensure_ascii=False)}")
    if change.new is not None:
        click.echo(f"+ {change.key}: {json.dumps(change.new, ensure_ascii=False)}")
    if change.old == change.new:
        click.echo("  (the secret changed)")
    if change.restart:
        click.echo("  (needs a restart: a reload refuses it)")
    if change.loses:
        click.echo(f"  (loses: {change.loses})")


# --- tenant --------------------------------------------------------------------------------------------------------


@click.group()
def tenant() -> None:
    """Tenants and their environments."""


@tenant.command("list")
@config_option
@json_option
def list_tenants(config: Path, as_json: bool) -> None:
    """Every tenant in every environment."""
    settings = read_settings(config)
    if as_json:
        rows = [
            {
                "id": tenant.id,
                "name": tenant.name,
                "environment": tenant.environment,
                "directory": tenant.directory,
                "issuer": tenant.issuer,
                "connections": [entry.id for entry in tenant.connections],
                "clients": list(tenant.clients),
            }
            for tenant in settings.tenants.values()
        ]
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    lines = [("TENANT", "ENVIRONMENT", "ISSUER", "CONNECTIONS", "CLIENTS")]
    for found in settings.tenants.values():
        connections, clients = str(len(found.connections)), str(len(found.clients))
        lines.append((found.id, found.environment, found.issuer, connections, clients))
    _table([*lines])
