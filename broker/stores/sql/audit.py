"""What happened, in order. Written and read; there is no way to change it."""

from __future__ import annotations

import json

from sqlalchemy import bindparam, insert, select

from broker.core.events import Action, Event
from broker.core.values import Actor, ActorKind, DirectoryId
from broker.stores.sql.identities import dump
from broker.stores.sql.statements import Statements
from broker.stores.sql.tables import audit

_ADD = insert(audit)
_READ = (
    select(
        audit.c.at,
        audit.c.directory,
        audit.c.actor_kind,
        audit.c.actor_name,
        audit.c.action,
        audit.c.target,
        audit.c.detail,
        audit.c.reference,
    )
    .where(audit.c.directory == bindparam("p_directory"))
    .order_by(audit.c.number.desc())
    .limit(bindparam("p_limit"))
)
_READ_TARGET = _READ.where(audit.c.target == bindparam("p_target"))


class SqlAudit:
    """Implements `broker.core.ports.Audit`."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

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
