"""What is written to the audit log, and said in the event log. Names are stable: other programs search for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from broker.core.values import Actor, DirectoryId


class Action(StrEnum):
    """Every security-relevant change."""

    SIGNED_OUT = "user.signed_out"
    SIGNED_OUT_EVERYWHERE = "user.signed_out_everywhere"
    USER_ADDED = "user.added"
    USER_DELETED = "user.deleted"
    USER_BLOCKED = "user.blocked"
    USER_UNBLOCKED = "user.unblocked"
    EMAIL_VERIFIED = "email.verified"
    RESET_SENT = "reset.sent"
    RESET_DONE = "reset.done"
    PASSWORD_CHANGED = "password.changed"
    PASSWORD_SET_BY_ADMIN = "password.set_by_admin"
    PASSWORD_SET_BY_OPERATOR = "password.set_by_operator"
    LOGIN_LINK_MADE = "login_link.made"
    LOGIN_LINK_USED = "login_link.used"
    CONSENT_GIVEN = "consent.given"
    CODE_REUSED = "code.reused"
    REFRESH_REUSED = "refresh.reused"
    KEY_ADDED = "key.added"
    KEY_RETIRED = "key.retired"
    USER_LINKED = "user.linked"
    CONFIGURATION_CHANGED = "configuration.changed"
    AUDIT_EXPORTED = "audit.exported"
    AUDIT_ARCHIVED = "audit.archived"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the audit log. `detail` never holds a secret."""

    at: datetime
    directory: DirectoryId
    actor: Actor
    action: Action
    target: str = ""
    """The user (or key, or client) that it happened to."""
    detail: Mapping[str, str] = field(default_factory=dict)
    reference: str = ""
    """The reference that the person saw on the page."""
