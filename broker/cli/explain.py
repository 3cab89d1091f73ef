"""`homerealm explain REFERENCE`: why a page said no."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.cli import REFUSED
from broker.cli.options import config_option, json_option

if TYPE_CHECKING:
    from broker.core.chain import Record
    from broker.core.story import Story

_REFERENCE = re.compile(r"[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{2}")
_READ_ALOUD = str.maketrans("OILU", "011V")


@click.command()
@config_option
@click.argument("reference")
@click.option("--log", type=click.File("r", encoding="utf-8", errors="replace"), metavar="FILE",
              help="Also look through the log (- for standard input): it has what the store did not keep.")  # fmt: skip
@json_option
def explain(config: Path, reference: str, log: Any, as_json: bool) -> None:
    """The story behind the reference on an error page: each check of the policy, where it went, why it failed.

    Kept for three days in the key-value store, so that every replica knows it. Identifiers are masked.
    """
    wanted = _normal(reference)
    stories, rows = _stored(config, wanted)
    lines = _lines(log, wanted) if log is not None else []
    if not stories and not rows and not lines:
        click.echo(f"Nothing is known of {wanted}. Stories are kept for three days; the log may have more: --log FILE",
                   err=True)  # fmt: skip
        raise SystemExit(REFUSED)
    if as_json:
        from broker.flows.ledger import row

        told = {"reference": wanted, "stories": [one.as_dict() for one in stories], "audit": [row(one) for one in rows],
                "log": lines}  # fmt: skip
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    _tell(wanted, stories, rows, lines)


def _tell(wanted: str, stories: list[Story], rows: list[Record], lines: list[dict[str, Any]]) -> None:
    from broker.core.story import sentences

    for story in stories:
        if story.reference == wanted:
            for sentence in sentences(story):
                click.echo(sentence)
    others = [story for story in stories if story.reference != wanted]
    if others:
        click.echo("In the same login:")
    for story in others:
        click.echo(f"  {story.at:%H:%M:%S} {story.event} [{story.code}], reference {story.reference}")
    for record in rows:
        click.echo(f"Changed: {record.action} at {record.at:%Y-%m-%d %H:%M:%S} UTC, by {record.actor_kind}.")
    for line in lines:
        facts = " ".join(f"{key}={value}" for key, value in line.items()
                         if key not in ("event", "timestamp", "reference", "level", "traceback"))  # fmt: skip
        click.echo(f"The log: {line.get('timestamp', '')} {line.get('event', '')} {facts}")


def _stored(config: Path, reference: str) -> tuple[list[Story], list[Record]]:
    from broker.wiring import running

    with running(config) as runtime:
        stories = runtime.engines.stories.find(reference)
        with runtime.database.reading() as work:
            return stories, work.audit.search(reference=reference)[::-1]


def _normal(text: str) -> str:
    """As it was read aloud: small letters, an O for a nought, without its hyphens."""
    raw = re.sub(r"[\s-]", "", text.upper()).translate(_READ_ALOUD)
    found = f"{raw[:4]}-{raw[4:8]}-{raw[8:]}"
    if not _REFERENCE.fullmatch(found):
        raise click.UsageError(f"{text!r} is no reference: 7K3Q-XW92-4T would be one")
    return found


def _lines(file: Iterable[str], reference: str) -> list[dict[str, Any]]:
    """Events with the reference. What is no JSON (somebody else's lines) is left out."""
    found = []
    for line in file:
        if reference in line:
            try:
                event = json.loads(line[line.index("{") :])
            except ValueError:
                continue
            if isinstance(event, dict) and event.get("reference") == reference:
                found.append(event)
    return found
