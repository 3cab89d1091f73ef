"""The support desk: /admin."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from broker.web.pages import NewPassword, Page
from broker.web.pages_account import CurrentError


@dataclass(frozen=True, slots=True)
class UserRow:
    id: str
    label: str
    username: str = ""
    email: str = ""
    full_name: str = ""
    connection: str = ""
    """The title of the directory or provider that the account belongs to."""
    blocked: bool = False


@dataclass(frozen=True, slots=True)
class AdminUsersPage(Page):
    """Search: a GET form to /admin/users (q). Links: /admin/users/<id>, /account. Form: `sign-out`."""

    name: ClassVar[str] = "admin-users"
    template: ClassVar[str] = "pages/admin_users.html"

    query: str = ""
    results: tuple[UserRow, ...] | None = None
    """None: nothing was looked for yet."""
    more: bool = False
    """There are more than are shown."""


class AdminAction(StrEnum):
    """What stands in the More menu; each is a form of its own, POST /admin/users/<id>/<value>."""

    SEND_RESET = "send-reset"
    SET_PASSWORD = "set-password"
    """A link to a page (GET /admin/users/<id>/set-password), not a form."""
    LOGIN_LINK = "login-link"
    SIGN_OUT = "sign-out"
    BLOCK = "block"
    UNBLOCK = "unblock"


class AdminNotice(StrEnum):
    RESET_SENT = "reset_sent"
    RESET_TOO_SOON = "reset_too_soon"
    """A mail went out less than a minute ago: nothing was sent, nothing changed."""
    NO_ADDRESS = "no_address"
    """There is no address that a mail could go to."""
    PASSWORD_SET = "password_set"
    SIGNED_OUT = "signed_out"
    BLOCKED = "blocked"
    UNBLOCKED = "unblocked"
    LOGIN_LINK = "login_link"
    """Needs `login_link`."""
    REFUSED = "refused"
    """The role does not allow it, or the person ranks higher."""


@dataclass(frozen=True, slots=True)
class AdminUserPage(Page):
    """Form names in the More menu are `admin-<action>`. Link: /admin/users?q=."""

    name: ClassVar[str] = "admin-user"
    template: ClassVar[str] = "pages/admin_user.html"

    user: UserRow
    actions: tuple[AdminAction, ...]
    """Those that this administrator may do to this user, in the order of the menu."""
    created_at: datetime
    email_verified: bool = False
    has_password: bool = False
    must_change_password: bool = False
    sessions: int = 0
    notice: AdminNotice | None = None
    login_link: str = ""
    """Shown once."""
    login_link_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class AdminConfirmPage(Page):
    """`Confirm it's you`: the administrator's own password, good for five minutes (SECURITY, conflicts).

    Form: `admin-confirm` POST /admin/confirm (username, password, next). Link: the user's page.
    """

    name: ClassVar[str] = "admin-confirm"
    template: ClassVar[str] = "pages/admin_confirm.html"

    admin: str
    """Who is signed in: the label of the field for password managers."""
    action: AdminAction
    user: UserRow
    next: str
    """A path below the issuer, made by the view; comes back as a hidden field and is validated there."""
    error: CurrentError | None = None
    retry_after: int = 0
    elsewhere: str = ""
    """The administrator signs in at this provider and has no password here: the button is a fresh sign-in there,
    form `admin-confirm` without a password."""


@dataclass(frozen=True, slots=True)
class AdminSetPasswordPage(Page):
    """Form: `admin-set-password` POST /admin/users/<id>/set-password (username, password)."""

    name: ClassVar[str] = "admin-set-password"
    template: ClassVar[str] = "pages/admin_set_password.html"

    user: UserRow
    new: NewPassword
    busy: bool = False
