"""One-time secrets. Consumed by one conditional UPDATE, in the transaction of their effect (SECURITY 2)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, delete, insert, select, update

from broker.core.ports import Entropy, Vault
from broker.core.ticket import Purpose, RedeemedTicket, Ticket
from broker.core.values import Actor, ActorKind, DirectoryId, UserId
from broker.stores.sql.statements import Statements
from broker.stores.sql.tables import tickets, users

_COLUMNS = (
    tickets.c.id,
    tickets.c.purpose,
    tickets.c.directory,
    tickets.c.user_id,
    tickets.c.epoch,
    tickets.c.issued_by_kind,
    tickets.c.issued_by_name,
    tickets.c.issued_at,
    tickets.c.expires_at,
    tickets.c.connection,
    tickets.c.address,
    tickets.c.client,
    tickets.c.login,
    tickets.c.browser,
    tickets.c.language,
    tickets.c.used_at,
    tickets.c.replaced_at,
)
_DIGEST = tickets.c.digest == bindparam("p_digest")
_UNUSED = (tickets.c.used_at.is_(None), tickets.c.replaced_at.is_(None))
_LOOK = select(*_COLUMNS).where(_DIGEST)
_LATEST = (
    select(*_COLUMNS)
    .where(tickets.c.user_id == bindparam("p_user"), tickets.c.purpose == bindparam("p_purpose"))
    .order_by(tickets.c.issued_at.desc(), tickets.c.number.desc())
    .limit(1)
)
_LOCK_USER = select(users.c.directory, users.c.epoch).where(users.c.id == bindparam("p_user")).with_for_update()
_ADD = insert(tickets)
_REPLACE = (
    update(tickets)
    .where(tickets.c.user_id == bindparam("p_user"), tickets.c.purpose == bindparam("p_purpose"), *_UNUSED)
    .values(replaced_at=bindparam("p_now"))
)
_VOID = update(tickets).where(tickets.c.user_id == bindparam("p_user"), *_UNUSED).values(replaced_at=bindparam("p_now"))
_REDEEM = (
    update(tickets)
    .where(
        _DIGEST,
        *_UNUSED,
        tickets.c.expires_at > bindparam("p_now"),
        tickets.c.purpose == bindparam("p_purpose"),
        tickets.c.directory == bindparam("p_directory"),
        tickets.c.epoch == bindparam("p_epoch"),
    )
    .values(used_at=bindparam("p_now"))
)
_SWEEP = delete(tickets).where(tickets.c.expires_at < bindparam("p_before"))


class SqlTickets:
    """Implements `broker.core.ports.Tickets`."""

    def __init__(self, statements: Statements, entropy: Entropy, vault: Vault) -> None:
        self._statements = statements
        self._entropy = entropy
        self._vault = vault

    def hold(self, user: UserId) -> None:
        self._statements.must_write()
        self._statements.one(_LOCK_USER, {"p_user": user})

    def issue(self, ticket: Ticket) -> str:
        """The secret: 256 bits, URL-safe. Raises `LookupError` for a user who is not in the ticket's directory."""
        self._statements.must_write()
        # Locked, so that of two that are issued at once one replaces the other.
        user = self._statements.one(_LOCK_USER, {"p_user": ticket.user})
        if user is None or user.directory != ticket.directory:
            raise LookupError(ticket.user)
        secret = self._entropy.token(32)
        self._statements.change(
            _REPLACE, {"p_user": ticket.user, "p_purpose": ticket.purpose.value, "p_now": ticket.issued_at}
        )
        self._statements.change(_ADD, {**_row(ticket), "digest": self._vault.digest(secret)})
        return secret

    def look(self, secret: str) -> Ticket | None:
        row = self._statements.one(_LOOK, {"p_digest": self._vault.digest(secret)})
        return None if row is None else _ticket(row)

    def latest(self, user: UserId, purpose: Purpose) -> Ticket | None:
        row = self._statements.one(_LATEST, {"p_user": user, "p_purpose": purpose.value})
        return None if row is None else _ticket(row)

    def redeem(
        self, secret: str, purpose: Purpose, directory: DirectoryId, epoch: int, now: datetime
    ) -> RedeemedTicket | None:
        """None, and nothing consumed, for whatever is not this very ticket at this very moment.

        `epoch` is the user's; when it moved since the caller read it, that is a refusal too.
        """
        self._statements.must_write()
        before = self.look(secret)
        if before is None:
            return None
        # Two tickets of one user cannot both be redeemed under one epoch: the second waits here for the first.
        user = self._statements.one(_LOCK_USER, {"p_user": before.user})
        if user is None or user.epoch != epoch:
            return None
        digest = self._vault.digest(secret)
        values = {
            "p_digest": digest,
            "p_purpose": purpose.value,
            "p_directory": directory,
            "p_epoch": epoch,
            "p_now": now,
        }
        if self._statements.change(_REDEEM, values) != 1:
            return None
        row = self._statements.one(_LOOK, {"p_digest": digest})
        return None if row is None else RedeemedTicket(_ticket(row))

    def void(self, user: UserId, now: datetime) -> int:
        return self._statements.change(_VOID, {"p_user": user, "p_now": now})

    def sweep(self, before: datetime) -> int:
        return self._statements.change(_SWEEP, {"p_before": before})


def _row(ticket: Ticket) -> dict[str, Any]:
    return {
        "id": ticket.id,
        "purpose": ticket.purpose.value,
        "directory": ticket.directory,
        "user_id": ticket.user,
        "epoch": ticket.epoch,
        "issued_by_kind": ticket.issued_by.kind.value,
        "issued_by_name": ticket.issued_by.name,
        "issued_at": ticket.issued_at,
        "expires_at": ticket.expires_at,
        "connection": ticket.connection,
        "address": ticket.address,
        "client": ticket.client,
        "login": ticket.transaction,
        "browser": ticket.browser,
        "language": ticket.language,
        "used_at": ticket.used_at,
        "replaced_at": ticket.replaced_at,
    }


def _ticket(row: Row[Any]) -> Ticket:
    return Ticket(
        id=row.id,
        purpose=Purpose(row.purpose),
        directory=row.directory,
        user=row.user_id,
        epoch=row.epoch,
        issued_by=Actor(ActorKind(row.issued_by_kind), row.issued_by_name),
        issued_at=row.issued_at,
        expires_at=row.expires_at,
        connection=row.connection,
        address=row.address,
        client=row.client,
        transaction=row.login,
        browser=row.browser,
        language=row.language,
        used_at=row.used_at,
        replaced_at=row.replaced_at,
    )
