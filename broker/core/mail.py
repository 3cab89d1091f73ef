"""What is queued for the outbox: jobs and mails, before anybody renders them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from broker.core.values import TenantId


class MailKind(StrEnum):
    """The folder under templates/mail/, and the value of `X-Homerealm-Mail`."""

    RESET = "reset"
    RESET_ELSEWHERE = "reset-elsewhere"
    NO_ACCOUNT = "no-account"
    PASSWORD_CHANGED = "password-changed"
    PASSWORD_SET_BY_ADMIN = "password-set-by-admin"
    VERIFY_EMAIL = "verify-email"
    ALREADY_REGISTERED = "already-registered"
    INVITATION = "invitation"


class JobKind(StrEnum):
    RECOVER = "recover"
    """Somebody asked for a reset: the worker looks the account up and writes the mails (SECURITY 7)."""
    REGISTER = "register"
    """Somebody signed up: the worker decides between `verify-email` and `already-registered`."""
    MAIL = "mail"


@dataclass(frozen=True, slots=True)
class Job:
    """A row of the outbox. The payload is encrypted at rest: it may hold a link or an address.

    For `MAIL` the payload is {kind, to, language, ...facts}; recipients come from the stored address only (SECURITY 4).
    """

    id: str
    """Also the Message-ID's left part, so that a retry after a crash is recognisably the same mail."""
    tenant: TenantId
    kind: JobKind
    payload: Mapping[str, str] = field(repr=False)
    queued_at: datetime
    due_at: datetime
    attempts: int = 0
