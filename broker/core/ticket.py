"""One-time secrets with a purpose, and the proofs that alone can authorise a password write (SECURITY 1, 2)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from broker.core.values import Actor, ClientId, ConnectionId, DirectoryId, TransactionId, User, UserId


class Purpose(StrEnum):
    RESET = "reset"
    VERIFY_EMAIL = "verify_email"
    INVITE = "invite"
    LINK_ACCOUNT = "link_account"
    SIGN_IN_ONCE = "sign_in_once"
    OPERATE = "operate"
    """Issued and redeemed in one transaction by the command line, so that even an operator's write has a proof."""


class TicketState(StrEnum):
    """Why a link does, or does not, work. Every one has a page that says what to do."""

    VALID = "valid"
    EXPIRED = "expired"
    USED = "used"
    REPLACED = "replaced"
    """A newer mail was sent; only the newest link works."""
    MANGLED = "mangled"
    """Not a secret that we ever issued, or cut in half by a mail program."""
    ELSEWHERE = "elsewhere"
    """Of another tenant, environment or purpose. Refused, and not consumed (Keycloak CVE-2026-4325)."""
    ACCOUNT_OFF = "account_off"
    VOID = "void"
    """The account changed since: the password was changed another way, or everything was signed out."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A row; the secret itself is never stored, only its digest."""

    id: str
    purpose: Purpose
    directory: DirectoryId
    user: UserId
    epoch: int
    issued_by: Actor
    issued_at: datetime
    expires_at: datetime
    connection: ConnectionId | None = None
    address: str | None = None
    """The address that it was sent to; a ticket dies with a change of address."""
    client: ClientId | None = None
    transaction: TransactionId | None = None
    browser: str | None = None
    """Digest of the cookie of the browser that asked: only there may the app's own request continue."""
    language: str = "en"
    used_at: datetime | None = None
    replaced_at: datetime | None = None


def judge(
    ticket: Ticket | None, purpose: Purpose, directory: DirectoryId, user: User | None, now: datetime
) -> TicketState:
    """What a person who holds this link is told. Looking changes nothing."""
    if ticket is None:
        return TicketState.MANGLED
    if ticket.purpose is not purpose or ticket.directory != directory:
        return TicketState.ELSEWHERE
    if user is None or user.blocked or user.id != ticket.user or user.directory != directory:
        return TicketState.ACCOUNT_OFF
    if ticket.used_at is not None:
        return TicketState.USED
    if ticket.replaced_at is not None:
        return TicketState.REPLACED
    if now >= ticket.expires_at:
        return TicketState.EXPIRED
    if user.epoch != ticket.epoch or (ticket.address is not None and ticket.address != user.email):
        return TicketState.VOID
    return TicketState.VALID


@dataclass(frozen=True, slots=True)
class RedeemedTicket:
    """Made by `Tickets.redeem` alone, inside the transaction that then writes."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class CurrentPassword:
    """The person gave their current password. `verified_hash` must still be the stored one when it is written."""

    user: UserId
    verified_hash: str


@dataclass(frozen=True, slots=True)
class AdminConfirmed:
    """An administrator gave their *own* password, at most five minutes ago, for changing *this* user."""

    admin: UserId
    admin_epoch: int
    target: UserId
    confirmed_at: datetime


Proof = RedeemedTicket | CurrentPassword | AdminConfirmed
