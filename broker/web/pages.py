"""What every page needs to know, typed: one frozen dataclass a page, and the frame around it.

A view makes one of these and calls `render` (broker/web/render.py); templates hold every word, so nothing here is a
text for people. Enumerations name the states; each has a sample in broker/testing/pages.py, and every sample is
rendered, judged by axe and looked at (tests/web/test_pages.py, tests/browser/test_axe.py).

This module has the frame and the journey of signing in; recovery, the account, the support desk and errors are in
`pages_recovery`, `pages_account`, `pages_desk` and `pages_error`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import ClassVar

from broker.core.attempts import Puzzle


class Page:
    """A page. `name` is its `data-page` (CONTRACT 5), `template` lies under templates/."""

    __slots__ = ()
    name: ClassVar[str]
    template: ClassVar[str]


@dataclass(frozen=True, slots=True)
class App:
    """The relying party that somebody signs in to, as its registration describes it (RFC 7591)."""

    name: str
    uri: str | None = None
    """`client_uri`."""
    logo: str | None = None
    """`logo_uri`: set only where its origin is also in the page's `img-src` (see headers)."""
    policy: str | None = None
    terms: str | None = None


@dataclass(frozen=True, slots=True)
class Chrome:
    """The frame around a page: whose it is, in which language, and how its forms are protected."""

    tenant: str
    """The name that people know."""
    base: str
    """The path of the issuer, without a slash at its end: `/t/acme`, `/sso/t/acme`, or nothing. Forms start here."""
    csrf: Callable[[str], str]
    """The value for a form of this name, bound to browser and transaction (broker/web/shield.py)."""
    puzzle: Callable[[str], Puzzle] | None = None
    """The challenge of a form of this name, while passwords are tried in masses (templates/parts/challenge.html)."""
    tx: str = ""
    """The transaction's id; a hidden field of every form and a parameter of every link within the flow."""
    app: App | None = None
    """None on our own pages: /account, /admin."""
    language: str = "en"
    environment: str = "live"
    """Named on the page when it is not `live`."""
    logo: str | None = None
    """The address of the tenant's logo, from `Assets.add_logo`."""
    color: str | None = None
    """`Branding.color`; reaches the page as a stylesheet with an address of its own, never inline."""
    color_dark: str | None = None
    """`Branding.color_dark`."""
    cancel: bool = False
    """Whether the app can be told that the person changed their mind (`access_denied`)."""
    support_url: str | None = None
    support_email: str | None = None
    reference: str = ""
    """`7K3Q-XW92-4T`: on error pages and beside every failure, and in the log."""


class Identifiers(StrEnum):
    """What people of this tenant may type, for the label and the keyboard."""

    EMAIL = "email"
    USERNAME = "username"
    EITHER = "either"


@dataclass(frozen=True, slots=True)
class Sent:
    """`We've just sent you an email`: what to look for. The same for every identifier (SECURITY 7)."""

    identifier: str
    """As typed."""
    sender: str
    """The address that the mail comes from."""
    lifetime: timedelta
    again: bool = False
    """Whether it was asked for a second time."""


# --- log in ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConnectionButton:
    id: str
    title: str
    """`Google`: the button says `Continue with Google`."""
    icon: str = ""
    """`google`, `microsoft`, `github`, or nothing: the name of a drawing in parts/icons.html."""
    last_used: bool = False
    """Put first, with a badge."""


class LoginNotice(StrEnum):
    """What happened just before; equal to `Transaction.notice`."""

    MAIL_SENT = "mail_sent"
    """Needs `sent`."""
    PASSWORD_CHANGED = "password_changed"
    SIGNED_OUT = "signed_out"
    LINK_USED = "link_used"
    UPSTREAM_CANCELLED = "upstream_cancelled"
    UPSTREAM_FAILED = "upstream_failed"
    UPSTREAM_NO_EMAIL = "upstream_no_email"
    UPSTREAM_UNKNOWN_USER = "upstream_unknown_user"
    """Signed in there, but nobody here, and this connection makes no accounts."""
    BLOCKED = "blocked"
    """The account was switched off; said only to somebody who proved that it is theirs."""
    ADDRESS_VERIFIED = "address_verified"
    SIGN_IN_AGAIN = "sign_in_again"
    """The session ended in the middle: signed out everywhere, or the password changed elsewhere."""


class LoginError(StrEnum):
    EMPTY = "empty"
    MALFORMED = "malformed"
    THROTTLED = "throttled"


@dataclass(frozen=True, slots=True)
class LoginPage(Page):
    """Identifier first, connections as buttons. Where passwords are the only way in, the password is asked here, too.

    Forms: `login` POST /login (username, remember, password) · `connection` POST /login/connection (connection=<id>)
    · `resend` POST /forgot (username) when a mail was sent · `cancel` POST /login/cancel.
    Links: /forgot, /signup.
    """

    name: ClassVar[str] = "login"
    template: ClassVar[str] = "pages/login.html"

    identifier: str = ""
    """Typed before, hinted by the app, or remembered on this device."""
    identifiers: Identifiers = Identifiers.EITHER
    ask_identifier: bool = True
    """False where every connection is a button and no domain leads anywhere."""
    ask_password: bool = False
    """Every identifier leads to the same connection, and that one takes passwords."""
    directory: str = ""
    """Its title, where it is not the tenant's own directory: `Factory`."""
    connections: tuple[ConnectionButton, ...] = ()
    """In the order of the configuration; five are shown, the others under `More ways`."""
    forgot: bool = True
    signup: bool = False
    remembered: bool = False
    """The identifier comes from this device: the box is ticked, and unticking it forgets."""
    remember: bool = True
    """Whether remembering is offered."""
    reauthenticate: bool = False
    """The app wants to know that it is still the same person (`prompt=login`, `max_age`)."""
    notice: LoginNotice | None = None
    sent: Sent | None = None
    provider: str = ""
    """The connection's title, for the notices about upstream."""
    error: LoginError | None = None
    retry_after: int = 0
    """Seconds, when throttled."""


class PasswordError(StrEnum):
    EMPTY = "empty"
    WRONG = "wrong"
    """For an unknown person too: the same words."""
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    """The directory does not answer."""
    BUSY = "busy"
    CHALLENGE = "challenge"
    """Passwords are tried in masses: first a challenge is met."""


@dataclass(frozen=True, slots=True)
class PasswordPage(Page):
    """Forms: `password` POST /login/password (username, password, remember) · `other` POST /login/other (start again)
    · `cancel`. Link: /forgot.
    """

    name: ClassVar[str] = "password"
    template: ClassVar[str] = "pages/password.html"

    identifier: str
    connection: str = ""
    """The title, where it is not the tenant's own directory: `Factory`."""
    forgot: bool = True
    reauthenticate: bool = False
    notice: LoginNotice | None = None
    error: PasswordError | None = None
    retry_after: int = 0


@dataclass(frozen=True, slots=True)
class AccountChoice:
    id: str
    label: str
    via: str = ""
    """The title of the connection it was signed in with."""


@dataclass(frozen=True, slots=True)
class SelectAccountPage(Page):
    """`prompt=select_account`. Forms: `select-account` POST /login/account (account=<id>, or account= for another)
    · `cancel`.
    """

    name: ClassVar[str] = "select-account"
    template: ClassVar[str] = "pages/select_account.html"

    accounts: tuple[AccountChoice, ...]


# --- sign up -----------------------------------------------------------------------------------------------------


class SignupError(StrEnum):
    EMAIL_EMPTY = "email_empty"
    EMAIL_MALFORMED = "email_malformed"
    USERNAME_EMPTY = "username_empty"
    USERNAME_MALFORMED = "username_malformed"
    USERNAME_TAKEN = "username_taken"
    THROTTLED = "throttled"
    CHALLENGE = "challenge"


class NewPasswordError(StrEnum):
    """Why a new password was not accepted: the first eight equal `core.passwords.Weakness`."""

    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    COMMON = "common"
    PERSONAL = "personal"
    UNCHANGED = "unchanged"
    NOT_TEXT = "not_text"
    EMPTY = "empty"
    DIFFERENT = "different"
    """Typed twice, and not the same."""


@dataclass(frozen=True, slots=True)
class NewPassword:
    """The field for a new password, everywhere: `password`; and `password_again` where the tenant asks twice."""

    min_length: int = 15
    max_length: int = 1024
    personal: tuple[str, ...] = ()
    """Words that it must not consist of: checked while typing. Only what the person knows already: their own
    identifier, the tenant's name."""
    ask_twice: bool = False
    errors: tuple[NewPasswordError, ...] = ()


@dataclass(frozen=True, slots=True)
class SignupPage(Page):
    """Forms: `signup` POST /signup (email, username, connection) · `cancel`. Link: /login.

    No password is asked: an account begins with a proven address, and its password is chosen behind the mailed link,
    so that nobody can prepare an account for somebody else's address (SECURITY 6).
    """

    name: ClassVar[str] = "signup"
    template: ClassVar[str] = "pages/signup.html"

    connection: str
    new: NewPassword | None = None
    ask_email: bool = True
    ask_username: bool = False
    email: str = ""
    username: str = ""
    errors: tuple[SignupError, ...] = ()
    retry_after: int = 0


@dataclass(frozen=True, slots=True)
class SignupSentPage(Page):
    """`Check your email`: the same whether the address was free or not. Form: `cancel`. Links: /signup, /login."""

    name: ClassVar[str] = "signup-sent"
    template: ClassVar[str] = "pages/signup_sent.html"

    sent: Sent


# --- consent, sign out -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConsentPage(Page):
    """Form: `consent` POST /consent (decision=allow|deny)."""

    name: ClassVar[str] = "consent"
    template: ClassVar[str] = "pages/consent.html"

    label: str
    """Who is signed in."""
    scopes: tuple[str, ...]
    """Asked for; those of OIDC Core 5.4 are put in words, others are shown as they are."""
    host: str = ""
    """Where the app's redirect address is: what a stranger cannot fake."""
    granted: tuple[str, ...] = ()
    """Allowed before; marked."""


@dataclass(frozen=True, slots=True)
class SignOutPage(Page):
    """The question (RP-Initiated Logout 1.0, 2). Form: `sign-out` POST /end-session (decision=yes|no, `request`)."""

    name: ClassVar[str] = "signout"
    template: ClassVar[str] = "pages/sign_out.html"

    label: str = ""
    request: tuple[tuple[str, str], ...] = ()
    """Validated parameters that the POST must repeat: `post_logout_redirect_uri`, `state`, `client_id`, ..."""


@dataclass(frozen=True, slots=True)
class SignedOutPage(Page):
    name: ClassVar[str] = "signout-done"
    template: ClassVar[str] = "pages/signed_out.html"

    provider: str = ""
    """Where the person is still signed in."""
    provider_url: str | None = None
    """Its own sign-out, where it is known."""
    continue_url: str | None = None
    stayed: bool = False
    """They answered no."""
