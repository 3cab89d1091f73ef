"""Which client may see what of whom."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import bindparam, delete, insert, select, update

from broker.core.values import ClientId, UserId
from broker.stores.sql.statements import Statements
from broker.stores.sql.tables import consents, users

_WHICH = (consents.c.user_id == bindparam("p_user"), consents.c.client == bindparam("p_client"))
_GRANTED = select(consents.c.scopes).where(*_WHICH)
_LOCK_USER = select(users.c.id).where(users.c.id == bindparam("p_user")).with_for_update()
_ADD = insert(consents)
_EXTEND = update(consents).where(*_WHICH).values(scopes=bindparam("p_scopes"), granted_at=bindparam("p_at"))
_REVOKE = delete(consents).where(*_WHICH)


class SqlConsents:
    """Implements `broker.core.ports.Consents`."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    def granted(self, user: UserId, client: ClientId) -> frozenset[str]:
        row = self._statements.one(_GRANTED, {"p_user": user, "p_client": client})
        return frozenset() if row is None else frozenset(row.scopes.split())

    def grant(self, user: UserId, client: ClientId, scopes: frozenset[str], at: datetime) -> None:
        """Raises `LookupError` for a user who is not there."""
        self._statements.must_write()
        if self._statements.one(_LOCK_USER, {"p_user": user}) is None:
            raise LookupError(user)
        which = {"p_user": user, "p_client": client}
        before = self._statements.one(_GRANTED, which)
        if before is None:
            row = {"user_id": user, "client": client, "scopes": " ".join(sorted(scopes)), "granted_at": at}
            self._statements.change(_ADD, row)
        else:
            together = " ".join(sorted(scopes.union(before.scopes.split())))
            self._statements.change(_EXTEND, {**which, "p_scopes": together, "p_at": at})

    def revoke(self, user: UserId, client: ClientId) -> None:
        self._statements.change(_REVOKE, {"p_user": user, "p_client": client})
