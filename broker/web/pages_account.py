"""The pages of somebody who is signed in: /account."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from broker.web.pages import NewPassword, Page


@dataclass(frozen=True, slots=True)
class SessionRow:
    id: str
    """The public session id, never the cookie's secret."""
    agent: str
    """`Firefox on Windows`; empty: unknown."""
    signed_in_at: datetime
    current: bool = False
    apps: tuple[str, ...] = ()
    """Names of the apps that were told about this session."""


class AccountNotice(StrEnum):
    PASSWORD_CHANGED = "password_changed"
    SESSION_ENDED = "session_ended"
    OTHERS_SIGNED_OUT = "others_signed_out"


@dataclass(frozen=True, slots=True)
class AccountPage(Page):
    """Who am I, where am I signed in.

    Forms: `session` POST /account/sessions (session=<id>) · `sessions` POST /account/sessions/others (all but this)
    · `sign-out` POST /end-session (decision=yes). Links: /account/password, /admin; /reset-elsewhere for `provider`.
    """

    name: ClassVar[str] = "account"
    template: ClassVar[str] = "pages/account.html"

    label: str
    sessions: tuple[SessionRow, ...]
    full_name: str = ""
    username: str = ""
    email: str = ""
    email_verified: bool = False
    connection: str = ""
    """The title of the connection that this session was signed in with."""
    has_password: bool = True
    """A password of ours, that can be changed here."""
    elsewhere: str | None = None
    """For people who sign in at a provider: the address of its *reset-elsewhere* page of ours."""
    admin: bool = False
    notice: AccountNotice | None = None


class CurrentError(StrEnum):
    EMPTY = "empty"
    WRONG = "wrong"
    THROTTLED = "throttled"
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class AccountPasswordPage(Page):
    """Form: `account-password` POST /account/password (username, current_password, password, password_again).
    Links: /account, /forgot.
    """

    name: ClassVar[str] = "account-password"
    template: ClassVar[str] = "pages/account_password.html"

    label: str
    new: NewPassword
    error: CurrentError | None = None
    retry_after: int = 0
