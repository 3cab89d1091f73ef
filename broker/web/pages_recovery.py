"""The pages of somebody who cannot sign in: forgotten here, forgotten elsewhere, links, new passwords."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar

from broker.core.connection import ResetHow
from broker.core.ticket import Purpose, TicketState
from broker.web.pages import Identifiers, NewPassword, Page


class ForgotError(StrEnum):
    EMPTY = "empty"
    MALFORMED = "malformed"
    THROTTLED = "throttled"
    CHALLENGE = "challenge"


@dataclass(frozen=True, slots=True)
class ForgotPage(Page):
    """Form: `forgot` POST /forgot (username) · `cancel`. Link: /login."""

    name: ClassVar[str] = "forgot"
    template: ClassVar[str] = "pages/forgot.html"

    identifier: str = ""
    identifiers: Identifiers = Identifiers.EITHER
    error: ForgotError | None = None
    retry_after: int = 0
    signed_in_as: str = ""
    """Somebody is signed in on this browser; said, because the link may be for another account."""
    lifetime: timedelta = timedelta(minutes=30)


class WhyElsewhere(StrEnum):
    """Which public fact led here; never a lookup (SECURITY 7)."""

    CONNECTION = "connection"
    """They chose it, or it is the one remembered on this device."""
    DOMAIN = "domain"
    """The address belongs to its domain."""
    MAIL = "mail"
    """The mail said so."""


@dataclass(frozen=True, slots=True)
class ResetElsewherePage(Page):
    """The password lives at a provider.

    `deep_link`: a plain link to `url`. `oidc_forgot`: form `reset-elsewhere` POST /reset-elsewhere (connection).
    `authorize_hint`: the button is `Continue with`, form `connection` POST /login/connection (connection, username).
    `text`: words. Link: /login (another way).
    """

    name: ClassVar[str] = "reset-elsewhere"
    template: ClassVar[str] = "pages/reset_elsewhere.html"

    connection: str
    """Its id."""
    provider: str
    """`Google`."""
    how: ResetHow
    why: WhyElsewhere = WhyElsewhere.CONNECTION
    url: str | None = None
    host: str = ""
    """The real host name that the button leads to; shown, so that nobody has to trust us blindly."""
    text: str = ""
    change_only: bool = False
    """The page there is for people who are still signed in there."""
    identifier: str = ""
    returned: bool = False
    """Back from the provider's reset page."""
    can_continue: bool = True
    """Whether the app behind this page takes this connection: `Continue with X` is offered."""
    local: bool = False
    """Whether passwords are also reset here: a way to /forgot?other=1, for another account than this one."""


@dataclass(frozen=True, slots=True)
class LinkProblemPage(Page):
    """A mailed link that does not work, and what to do: one button.

    Links: /forgot, /login. `data-code` is `ticket.<state>`.
    """

    name: ClassVar[str] = "reset-link"
    template: ClassVar[str] = "pages/link_problem.html"

    state: TicketState
    purpose: Purpose = Purpose.RESET
    issued_at: datetime | None = None
    ended_at: datetime | None = None
    """When it expired, was used, or was replaced."""
    lifetime: timedelta = timedelta(minutes=30)
    typing: bool = False
    """It died while the new password was being typed: nothing was saved."""

    @property
    def code(self) -> str:
        return f"ticket.{self.state}"


class WhyNewPassword(StrEnum):
    RESET = "reset"
    INVITE = "invite"
    LINK = "link"
    """A one-time login link leads here."""


@dataclass(frozen=True, slots=True)
class ResetPage(Page):
    """The form behind a valid link. Form: `reset` POST /reset (username for password managers, password,
    password_again).
    """

    name: ClassVar[str] = "reset"
    template: ClassVar[str] = "pages/reset.html"

    label: str
    """Whose password: the username, or the address that the mail went to."""
    new: NewPassword
    why: WhyNewPassword = WhyNewPassword.RESET
    expires_at: datetime | None = None
    signed_in_as: str = ""
    """Somebody else is signed in on this browser."""
    busy: bool = False
    """The server is busy: nothing was decided."""


@dataclass(frozen=True, slots=True)
class ResetDonePage(Page):
    name: ClassVar[str] = "reset-done"
    template: ClassVar[str] = "pages/reset_done.html"

    signed_in: bool
    """`rules.reset.after: signed_in`; otherwise it says to sign in with the new password."""
    continue_url: str | None = None
    """The waiting request (`/continue?tx=`), the app's `initiate_login_uri` or `client_uri`; None: words."""
    other_device: bool = False
    """Opened in another browser than the one that asked."""


@dataclass(frozen=True, slots=True)
class MustChangePage(Page):
    """The change-password step of a login.

    Form: `must-change` POST /login/must-change (username, current_password, password, password_again) · `cancel`.
    """

    name: ClassVar[str] = "must-change"
    template: ClassVar[str] = "pages/must_change.html"

    label: str
    new: NewPassword
    ask_current: bool = False
    wrong_current: bool = False
    retry_after: int = 0
    """Seconds, when the current password was tried too often."""
    busy: bool = False
