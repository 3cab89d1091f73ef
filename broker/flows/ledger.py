"""The audit log as something to rely on: sealed by the worker, verified, exported and archived by an operator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from broker.core import chain
from broker.core.chain import Mark, Record, Verdict
from broker.core.errors import BrokerError
from broker.core.events import Action, Event
from broker.core.ports import Clock, Database, Vault
from broker.core.values import Actor, DirectoryId

BATCH = 1000
EVERYWHERE = DirectoryId("")
"""The directory of what concerns the whole installation."""


CONFIGURATION = "configuration"
"""The target of its events."""


class ChainBroken(BrokerError):
    """The audit log does not verify: nothing of it is archived, and an operator looks first."""

    code, status = "audit.broken", 409


@dataclass(frozen=True)
class Ledger:
    database: Database
    clock: Clock
    vault: Vault

    def seal(self) -> Mark | None:
        """Seal what is due, in batches. Returns the new end of the chain; None when there was nothing to do."""
        with self.database.reading() as work:
            if not work.audit.unsealed():
                return None
        last = None
        while True:
            # A transaction for each batch, so that people who change a password do not wait for all of them.
            with self.database.writing() as work:
                made = work.audit.seal()
            if made is None:
                return last
            last = made

    def verify(self, anchor: Mark | None = None) -> Verdict:
        """Follow the whole chain. `anchor` is a place and its hash that were kept elsewhere."""
        with self.database.reading() as work:
            start, head = work.audit.ends()
            first = next(iter(work.audit.chained(0, 1)), None)
        if head is None and (first is not None or start.place):
            return Verdict(start, "the mark of where the chain ends is missing")
        verdict = chain.verify(self.records(start.place, head), start=start, head=head, is_mac=self.vault.is_mac)
        if verdict.problem or anchor is None:
            return verdict
        return self._anchored(anchor, start, verdict)

    def _anchored(self, anchor: Mark, start: Mark, verdict: Verdict) -> Verdict:
        if anchor.place > verdict.last.place:
            return Verdict(verdict.last, f"the end is missing: place {anchor.place} was there once")
        if anchor.place < start.place:
            return verdict  # archived since; the archive has it
        if anchor.place == start.place:
            there: str | None = start.hash
        else:
            with self.database.reading() as work:
                there = next((one.hash for one in work.audit.chained(anchor.place - 1, 1)), None)
        if there != anchor.hash:
            return Verdict(verdict.last, f"place {anchor.place} had another hash once: the chain was made anew")
        return verdict

    def records(self, after: int = 0, head: Mark | None = None) -> Iterator[Record]:
        """Sealed rows by place, batch by batch; up to `head`, when it is given."""
        place = after
        while True:
            with self.database.reading() as work:
                batch = work.audit.chained(place, BATCH)
            for record in batch:
                if head is not None and record.place is not None and record.place > head.place:
                    return
                yield record
            if not batch or batch[-1].place is None:
                return
            place = batch[-1].place

    def note_export(self, by: Actor, first: int, last: int) -> None:
        """Who read all of it is an event as well."""
        self._write(Action.AUDIT_EXPORTED, by, {"from": str(first), "to": str(last)})

    def note_configuration(self, by: Actor, version: str) -> bool:
        """The version (a digest) of the configuration that runs. Written when the newest row says another one, so that
        one change is one row, however many processes took it, and also when it came by a restart."""
        with self.database.writing() as work:
            last = next(iter(work.audit.search(target=CONFIGURATION, limit=1)), None)
            before = last.detail.get("after", "") if last is not None else ""
            if before == version:
                return False
            work.audit.write(Event(self.clock.now(), EVERYWHERE, by, Action.CONFIGURATION_CHANGED, CONFIGURATION,
                                   {"before": before, "after": version}))  # fmt: skip
            return True

    def _write(self, action: Action, by: Actor, detail: dict[str, str]) -> None:
        with self.database.writing() as work:
            work.audit.write(Event(self.clock.now(), EVERYWHERE, by, action, "", detail))

    def before(self, moment: datetime) -> int:
        """The last place up to which every row is older than a moment. 0: there is none."""
        place = 0
        with self.database.reading() as work:
            start = work.audit.ends()[0]
        for record in self.records(start.place):
            if record.at >= moment:
                break
            place = record.place or place
        return place

    def archive(self, place: int, by: Actor) -> int:
        """Remove everything up to a place, which was exported before. Raises `ChainBroken`, `LookupError`."""
        verdict = self.verify()
        if verdict.problem:
            raise ChainBroken(verdict.problem)
        with self.database.writing() as work:
            removed = work.audit.forget(place)
            now = self.clock.now()
            work.audit.write(Event(now, EVERYWHERE, by, Action.AUDIT_ARCHIVED, "", {"to": str(place)}))
        return removed


def row(record: Record) -> dict[str, Any]:
    """A record as JSON: what `homerealm audit export` writes, and what it is verified from."""
    return {
        "place": record.place,
        "number": record.number,
        "at": record.at.isoformat(timespec="microseconds"),
        "directory": record.directory,
        "actor_kind": record.actor_kind,
        "actor_name": record.actor_name,
        "action": record.action,
        "target": record.target,
        "detail": dict(record.detail),
        "reference": record.reference,
        "hash": record.hash,
        "seal": record.seal,
    }


def read_row(value: dict[str, Any]) -> Record:
    """The record behind an exported line. Raises `ValueError`, `KeyError`, `TypeError`."""
    return Record(**{**value, "at": datetime.fromisoformat(value["at"])})
