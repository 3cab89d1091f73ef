"""`homerealm keys`: the keys that a tenant signs its tokens with."""

from __future__ import annotations

import getpass
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.cli.options import config_option, json_option
from broker.core.errors import NotFound

if TYPE_CHECKING:
    from broker.core.ports import SigningKey
    from broker.core.tenant import Tenant
    from broker.wiring import Runtime


@click.group()
def keys() -> None:
    """Signing keys. Each tenant has its own, made on first use and replaced every 90 days by the worker."""


@keys.command("list")
@config_option
@click.option("--tenant", "tenant_id", metavar="T", help="acme, or test-acme; all of them by default.")
@json_option
def list_keys(config: Path, tenant_id: str | None, as_json: bool) -> None:
    """The keys that relying parties see, and which of them signs."""
    from broker.wiring import running

    with running(config) as runtime:
        tenants = [_tenant(runtime, tenant_id)] if tenant_id else list(runtime.settings.tenants.values())
        found = [(tenant, key) for tenant in tenants for key in runtime.signing.keys(tenant.id)]
        rows = [_facts(tenant, key, runtime.clock.now()) for tenant, key in found]
    _print(rows, as_json)


@keys.command()
@config_option
@click.option("--tenant", "tenant_id", required=True, metavar="T", help="acme, or test-acme.")
@click.option("--at-once", is_flag=True, help="A key leaked: the new ones sign now, the old ones are gone.")
@json_option
def rotate(config: Path, tenant_id: str, at_once: bool, as_json: bool) -> None:
    """Add new keys. They are published now and sign after an hour, so that relying parties know them in time.

    With --at-once, every token signed so far is refused within half a minute. For so long other processes may still
    sign with the old keys, and what they sign then is refused later: people sign in again. For a leaked key that is
    right; for anything else leave it out.
    """
    from broker.core.values import Actor
    from broker.wiring import running

    with running(config) as runtime:
        tenant = _tenant(runtime, tenant_id)
        added = runtime.signing.rotate(tenant, Actor.command_line(getpass.getuser()), at_once=at_once)
        rows = [_facts(tenant, key, runtime.clock.now()) for key in added]
    if not rows:
        click.echo("Nothing was added: another process rotated these keys just now.", err=True)
    _print(rows, as_json)


@keys.command()
@config_option
@json_option
def rewrap(config: Path, as_json: bool) -> None:
    """After `secret_key` changed: encrypt everything in the database with the new one.

    Before that every process must use the new key, and know the earlier one (`other_secret_keys`).
    """
    from broker.core.errors import ConfigurationError
    from broker.wiring import running

    with running(config) as runtime:
        try:
            done = runtime.database.reseal()
        except ValueError as error:
            message = f"other_secret_keys: the key that this was encrypted with is not among them: {error}"
            raise ConfigurationError([message]) from None
    if as_json:
        click.echo(json.dumps(dict(done), indent=2))
        return
    for table, number in done.items():
        click.echo(f"{table:<20} {number} encrypted anew")


def _tenant(runtime: Runtime, id: str) -> Tenant:
    from broker.core.values import TenantId

    tenant = runtime.tenant(TenantId(id))
    if tenant is None:
        known = ", ".join(sorted(runtime.settings.tenants))
        raise NotFound(f"no tenant {id!r}; there are: {known}", code="tenant.unknown")
    return tenant


def _facts(tenant: Tenant, key: SigningKey, now: datetime) -> dict[str, Any]:
    """Nothing of the private half."""
    from broker.oidc.signing import PERIOD, RETENTION

    state = "retired" if key.retired_at else "published" if key.active_from > now else "signs"
    return {
        "tenant": tenant.id,
        "kid": key.kid,
        "algorithm": key.algorithm,
        "state": state,
        "created_at": _time(key.created_at),
        "active_from": _time(key.active_from),
        "retired_at": _time(key.retired_at) if key.retired_at else None,
        "replaced_from": None if key.retired_at else _time(key.active_from + PERIOD),
        "published_until": _time(key.retired_at + RETENTION) if key.retired_at else None,
    }


def _time(at: datetime) -> str:
    return at.isoformat(timespec="seconds")


def _print(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(
            f"{row['tenant']:<20} {row['kid']}  {row['algorithm']}  {row['state']:<9}  from {row['active_from']}"
            + (
                f"  retired {row['retired_at']}, published until {row['published_until']}"
                if row["retired_at"]
                else f"  replaced from {row['replaced_from']}"
            )
        )
