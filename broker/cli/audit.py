"""`homerealm audit`: who changed what, and whether anybody touched the log since."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.cli import REFUSED
from broker.cli.options import config_option, json_option
from broker.core.errors import NotFound

if TYPE_CHECKING:
    from broker.core.chain import Mark, Record, Verdict
    from broker.wiring import Runtime

LOOK = 1.0
"""Seconds between two looks of --follow."""
OVERLAP = 1000
"""Numbers are given before rows are committed, so that one may appear behind a higher one."""
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@click.group(invoke_without_command=True)
@config_option
@click.option("--tenant", metavar="T", help="acme, or test-acme; everything by default.")
@click.option("--user", "who", metavar="USER", help="A username, an address or an id, also of somebody deleted.")
@click.option("--reference", metavar="R", help="The reference of an error page.")
@click.option("--since", metavar="WHEN", help="2026-11-21, 2026-11-21T09:30, or how long ago: 90m, 12h, 7d.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="At most so many rows.")
@click.option("--follow", is_flag=True, help="Go on with what happens from now on, until Ctrl-C.")
@json_option
@click.pass_context
def audit(ctx: click.Context, /, config: Path, follow: bool, as_json: bool, **which: Any) -> None:
    """What was changed and by whom, oldest first. Rows are only ever added; the worker seals them into a chain."""
    if ctx.invoked_subcommand is not None:
        return
    from broker.wiring import running

    with running(config) as runtime:
        chosen = _chosen(runtime, **which)
        for record in followed(runtime, chosen) if follow else _found(runtime, chosen):
            click.echo(_json(record) if as_json else _line(record))
            if follow:
                sys.stdout.flush()


@audit.command()
@config_option
@click.option("--anchor", metavar="PLACE:HASH", help="From an earlier verify, or from an `audit.sealed` event.")
@click.option("--file", "file", type=click.File("r", encoding="utf-8"), help="An export instead of the database.")
@json_option
def verify(config: Path, anchor: str | None, file: Any, as_json: bool) -> None:
    """Follow the chain, and name the first row that was changed, removed or moved. Exit 1 when there is one."""
    kept = _anchor(anchor) if anchor else None
    verdict = _of_file(file, kept) if file is not None else _of_database(config, kept)
    if as_json:
        last = verdict.last
        told = {"ok": not verdict.problem, "place": last.place, "hash": last.hash, "problem": verdict.problem,
                "number": verdict.number}  # fmt: skip
        click.echo(json.dumps(told, indent=2))
    elif verdict.problem:
        click.echo(f"The audit log was tampered with: {verdict.problem}.")
        click.echo(f"Everything up to place {verdict.last.place} is as it was written.")
    else:
        click.echo(f"The audit log is whole: {verdict.last.place} sealed rows.")
        click.echo(f"Keep this elsewhere, for --anchor: {verdict.last.place}:{verdict.last.hash}")
    if verdict.problem:
        raise SystemExit(REFUSED)


@audit.command()
@config_option
@click.option("--after", type=click.IntRange(0), default=0, help="Only rows behind this place.")
def export(config: Path, after: int) -> None:
    """The sealed rows as JSON Lines on standard output, with the chain: it can be verified without us."""
    from broker.wiring import running

    with running(config) as runtime:
        runtime.ledger.seal()
        last = first = 0
        for record in runtime.ledger.records(after):
            first, last = first or record.place or 0, record.place or 0
            click.echo(_json(record))
        runtime.ledger.note_export(_operator(), first, last)
    click.echo(f"{max(0, last - first + 1) if last else 0} rows", err=True)


@audit.command()
@config_option
@click.option("--before", required=True, metavar="WHEN", help="As --since: 365d, 2025-01-01.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def archive(config: Path, before: str, file: Path) -> None:
    """Write what is older to FILE, which must not exist, and remove it from the database. What stays still verifies."""
    import os

    from broker.wiring import running

    with running(config) as runtime:
        ledger = runtime.ledger
        ledger.seal()
        place = ledger.before(_moment(before, runtime.clock.now()))
        if not place:
            click.echo("Nothing is older than that.", err=True)
            return
        with file.open("x", encoding="utf-8") as out:
            for record in ledger.records():
                if record.place is not None and record.place > place:
                    break
                out.write(_json(record) + "\n")
            out.flush()
            os.fsync(out.fileno())
        removed = ledger.archive(place, _operator())
    click.echo(f"{removed} rows are in {file}, and no longer in the database.", err=True)


def _operator() -> Any:
    import getpass
    import os

    from broker.core.values import Actor

    try:
        return Actor.command_line(getpass.getuser())
    except (KeyError, OSError):
        return Actor.command_line(f"uid {os.getuid()}")


def _chosen(
    runtime: Runtime, tenant: str | None, who: str | None, reference: str | None, since: str | None, limit: int
) -> dict[str, Any]:
    from broker.core.values import TenantId

    chosen: dict[str, Any] = {"limit": limit, "reference": reference}
    found = runtime.tenant(TenantId(tenant)) if tenant else None
    if tenant and found is None:
        known = ", ".join(sorted(runtime.settings.tenants))
        raise NotFound(f"no tenant {tenant!r}; there are: {known}", code="tenant.unknown")
    if found is not None:
        chosen["directory"] = found.directory
    if who:
        # An id needs no tenant: who was deleted is found by it.
        chosen["target"] = who
        if found is not None:
            try:
                chosen["target"] = runtime.desk.find(found, who).id
            except NotFound:
                click.echo(f"nobody is called {who!r} now; looking for that id", err=True)
    if since:
        chosen["since"] = _moment(since, runtime.clock.now())
    return chosen


def _moment(text: str, now: datetime) -> datetime:
    if found := re.fullmatch(r"(\d{1,6})([smhd])", text):
        return now - timedelta(**{_UNITS[found[2]]: int(found[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"{text!r} is no time: 2026-11-21, 2026-11-21T09:30, 90m, 12h and 7d are") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo)


def _found(runtime: Runtime, chosen: dict[str, Any], after: int = 0) -> list[Record]:
    with runtime.database.reading() as work:
        return work.audit.search(**chosen, after=after)[::-1]


def followed(runtime: Runtime, chosen: dict[str, Any], pause: Callable[[float], None] = time.sleep) -> Iterator[Record]:
    """The rows that are chosen, and from then on whatever is added, as long as somebody asks."""
    yield from _found(runtime, chosen)
    with runtime.database.reading() as work:
        seen = {record.number for record in work.audit.search(limit=OVERLAP)}
    while True:
        pause(LOOK)
        for record in _found(runtime, {**chosen, "limit": 10_000}, max(0, max(seen, default=0) - OVERLAP)):
            if record.number not in seen:
                seen.add(record.number)
                yield record


def _anchor(text: str) -> Mark:
    from broker.core.chain import Mark

    place, _, hash = text.partition(":")
    if not place.isdigit() or not re.fullmatch(r"[0-9a-f]{64}", hash):
        raise click.UsageError("--anchor is PLACE:HASH, as `homerealm audit verify` prints it")
    return Mark(int(place), hash)


def _of_database(config: Path, anchor: Mark | None) -> Verdict:
    from broker.wiring import running

    with running(config) as runtime:
        runtime.ledger.seal()
        return runtime.ledger.verify(anchor)


def _of_file(file: Iterable[str], anchor: Mark | None) -> Verdict:
    """An export begins anywhere: its first row says what came before by its place, not by its hash."""
    from broker.core.chain import NOTHING, START, Mark, Verdict, verify
    from broker.flows.ledger import read_row

    records = []
    for number, line in enumerate(file, 1):
        try:
            records.append(read_row(json.loads(line)))
        except (ValueError, KeyError, TypeError):
            raise click.UsageError(f"line {number} is not one of an export") from None
    if not records:
        return Verdict(START)
    first, *rest = records
    if first.place == 1:
        return verify(records, start=Mark(0, NOTHING), head=anchor)
    return verify(rest, start=Mark(first.place or 0, first.hash), head=anchor)


def _json(record: Record) -> str:
    from broker.flows.ledger import row

    return json.dumps(row(record), ensure_ascii=False)


def _line(record: Record) -> str:
    actor = f"{record.actor_kind}:{record.actor_name}" if record.actor_name else record.actor_kind
    detail = " ".join(f"{key}={value}" for key, value in record.detail.items() if value)
    parts = [record.at.strftime("%Y-%m-%dT%H:%M:%SZ"), record.directory or "-", record.action, record.target or "-",
             f"by {actor}", detail, record.reference and f"[{record.reference}]"]  # fmt: skip
    return "  ".join(part for part in parts if part)
