"""Errors, and the pages that stand outside a tenant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from broker.web.pages import Page


class WayOut(StrEnum):
    """The one button of an error page."""

    NONE = "none"
    RETRY = "retry"
    """The same address again; `url` says which."""
    RESTART = "restart"
    """A fresh login to the same app; `url` is its address."""
    APP = "app"
    """Back to the app: `url` is its client_uri or initiate_login_uri."""
    SIGN_IN = "sign_in"
    HOME = "home"
    """The tenant's own account page."""


@dataclass(frozen=True, slots=True)
class ErrorPage(Page):
    """What happened, what to do, one button, the reference (`Chrome.reference`).

    Words are chosen by `code` where we have words for it (`transaction.gone`: page too old; `cookies.blocked`:
    cookies needed), else by `status`.
    """

    name: ClassVar[str] = "error"
    template: ClassVar[str] = "pages/error.html"

    status: int
    code: str
    """Stable: `transaction.gone`, `redirect_uri.unknown`; also `data-code`."""
    way_out: WayOut = WayOut.NONE
    url: str | None = None
    retry_after: int = 0
    """Seconds."""
    detail: str = ""
    """For whoever develops the app: `redirect_uri is not registered for this client`. Never an upstream's words,
    never a secret, never what depends on an account."""


@dataclass(frozen=True, slots=True)
class ChooseTenantPage(Page):
    """/.well-known/change-password on a host with several tenants: which account do you mean?"""

    name: ClassVar[str] = "choose-tenant"
    template: ClassVar[str] = "pages/choose_tenant.html"

    tenants: tuple[tuple[str, str], ...]
    """(name, address) of each."""


@dataclass(frozen=True, slots=True)
class MailRow:
    id: str
    to: str
    subject: str
    kind: str
    """`X-Homerealm-Mail`."""
    at: datetime


@dataclass(frozen=True, slots=True)
class MailboxPage(Page):
    """/dev/mailbox, under `homerealm demo` only: a list with links to /dev/mailbox/<id>."""

    name: ClassVar[str] = "dev-mailbox"
    template: ClassVar[str] = "pages/mailbox.html"

    messages: tuple[MailRow, ...]
    """The newest first."""
    folder: str = "/dev/mailbox"
    """The address of this page."""


@dataclass(frozen=True, slots=True)
class MailboxMessagePage(Page):
    name: ClassVar[str] = "dev-mail"
    template: ClassVar[str] = "pages/mailbox_message.html"

    message: MailRow
    sender: str
    text: str
    """The text part; its addresses become links."""
    html_url: str | None = None
    """Where the HTML part is served, with `Content-Security-Policy: sandbox`."""
    folder: str = "/dev/mailbox"
