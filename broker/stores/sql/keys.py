"""Signing keys. The private half is sealed for its row, so that a stolen database holds none."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import bindparam, delete, insert, select, update

from broker.core.ports import SigningKey, Vault
from broker.stores.sql.statements import Statements
from broker.stores.sql.tables import signing_keys

_KID = signing_keys.c.kid == bindparam("p_kid")
_OF = (
    select(
        signing_keys.c.kid,
        signing_keys.c.tenant,
        signing_keys.c.algorithm,
        signing_keys.c.private,
        signing_keys.c.created_at,
        signing_keys.c.active_from,
        signing_keys.c.retired_at,
    )
    .where(signing_keys.c.tenant == bindparam("p_tenant"))
    .order_by(signing_keys.c.created_at, signing_keys.c.kid)
)
_ADD = insert(signing_keys)
_RETIRE = update(signing_keys).where(_KID, signing_keys.c.retired_at.is_(None)).values(retired_at=bindparam("p_at"))
_REMOVE = delete(signing_keys).where(_KID)


class SqlKeys:
    """Implements `broker.core.ports.Keys`."""

    def __init__(self, statements: Statements, vault: Vault) -> None:
        self._statements = statements
        self._vault = vault

    def of(self, tenant: str) -> list[SigningKey]:
        """Raises `ValueError` for a key that was sealed with another secret key."""
        return [
            SigningKey(
                kid=row.kid,
                tenant=row.tenant,
                algorithm=row.algorithm,
                private=self._vault.open(row.private, place(row.kid)),
                created_at=row.created_at,
                active_from=row.active_from,
                retired_at=row.retired_at,
            )
            for row in self._statements.all(_OF, {"p_tenant": tenant})
        ]

    def add(self, key: SigningKey) -> None:
        self._statements.change(
            _ADD,
            {
                "kid": key.kid,
                "tenant": key.tenant,
                "algorithm": key.algorithm,
                "private": self._vault.seal(key.private, place(key.kid)),
                "created_at": key.created_at,
                "active_from": key.active_from,
                "retired_at": key.retired_at,
            },
        )

    def retire(self, kid: str, at: datetime) -> None:
        """The first time counts."""
        self._statements.change(_RETIRE, {"p_kid": kid, "p_at": at})

    def remove(self, kid: str) -> None:
        self._statements.change(_REMOVE, {"p_kid": kid})


def place(kid: str) -> str:
    return f"signing_keys:private:{kid}"
