"""Every page in every state that PAGES names, as values: what the tests render, judge and look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from broker.core.attempts import Puzzle
from broker.core.connection import ResetHow
from broker.core.ticket import Purpose, TicketState
from broker.web.pages import (
    AccountChoice,
    App,
    Chrome,
    ConnectionButton,
    ConsentPage,
    Identifiers,
    LoginError,
    LoginNotice,
    LoginPage,
    NewPassword,
    NewPasswordError,
    Page,
    PasswordError,
    PasswordPage,
    SelectAccountPage,
    Sent,
    SignedOutPage,
    SignOutPage,
    SignupError,
    SignupPage,
    SignupSentPage,
)
from broker.web.pages_account import AccountNotice, AccountPage, AccountPasswordPage, CurrentError, SessionRow
from broker.web.pages_desk import (
    AdminAction,
    AdminConfirmPage,
    AdminNotice,
    AdminSetPasswordPage,
    AdminUserPage,
    AdminUsersPage,
    UserRow,
)
from broker.web.pages_error import (
    ChooseTenantPage,
    ErrorPage,
    MailboxMessagePage,
    MailboxPage,
    MailRow,
    WayOut,
)
from broker.web.pages_recovery import (
    ForgotError,
    ForgotPage,
    LinkProblemPage,
    MustChangePage,
    ResetDonePage,
    ResetElsewherePage,
    ResetPage,
    WhyElsewhere,
    WhyNewPassword,
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One state of one page. `name` is `page/state`."""

    name: str
    page: Page
    chrome: Chrome


NOW = datetime(2026, 11, 21, 14, 0, tzinfo=UTC)
SHOP = App("Shop", "https://shop.example", policy="https://shop.example/privacy", terms="https://shop.example/terms")
CHROME = Chrome(
    tenant="Acme",
    base="/t/acme",
    csrf=lambda form: f"csrf-of-{form}",
    tx="tx-1234",
    app=SHOP,
    cancel=True,
    support_url="https://acme.example/help",
    support_email="help@acme.example",
    color="#0b5fff",
    reference="7K3Q-XW92-4T",
)
ATTACKED = replace(CHROME, puzzle=lambda form: Puzzle("c2FsdA?expires=1795270000&", "0" * 64, 2_000, form, "waited"))
"""The frame while passwords are tried in masses; this puzzle has no solution."""
OURS = replace(CHROME, app=None, tx="", cancel=False)
"""The frame of /account, /admin and of mailed links opened elsewhere."""
GOOGLE = ConnectionButton("google", "Google", "google")
MICROSOFT = ConnectionButton("microsoft", "Microsoft", "microsoft")
GITHUB = ConnectionButton("github", "GitHub", "github")
STAFF = ConnectionButton("staff", "Acme staff", "oidc")
BUTTONS = (GOOGLE, MICROSOFT, GITHUB)
MANY = (*BUTTONS, STAFF, *(ConnectionButton(f"p{n}", f"Partner number {n}", "saml") for n in range(1, 4)))
SENT = Sent("ada@acme.example", "no-reply@acme.example", timedelta(minutes=30))
NEW = NewPassword(personal=("ada@acme.example", "Acme"))
LONG = "averyveryverylonglocalpartthatneverends.andgoeson@a-subdomain.of-an-enterprise.acme.example"
ADA = UserRow("u-1", "ada", "ada", "ada@acme.example", "Ada Lovelace", "Acme account")
BOB = UserRow("u-2", "bob", "bob", "bob@acme.example", "", "Acme account", blocked=True)
EVE = UserRow("u-3", LONG, "", LONG, "Eve Long", "Google")


def samples() -> Iterator[Sample]:
    """All of them, in the order of the journeys."""
    for kind, states in (
        ("login", _login()),
        ("password", _password()),
        ("select-account", _select_account()),
        ("signup", _signup()),
        ("forgot", _forgot()),
        ("reset-elsewhere", _elsewhere()),
        ("reset-link", _links()),
        ("reset", _reset()),
        ("consent", _consent()),
        ("signout", _sign_out()),
        ("account", _account()),
        ("admin", _admin()),
        ("error", _errors()),
        ("outside", _outside()),
    ):
        for state, (page, chrome) in states.items():
            yield Sample(f"{kind}/{state}", page, chrome)


States = dict[str, tuple[Page, Chrome]]


def _login() -> States:
    plain, both = LoginPage(connections=BUTTONS), LoginPage(ask_password=True, signup=True)
    pages: dict[str, Page] = {
        "first-visit": plain,
        "last-used": replace(plain, connections=(replace(GITHUB, last_used=True), GOOGLE, MICROSOFT)),
        "remembered": replace(plain, identifier="ada@acme.example", remembered=True),
        "hinted": replace(plain, identifier=LONG),
        "mail-sent": replace(plain, notice=LoginNotice.MAIL_SENT, sent=SENT, identifier=SENT.identifier),
        "link-used": replace(plain, notice=LoginNotice.LINK_USED),
        "empty": replace(plain, error=LoginError.EMPTY),
        "malformed": replace(plain, error=LoginError.MALFORMED, identifier="ada@"),
        "throttled": replace(plain, error=LoginError.THROTTLED, retry_after=40, identifier="ada"),
        "reauthenticate": replace(plain, reauthenticate=True, identifier="ada"),
        "many-ways": replace(plain, connections=MANY, signup=True),
        "both": both,
        "both-remembered": replace(both, identifier="ada@acme.example", remembered=True),
        "both-empty": replace(both, error=LoginError.EMPTY),
        "both-malformed": replace(both, error=LoginError.MALFORMED, identifier="ada@"),
        "both-mail-sent": replace(both, notice=LoginNotice.MAIL_SENT, sent=SENT, identifier=SENT.identifier),
        "both-password-changed": replace(both, notice=LoginNotice.PASSWORD_CHANGED, identifier="ada"),
        "both-reauthenticate": replace(both, reauthenticate=True, identifier="ada"),
        "both-directory": replace(both, directory="Factory", identifiers=Identifiers.USERNAME),
        "buttons-only": LoginPage(ask_identifier=False, connections=BUTTONS),
        "email-only": LoginPage(identifiers=Identifiers.EMAIL, signup=True, remember=False),
        "username-only": LoginPage(identifiers=Identifiers.USERNAME),
    }
    for notice in LoginNotice:
        if notice is not LoginNotice.MAIL_SENT:
            pages.setdefault(notice.replace("_", "-"), replace(plain, notice=notice, provider="Google"))
    framed: States = {state: (page, CHROME) for state, page in pages.items()}
    framed["test-environment"] = plain, replace(CHROME, environment="test", color=None)
    framed["our-own-page"] = LoginPage(), OURS
    framed["both-attacked"] = both, ATTACKED
    framed["both-attacked-throttled"] = (
        replace(both, error=LoginError.THROTTLED, retry_after=40, identifier="ada"), ATTACKED,
    )  # fmt: skip
    framed["no-support"] = plain, Chrome("Acme", "", lambda _: "csrf", tx="tx-1", app=App("Shop"))
    return framed


def _password() -> States:
    plain = PasswordPage("ada@acme.example")
    pages: dict[str, Page] = {
        "plain": plain,
        "password-changed": replace(plain, notice=LoginNotice.PASSWORD_CHANGED),
        "reauthenticate": replace(plain, reauthenticate=True),
        "directory": PasswordPage(LONG, connection="Factory"),
        "must-change": MustChangePage("ada", NEW, ask_current=True),
        "must-change-wrong": MustChangePage("ada", NEW, ask_current=True, wrong_current=True),
        "must-change-unchanged": MustChangePage("ada", replace(NEW, errors=(NewPasswordError.UNCHANGED,))),
        "must-change-throttled": MustChangePage("ada", NEW, ask_current=True, retry_after=95),
        "must-change-busy": MustChangePage("ada", NEW, busy=True),
    }
    for error in PasswordError:
        pages[error.value] = replace(plain, error=error, retry_after=600 if error is PasswordError.THROTTLED else 0)
    framed: States = {state: (page, CHROME) for state, page in pages.items()}
    framed["challenge"] = replace(plain, error=PasswordError.CHALLENGE), ATTACKED
    framed["attacked"] = plain, ATTACKED
    return framed


def _select_account() -> States:
    page = SelectAccountPage((AccountChoice("s-1", "ada@acme.example", "Acme account"), AccountChoice("s-2", LONG)))
    return {"two": (page, CHROME)}


def _signup() -> States:
    plain = SignupPage("users", ask_username=True)
    full = SignupPage("users", NEW, email="ada@acme.example")
    pages: dict[str, Page] = {
        "empty": plain,
        "with-password": full,
        "refused": replace(full, new=replace(NEW, errors=(NewPasswordError.COMMON,))),
        "mistakes": replace(
            plain, email="ada@", username="a da", errors=(SignupError.EMAIL_MALFORMED, SignupError.USERNAME_MALFORMED)
        ),
        "taken": replace(plain, email="ada@acme.example", username="ada", errors=(SignupError.USERNAME_TAKEN,)),
        "nothing-typed": replace(plain, errors=(SignupError.EMAIL_EMPTY, SignupError.USERNAME_EMPTY)),
        "throttled": replace(plain, errors=(SignupError.THROTTLED,), retry_after=3000),
        "sent": SignupSentPage(SENT),
    }
    challenge: States = {"challenge": (replace(plain, errors=(SignupError.CHALLENGE,)), ATTACKED)}
    return {state: (page, CHROME) for state, page in pages.items()} | challenge


def _forgot() -> States:
    pages: dict[str, Page] = {
        "plain": ForgotPage(),
        "filled": ForgotPage("ada", signed_in_as="bob"),
        "empty": ForgotPage(error=ForgotError.EMPTY),
        "malformed": ForgotPage("ada@", error=ForgotError.MALFORMED, identifiers=Identifiers.EMAIL),
        "throttled": ForgotPage("ada", error=ForgotError.THROTTLED, retry_after=60, identifiers=Identifiers.USERNAME),
    }
    challenge: States = {"challenge": (ForgotPage("ada", error=ForgotError.CHALLENGE), ATTACKED)}
    return {state: (page, CHROME) for state, page in pages.items()} | challenge


def _elsewhere() -> States:
    link = ResetElsewherePage(
        "google", "Google", ResetHow.DEEP_LINK, url="https://accounts.google.com/signin/recovery",
        host="accounts.google.com",
    )  # fmt: skip
    words = ResetElsewherePage(
        "factory", "Factory", ResetHow.TEXT, WhyElsewhere.DOMAIN, text="Call the help desk on 4711.",
        identifier="ada@factory.example", can_continue=False,
    )  # fmt: skip
    pages: dict[str, Page] = {
        "deep-link": link,
        "oidc-forgot": replace(link, how=ResetHow.OIDC_FORGOT, provider="Acme staff", host="sso.acme.example"),
        "authorize-hint": replace(link, how=ResetHow.AUTHORIZE_HINT, url=None, host="", identifier="ada@acme.example"),
        "text": words,
        "text-and-continue": replace(words, can_continue=True, why=WhyElsewhere.CONNECTION),
        "change-only": replace(link, change_only=True),
        "returned": replace(link, returned=True),
        "another-account-here": replace(link, local=True),
    }
    framed: States = {state: (page, CHROME) for state, page in pages.items()}
    framed["from-the-mail"] = replace(link, why=WhyElsewhere.MAIL), OURS
    return framed


def _links() -> States:
    framed: States = {}
    for state in TicketState:
        if state is not TicketState.VALID:
            framed[state.replace("_", "-")] = LinkProblemPage(state, issued_at=NOW, ended_at=NOW), OURS
    framed["expired-untimed"] = LinkProblemPage(TicketState.EXPIRED), OURS
    framed["died-while-typing"] = LinkProblemPage(TicketState.REPLACED, ended_at=NOW, typing=True), OURS
    framed["verify-expired"] = LinkProblemPage(TicketState.EXPIRED, Purpose.VERIFY_EMAIL, ended_at=NOW), OURS
    framed["login-link-used"] = LinkProblemPage(TicketState.USED, Purpose.SIGN_IN_ONCE, ended_at=NOW), OURS
    framed["invitation-expired"] = LinkProblemPage(TicketState.EXPIRED, Purpose.INVITE, ended_at=NOW), OURS
    framed["account-off-no-support"] = (
        LinkProblemPage(TicketState.ACCOUNT_OFF),
        replace(OURS, support_url=None, support_email=None),
    )
    framed["account-off-by-mail"] = LinkProblemPage(TicketState.ACCOUNT_OFF), replace(OURS, support_url=None)
    return framed


def _reset() -> States:
    plain = ResetPage("ada@acme.example", NEW, expires_at=NOW + timedelta(minutes=30))
    pages: dict[str, Page] = {
        "plain": plain,
        "signed-in-as-somebody-else": replace(plain, signed_in_as="bob"),
        "twice": replace(plain, new=replace(NEW, ask_twice=True, errors=(NewPasswordError.DIFFERENT,))),
        "invited": replace(plain, why=WhyNewPassword.INVITE),
        "by-link": replace(plain, why=WhyNewPassword.LINK),
        "busy": replace(plain, busy=True),
        "done-signed-in": ResetDonePage(True, "/t/acme/continue?tx=tx-1234"),
        "done-other-device": ResetDonePage(True, "https://shop.example/login", other_device=True),
        "done-sign-in": ResetDonePage(False, "https://shop.example/login"),
        "done-words": ResetDonePage(False),
    }
    for error in NewPasswordError:
        pages[error.replace("_", "-")] = replace(plain, new=replace(NEW, errors=(error,)))
    framed: States = {state: (page, replace(CHROME, tx="", cancel=False)) for state, page in pages.items()}
    framed["done-no-app"] = ResetDonePage(False), OURS
    return framed


def _consent() -> States:
    page = ConsentPage(
        "ada@acme.example",
        ("openid", "profile", "email", "address", "phone", "offline_access", "orders:read"),
        "shop.example",
        granted=("openid",),
    )
    return {"all-scopes": (page, CHROME), "little": (ConsentPage("ada", ("openid",)), CHROME)}


def _sign_out() -> States:
    question = SignOutPage("ada", (("client_id", "shop"), ("state", "s-1")))
    return {
        "question": (question, CHROME),
        "question-unknown": (SignOutPage(), OURS),
        "done": (SignedOutPage(), OURS),
        "done-with-app": (SignedOutPage(continue_url="https://shop.example/bye"), CHROME),
        "done-elsewhere": (SignedOutPage("Google", "https://accounts.google.com/Logout"), OURS),
        "stayed": (SignedOutPage(stayed=True), OURS),
    }


def _account() -> States:
    here = SessionRow("s-1", "Firefox on Windows", NOW, current=True, apps=("Shop",))
    there = SessionRow("s-2", "", NOW - timedelta(days=2), apps=("Shop", "A second app with a longer name"))
    plain = AccountPage("ada", (here, there), "Ada Lovelace", "ada", "ada@acme.example", True, "Acme account")
    upstream = replace(
        plain, label=LONG, username="", email=LONG, email_verified=False, connection="Google", has_password=False,
        elsewhere="/t/acme/forgot/elsewhere?connection=google", sessions=(here,),
    )  # fmt: skip
    change = AccountPasswordPage("ada", NEW)
    pages: dict[str, Page] = {
        "overview": plain,
        "administrator": replace(plain, admin=True),
        "upstream": upstream,
        "bare": AccountPage("ada", (), has_password=False),
        "password": change,
        "password-too-short": replace(change, new=replace(NEW, errors=(NewPasswordError.TOO_SHORT,))),
    }
    for notice in AccountNotice:
        pages[notice.replace("_", "-")] = replace(plain, notice=notice)
    for error in CurrentError:
        pages[f"password-current-{error}"] = replace(change, error=error, retry_after=30)
    return {state: (page, OURS) for state, page in pages.items()}


def _admin() -> States:
    every = tuple(action for action in AdminAction if action is not AdminAction.UNBLOCK)
    user = AdminUserPage(ADA, every, NOW, True, True, sessions=2)
    confirm = AdminConfirmPage("grace", AdminAction.SET_PASSWORD, ADA, "/admin/users/u-1/set-password")
    setting = AdminSetPasswordPage(ADA, NEW)
    pages: dict[str, Page] = {
        "users": AdminUsersPage(),
        "users-found": AdminUsersPage("a", (ADA, BOB, EVE), more=True),
        "users-one": AdminUsersPage("ada", (ADA,)),
        "users-none": AdminUsersPage("nobody", ()),
        "user": user,
        "user-off": AdminUserPage(BOB, (AdminAction.UNBLOCK,), NOW, has_password=True, must_change_password=True),
        "user-upstream": AdminUserPage(EVE, (AdminAction.SIGN_OUT,), NOW),
        "user-above": AdminUserPage(ADA, (), NOW),
        "confirm-elsewhere": replace(confirm, elsewhere="Acme staff"),
        "set-password": setting,
        "set-password-common": replace(setting, new=replace(NEW, errors=(NewPasswordError.COMMON,))),
        "set-password-busy": replace(setting, busy=True),
    }
    for notice in AdminNotice:
        pages[f"user-{notice.replace('_', '-')}"] = replace(user, notice=notice)
    pages["user-login-link"] = replace(
        user,
        notice=AdminNotice.LOGIN_LINK,
        login_link=f"https://login.acme.example/link?t={'x' * 43}",
        login_link_until=NOW,
    )
    for action in AdminAction:
        pages[f"confirm-{action}"] = replace(confirm, action=action)
    for error in CurrentError:
        pages[f"confirm-password-{error}"] = replace(confirm, error=error, retry_after=30)
    return {state: (page, OURS) for state, page in pages.items()}


def _errors() -> States:
    again = "/t/acme/authorize?client_id=shop"
    framed: States = {}
    for status in (400, 403, 404, 405, 409, 410, 413, 421, 429, 500, 502, 503):
        framed[str(status)] = ErrorPage(status, f"sample.{status}", WayOut.SIGN_IN, "/t/acme/login"), OURS
    framed["page-too-old"] = ErrorPage(400, "transaction.gone", WayOut.RESTART, again), CHROME
    framed["page-too-old-no-way"] = ErrorPage(400, "transaction.gone"), OURS
    framed["cookies"] = ErrorPage(400, "cookies.blocked", WayOut.RESTART, again), CHROME
    framed["redirect-uri"] = (
        ErrorPage(400, "redirect_uri.unknown", WayOut.APP, SHOP.uri, detail="redirect_uri is not registered"),
        CHROME,
    )
    framed["retry"] = ErrorPage(503, "service.busy", WayOut.RETRY, again, retry_after=2), CHROME
    framed["throttled"] = ErrorPage(429, "attempts.throttled", WayOut.HOME, "/t/acme/account", retry_after=90), OURS
    framed["no-tenant"] = ErrorPage(404, "page.not_found"), Chrome("Homerealm", "", lambda _: "", reference="7K3Q")
    return framed


def _outside() -> States:
    bare = Chrome("Homerealm", "", lambda _: "")
    mail = MailRow("m-1", "ada@acme.example", "Reset your Acme password", "reset", NOW)
    other = MailRow("m-2", LONG, "You sign in to Acme with Google", "reset-elsewhere", NOW)
    text = (
        "Hello ada,\n\nsomeone asked to reset the password of your Acme account (username: ada).\n\n"
        "Choose a new password here. The link works once, until 14:30 UTC (30 minutes):\n"
        f"https://login.acme.example/reset?t={'x' * 43}\n\n<b>Not you?</b> Ignore this email."
    )
    return {
        "choose-tenant": (ChooseTenantPage((("Acme", "/t/acme/account"), ("Globex", "/t/globex/account"))), bare),
        "mailbox": (MailboxPage((mail, other)), bare),
        "mailbox-empty": (MailboxPage(()), bare),
        "mail": (MailboxMessagePage(mail, "Acme <no-reply@acme.example>", text, "/dev/mailbox/m-1/html"), bare),
    }
