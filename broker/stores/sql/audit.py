"""What happened, in order. Written and read; there is no way to change it.

The worker seals rows into a chain after the fact (core/chain), so that nobody who writes one waits for anybody.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from broker.core import chain
from broker.core.chain import START, Mark, Record
from broker.core.events import Action, Event
from broker.core.ports import Vault
from broker.core.values import Actor, ActorKind, DirectoryId
from broker.stores.sql.identities import dump
from broker.stores.sql.statements import Statements
from broker.stores.sql.tables import audit, meta

HEAD, FIRST = "audit.head", "audit.start"
"""Rows of `meta`: where the chain ends, and where it begins once its oldest part was archived."""

_ADD = insert(audit)
_COLUMNS = select(
    audit.c.number,
    audit.c.at,
    audit.c.directory,
    audit.c.actor_kind,
    audit.c.actor_name,
    audit.c.action,
    audit.c.target,
    audit.c.detail,
    audit.c.reference,
    audit.c.place,
    audit.c.hash,
    audit.c.seal,
)
_NEWEST = _COLUMNS.order_by(audit.c.number.desc()).limit(bindparam("p_limit"))
_READ = _NEWEST.where(audit.c.directory == bindparam("p_directory"))
_READ_TARGET = _READ.where(audit.c.target == bindparam("p_target"))
_UNSEALED = _COLUMNS.where(audit.c.place.is_(None)).order_by(audit.c.number).limit(bindparam("p_limit"))
_CHAINED = _COLUMNS.where(audit.c.place > bindparam("p_after")).order_by(audit.c.place).limit(bindparam("p_limit"))
_SEAL = (
    update(audit)
    .where(audit.c.number == bindparam("p_number"), audit.c.place.is_(None))
    .values(place=bindparam("p_place"), hash=bindparam("p_hash"), seal=bindparam("p_seal"))
)
_SEAL_ANEW = update(audit).where(audit.c.number == bindparam("p_number")).values(seal=bindparam("p_seal"))
_AT_PLACE = _COLUMNS.where(audit.c.place == bindparam("p_place"))
_FORGET = delete(audit).where(audit.c.place <= bindparam("p_place"))
_MARK = select(meta.c.value).where(meta.c.name == bindparam("p_name"))
# One sealer at a time, where the engine lets two write at once.
_HELD = _MARK.with_for_update()
_MOVE = update(meta).where(meta.c.name == bindparam("p_name")).values(value=bindparam("p_value"))
_PUT = insert(meta)


class SqlAudit:
    """Implements `broker.core.watching.Audit`."""

    def __init__(self, statements: Statements, vault: Vault) -> None:
        self._statements = statements
        self._mac = vault.mac
        self._is_mac = vault.is_mac

    def write(self, event: Event) -> None:
        self._statements.change(
            _ADD,
            {
                "at": event.at,
                "directory": event.directory,
                "actor_kind": event.actor.kind.value,
                "actor_name": event.actor.name,
                "action": event.action.value,
                "target": event.target,
                "detail": dump(event.detail),
                "reference": event.reference,
            },
        )

    def read(self, directory: DirectoryId, *, target: str | None = None, limit: int = 100) -> list[Event]:
        which = {"p_directory": directory, "p_limit": limit}
        if target is None:
            rows = self._statements.all(_READ, which)
        else:
            rows = self._statements.all(_READ_TARGET, {**which, "p_target": target})
        return [
            Event(
                at=row.at,
                directory=row.directory,
                actor=Actor(ActorKind(row.actor_kind), row.actor_name),
                action=Action(row.action),
                target=row.target,
                detail=json.loads(row.detail),
                reference=row.reference,
            )
            for row in rows
        ]

    def search(
        self,
        *,
        directory: str | None = None,
        target: str | None = None,
        reference: str | None = None,
        since: datetime | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> list[Record]:
        query: Select[Any] = _NEWEST.where(audit.c.number > after)
        if directory is not None:
            query = query.where(audit.c.directory == directory)
        if target is not None:
            query = query.where(audit.c.target == target)
        if reference is not None:
            query = query.where(audit.c.reference == reference)
        if since is not None:
            query = query.where(audit.c.at >= since)
        return [_record(row) for row in self._statements.all(query, {"p_limit": limit})]

    # --- The chain --------------------------------------------------------------------------------------------------

    def unsealed(self) -> bool:
        return self._statements.one(_UNSEALED, {"p_limit": 1}) is not None

    def seal(self, limit: int = 500) -> Mark | None:
        try:
            with self._statements.attempt():
                return self._seal(limit)
        except IntegrityError:
            # Another worker made the first mark at the same moment; it seals these rows.
            return None

    def _seal(self, limit: int) -> Mark | None:
        held = self._statements.one(_HELD, {"p_name": HEAD})
        if held is None:
            if not self.unsealed():
                return None
            # Whoever does this second waits for the first, and is refused: from here on there is one sealer.
            self._statements.change(_PUT, {"name": HEAD, "value": START.text})
        last = self._continues(held.value) if held is not None else START
        rows = self._statements.all(_UNSEALED, {"p_limit": limit})
        if not rows:
            return None
        place, hash = last.place, last.hash
        for record in map(_record, rows):
            place += 1
            hash = chain.link(hash, record, place)
            made = chain.seal(self._mac, "row", place, hash)
            given = {"p_number": record.number, "p_place": place, "p_hash": hash, "p_seal": made}
            self._statements.change(_SEAL, given)
        head = chain.mark(self._mac, "head", place, hash)
        self._keep(HEAD, head)
        return head

    def _continues(self, text: str) -> Mark:
        """Also after somebody wrote nonsense into the mark: sealing goes on, and `verify` says what is wrong."""
        try:
            return Mark.parse(text)
        except ValueError:
            last = self._statements.one(
                _COLUMNS.where(audit.c.place.is_not(None)).order_by(audit.c.place.desc()).limit(1)
            )
            return START if last is None else Mark(last.place, last.hash)

    def chained(self, after: int = 0, limit: int = 1000) -> list[Record]:
        return [_record(row) for row in self._statements.all(_CHAINED, {"p_after": after, "p_limit": limit})]

    def ends(self) -> tuple[Mark, Mark | None]:
        first, head = self._mark(FIRST), self._mark(HEAD)
        return first or START, head

    def forget(self, place: int) -> int:
        self._statements.must_write()
        row = self._statements.one(_AT_PLACE, {"p_place": place})
        if row is None:
            raise LookupError(place)
        removed = self._statements.change(_FORGET, {"p_place": place})
        self._keep(FIRST, chain.mark(self._mac, "start", place, row.hash))
        return removed

    def _mark(self, name: str) -> Mark | None:
        row = self._statements.one(_MARK, {"p_name": name})
        try:
            return None if row is None else Mark.parse(row.value)
        except ValueError:
            return Mark(0, row.value if row else "")  # not of ours: its seal does not hold

    def seal_anew(self, after: int, limit: int) -> tuple[int, int] | None:
        """Seals of an earlier secret key are replaced; one that is wrong stays, for `verify` to find.

        Returns the last place that was looked at and how many were replaced; None at the end of the chain.
        """
        self._statements.must_write()
        rows = self.chained(after, limit)
        if not rows:
            self._mark_anew(FIRST, "start")
            self._mark_anew(HEAD, "head")
            return None
        changed = 0
        for row in rows:
            place = row.place or 0
            made = chain.seal(self._mac, "row", place, row.hash)
            if row.seal != made and chain.sealed(self._is_mac, "row", place, row.hash, row.seal):
                changed += self._statements.change(_SEAL_ANEW, {"p_number": row.number, "p_seal": made})
        return rows[-1].place or 0, changed

    def _mark_anew(self, name: str, kind: str) -> None:
        held = self._mark(name)
        if held is not None and chain.sealed(self._is_mac, kind, held.place, held.hash, held.seal):
            self._keep(name, chain.mark(self._mac, kind, held.place, held.hash))

    def _keep(self, name: str, mark: Mark) -> None:
        if self._statements.change(_MOVE, {"p_name": name, "p_value": mark.text}) == 0:
            self._statements.change(_PUT, {"name": name, "value": mark.text})


def _record(row: Row[Any]) -> Record:
    return Record(
        number=row.number,
        at=row.at,
        directory=row.directory,
        actor_kind=row.actor_kind,
        actor_name=row.actor_name,
        action=row.action,
        target=row.target,
        detail=_detail(row.detail),
        reference=row.reference,
        place=row.place,
        hash=row.hash or "",
        seal=row.seal or "",
    )


def _detail(text: str) -> dict[str, Any]:
    """What somebody wrote over a row may be no JSON: it is shown, and does not verify."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"unreadable": text}
