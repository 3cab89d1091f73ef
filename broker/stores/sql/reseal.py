"""Columns that are sealed, and how they are sealed anew after the secret key changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Column, Row, Table, bindparam, select, tuple_, update

from broker.core.ports import Vault
from broker.stores.sql import identities, keys, outbox
from broker.stores.sql.audit import SqlAudit
from broker.stores.sql.statements import Statements
from broker.stores.sql.tables import identities as identities_table
from broker.stores.sql.tables import outbox as outbox_table
from broker.stores.sql.tables import signing_keys

BATCH = 200
"""Rows of one transaction: other writers wait for no more than that."""


class Work(Protocol):
    """One transaction."""

    @property
    def statements(self) -> Statements: ...
    @property
    def audit(self) -> SqlAudit: ...


Writing = Callable[[], AbstractContextManager[Work]]


class Sealed(NamedTuple):
    """A sealed column, and the place that a row's value is bound to."""

    column: Column[Any]
    place: Callable[[Row[Any]], str]

    @property
    def table(self) -> Table:
        table: Table = self.column.table
        return table


SEALED = (
    Sealed(signing_keys.c.private, lambda row: keys.place(row.kid)),
    Sealed(
        identities_table.c.private,
        lambda row: identities.place({name: getattr(row, name) for name in identities.KEY}),
    ),
    Sealed(outbox_table.c.payload, lambda row: outbox.place(row.id)),
)


def everything(writing: Writing, vault: Vault) -> Mapping[str, int]:
    """How many rows were sealed anew, by table. Raises `ValueError` for what no key of ours opens."""
    done = {one.table.name: _column(one, writing, vault) for one in SEALED}
    return {**done, "audit": _audit(writing)}


def _audit(writing: Writing) -> int:
    changed, last = 0, 0
    while True:
        with writing() as work:
            found = work.audit.seal_anew(last, BATCH)
        if found is None:
            return changed
        last, changed = found[0], changed + found[1]


def _column(sealed: Sealed, writing: Writing, vault: Vault) -> int:
    key = list(sealed.table.primary_key.columns)
    names = [column.name for column in key]
    page = select(*key, sealed.column.label("sealed")).where(sealed.column.is_not(None)).order_by(*key).limit(BATCH)
    after = page.where(tuple_(*key) > tuple_(*(bindparam(f"p_{name}") for name in names)))
    change = update(sealed.table).where(
        *(column == bindparam(f"p_{column.name}") for column in key), sealed.column == bindparam("p_sealed")
    )
    changed, last = 0, None
    while True:
        with writing() as work:
            statements = work.statements
            rows = statements.all(page) if last is None else statements.all(after, _named(last, names))
            for row in rows:
                anew = vault.resealed(row.sealed, sealed.place(row))
                if anew is not None:
                    # Only what was read: whoever wrote meanwhile wrote with the key of the moment.
                    values = {**_named(row, names), "p_sealed": row.sealed}
                    changed += statements.change(change.values({sealed.column: anew}), values)
        if len(rows) < BATCH:
            return changed
        last = rows[-1]


def _named(row: Row[Any], names: list[str]) -> dict[str, Any]:
    return {f"p_{name}": getattr(row, name) for name in names}
