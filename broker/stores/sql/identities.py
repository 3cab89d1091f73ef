"""Who signs in upstream: the identities that are linked to a user (SECURITY 6)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from broker.core.errors import IdentifierTaken, InvalidIdentifier
from broker.core.ports import Vault
from broker.core.values import ConnectionId, DirectoryId, Identity, UserId
from broker.stores.sql.statements import Statements
from broker.stores.sql.tables import identities, users

_COLUMNS = (
    identities.c.directory,
    identities.c.connection,
    identities.c.issuer,
    identities.c.subject,
    identities.c.at,
    identities.c.methods,
    identities.c.acr,
    identities.c.claims,
    identities.c.private,
)
_WHICH = (
    identities.c.directory == bindparam("p_directory"),
    identities.c.connection == bindparam("p_connection"),
    identities.c.issuer == bindparam("p_issuer"),
    identities.c.subject == bindparam("p_subject"),
)
_OF_USER = (
    select(*_COLUMNS)
    .where(identities.c.user_id == bindparam("p_user"))
    .order_by(identities.c.linked_at, identities.c.connection, identities.c.issuer, identities.c.subject)
)
_OWNER = select(identities.c.user_id).where(*_WHICH)
_LOCK_USER = select(users.c.directory).where(users.c.id == bindparam("p_user")).with_for_update()
_REFRESH = update(identities).where(*_WHICH)
_ADD = insert(identities)


class LinkedIdentities:
    """The part of `Users` that deals with identities."""

    def __init__(self, statements: Statements, vault: Vault) -> None:
        self._statements = statements
        self._vault = vault

    def link(self, user: UserId, directory: DirectoryId, identity: Identity, at: datetime) -> None:
        """Linking again refreshes what the upstream says.

        Raises `IdentifierTaken`; `LookupError` for a user who is not in this directory; `InvalidIdentifier` for an
        issuer or subject that cannot be stored.
        """
        self._statements.must_write()
        if not all(is_storable(text) for text in (identity.issuer, identity.subject)):
            raise InvalidIdentifier("its issuer or subject is empty or has characters that cannot be stored")
        found = self._statements.one(_LOCK_USER, {"p_user": user})
        if found is None or found.directory != directory:
            raise LookupError(user)
        which = _which(directory, identity.connection, identity.issuer, identity.subject)
        values = {
            "at": identity.at,
            "methods": json.dumps(identity.methods),
            "acr": identity.acr,
            "claims": dump(identity.claims),
            "private": self._vault.seal(dump(identity.private).encode(), place(which)),
        }
        owner = self._statements.one(_OWNER, which)
        if owner is None:
            row = {name.removeprefix("p_"): value for name, value in which.items()}
            try:
                with self._statements.attempt():
                    self._statements.change(_ADD, {**row, **values, "user_id": user, "linked_at": at})
            except IntegrityError:
                # Somebody was faster between the question and the insert (PostgreSQL).
                raise IdentifierTaken("identity") from None
        elif owner.user_id == user:
            self._statements.change(_REFRESH.values(values), which)
        else:
            raise IdentifierTaken("identity")

    def of(self, user: UserId) -> list[Identity]:
        """In the order in which they were linked."""
        return [self._identity(row) for row in self._statements.all(_OF_USER, {"p_user": user})]

    def _identity(self, row: Row[Any]) -> Identity:
        which = _which(row.directory, row.connection, row.issuer, row.subject)
        return Identity(
            connection=row.connection,
            issuer=row.issuer,
            subject=row.subject,
            at=row.at,
            methods=tuple(json.loads(row.methods)),
            acr=row.acr,
            claims=json.loads(row.claims),
            private=json.loads(self._vault.open(row.private, place(which))),
        )


def dump(value: Mapping[str, Any]) -> str:
    """JSON in ASCII, so that no engine meets a NUL or half a surrogate. Raises `ValueError`, `TypeError`."""
    return json.dumps(dict(value), allow_nan=False, separators=(",", ":"))


def is_storable(text: str) -> bool:
    """Whether every engine can keep the text: PostgreSQL has no NUL, and UTF-8 has no lone surrogates."""
    if text.isascii():
        return bool(text) and "\0" not in text
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _which(directory: str, connection: ConnectionId, issuer: str, subject: str) -> dict[str, str]:
    return {"p_directory": directory, "p_connection": connection, "p_issuer": issuer, "p_subject": subject}


KEY = ("directory", "connection", "issuer", "subject")
"""What a row is found by, in this order."""


def place(which: Mapping[str, str]) -> str:
    return "identities:private:" + json.dumps(list(which.values()))
