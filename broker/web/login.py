"""Identifier, connection, password: the pages of somebody who signs in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flask import Blueprint

from broker.core.connection import LocalReset
from broker.core.errors import (
    BrokerError,
    Busy,
    ChallengeNeeded,
    ConnectionFailed,
    InvalidIdentifier,
    NotFound,
    Throttled,
)
from broker.core.passwords import normalise
from broker.core.policy import Step
from broker.core.tenant import Tenant
from broker.core.transaction import Transaction
from broker.flows.passwords import PasswordRefused, WrongPassword
from broker.flows.sign_in import Next, SignInRefused
from broker.web.answers import away, follow, go, keep, page, settled, takes_passwords, usual
from broker.web.challenge import origin
from broker.web.forms import (
    CancelForm,
    ConnectionForm,
    LoginForm,
    MustChangeForm,
    OtherForm,
    PasswordForm,
    SelectAccountForm,
)
from broker.web.lane import often
from broker.web.new_password import different, field, refused
from broker.web.pages import (
    AccountChoice,
    ConnectionButton,
    Identifiers,
    LoginError,
    LoginNotice,
    LoginPage,
    PasswordError,
    PasswordPage,
    SelectAccountPage,
    Sent,
)
from broker.web.pages_recovery import MustChangePage
from broker.web.shield import Fields
from broker.web.telling import refuse
from broker.web.visit import Visit, visit

if TYPE_CHECKING:
    from broker.web.reply import AnyReply, Reply

views = Blueprint("homerealm_login", __name__)


def load(current: Visit, source: str = "form") -> Transaction:
    """The login that a page belongs to."""
    tx = current.form.get("tx", "") if source == "form" else current.query.get("tx", "")
    transaction = current.runtime.sign_in.load(current.tenant, tx, current.browser)
    current.belongs_to(transaction)
    return current.runtime.sign_in.rested(transaction, lambda: current.visitor)


# --- Identifier first -----------------------------------------------------------------------------------------------


@often(views, "/login", "GET")
def login(current: Visit) -> AnyReply:
    """The first page of a login; without one, a login to our own account page."""
    if not current.query.get("tx"):
        from broker.web.authorize import begin_internal

        return begin_internal(current, "/account", login_hint=current.query.get("login_hint", ""))
    transaction = load(current, "query")
    following = current.runtime.sign_in.ask(current.tenant, transaction)
    if following.step in (Step.CHOOSE_CONNECTION, Step.SIGN_IN):
        return login_page(current, transaction)
    if following.step is Step.BLOCKED:
        refuse(current, "login.refused", "user.blocked", 403, transaction=transaction,
             user=following.user)  # fmt: skip
        blocked = following.transaction.reauthenticate().note("blocked")
        current.runtime.sign_in.keep(transaction, blocked)
        return login_page(current, blocked, status=403)
    return follow(current, following)


def login_page(
    current: Visit, transaction: Transaction, *, error: LoginError | None = None, typed: str | None = None,
    status: int = 200, retry_after: int = 0,
) -> Reply:  # fmt: skip
    """No SQL and no further round trip: everything stands in the transaction and in the configuration."""
    asked = transaction.notice == LoginNotice.MAIL_SENT and bool(transaction.identifier)
    if error is None and typed is None and status == 200 and (asked or not transaction.notice):
        device, again = current.device, _again(transaction)
        identifier = transaction.identifier or device.identifier
        last = next((one.id for one in settled(current).offered if one.id == device.connection), None)
        looks = "login", transaction.connection, last, bool(identifier), not transaction.identifier, again, asked
        content = _with_mail if asked else _first
        return usual(current, transaction.id, looks, identifier, lambda: content(current, transaction))
    return _with_notice(current, transaction, error=error, typed=typed, status=status, retry_after=retry_after)


def _with_notice(
    current: Visit, transaction: Transaction, *, error: LoginError | None, typed: str | None, status: int,
    retry_after: int,
) -> Reply:  # fmt: skip
    """Something happened just before, or what was typed will not do."""
    name, _, rest = (transaction.notice or "").partition(":")
    title, _, reference = rest.partition(":")
    current.reference = reference or current.reference  # that of the failure: the log has it
    provider = current.tenant.connection(title)
    notice = LoginNotice(name) if name in set(LoginNotice) else None
    content = replace(
        _first(current, transaction, typed),
        notice=notice,
        sent=_sent(current, transaction) if notice is LoginNotice.MAIL_SENT else None,
        provider=provider.title if provider else title,
        error=error,
        retry_after=retry_after,
    )
    return page(current, content, tx=transaction.id, status=status)


def _again(transaction: Transaction) -> bool:
    return bool(transaction.session) and "login" in transaction.prompts


def _first(current: Visit, transaction: Transaction, typed: str | None = None) -> LoginPage:
    """The first page, before there is anything to say on it."""
    device, offered, chosen = current.device, settled(current).offered, transaction.connection
    password_one = chosen if chosen and takes_passwords(current, chosen) else next(
        (one.id for one in offered if takes_passwords(current, one.id)), None
    )  # fmt: skip
    alone = password_one is not None and len(offered) == 1
    return LoginPage(
        identifier=typed if typed is not None else transaction.identifier or device.identifier,
        identifiers=identifiers(current.tenant, password_one),
        ask_identifier=password_one is not None or any(one.domains for one in offered),
        ask_password=alone,
        directory=elsewhere(current, password_one) if alone else "",
        connections=tuple(
            sorted(
                (
                    ConnectionButton(one.id, one.title, one.type, last_used=one.id == device.connection)
                    for one in offered
                    if one.id != password_one
                ),
                key=lambda button: not button.last_used,
            )
        ),
        signup=any(getattr(one.settings, "signup", False) for one in offered),
        remembered=not transaction.identifier and typed is None and bool(device.identifier),
        reauthenticate=_again(transaction),
    )


def _with_mail(current: Visit, transaction: Transaction) -> LoginPage:
    """The first page for somebody who has just asked for a mail."""
    first = _first(current, transaction)
    return replace(first, notice=LoginNotice.MAIL_SENT, sent=_sent(current, transaction))


def _sent(current: Visit, transaction: Transaction) -> Sent:
    return Sent(transaction.identifier or "", sender_address(current.tenant), current.tenant.rules.reset.lifetime)


def sender_address(tenant: Tenant) -> str:
    """The bare address of the tenant's mails."""
    from email.utils import parseaddr

    return parseaddr(tenant.mail.sender)[1]


def identifiers(tenant: Tenant, connection: str | None) -> Identifiers:
    entry = tenant.connection(connection) if connection else None
    kinds = tuple(getattr(entry.settings, "identifiers", ("email", "username"))) if entry else ("email",)
    return Identifiers(kinds[0]) if len(kinds) == 1 and kinds[0] in set(Identifiers) else Identifiers.EITHER


@often(views, "/login", "POST")
def login_post(current: Visit) -> AnyReply:
    form = LoginForm.sent(current)
    transaction = load(current)
    typed, forgot = form.text("username").strip(), bool(current.form.get("forgot"))
    if not typed and forgot:
        return go(current, "/forgot", tx=transaction.id)
    if not typed:
        return login_page(current, transaction, error=LoginError.EMPTY, typed="", status=422)
    try:
        following = current.runtime.sign_in.identify(current.tenant, transaction, typed)
    except (InvalidIdentifier, NotFound):
        return login_page(current, transaction, error=LoginError.MALFORMED, typed=typed[:254], status=422)
    current.jar.remember_identifier(typed[:254] if form.ticked("remember") else "")
    given, chosen = form.text("password"), following.transaction.connection
    if given and not forgot and following.step is Step.SIGN_IN and takes_passwords(current, chosen or ""):
        return _check_password(current, transaction, following.transaction, typed, form)
    kept = keep(current, transaction, following)
    return go(current, "/forgot", tx=transaction.id) if forgot else follow(current, kept)


@views.post("/login/connection")
def choose_connection() -> AnyReply:
    current = visit()
    form = ConnectionForm.of(current)
    transaction = load(current)
    typed = form.text("username").strip()
    noted = transaction.note(None, typed[:254]) if typed else transaction
    following = current.runtime.sign_in.choose(current.tenant, noted, form.text("connection"))
    return follow(current, keep(current, transaction, following))


@views.post("/login/other")
def start_again() -> AnyReply:
    """Another account, another way: back to the first page."""
    current = visit()
    OtherForm.of(current)
    transaction = load(current)
    current.runtime.sign_in.keep(transaction, transaction.reauthenticate().note(None))
    return go(current, "/login", tx=transaction.id)


@views.post("/login/cancel")
def cancel() -> AnyReply:
    """Back to the app with `access_denied`."""
    current = visit()
    CancelForm.of(current)
    transaction = load(current)
    if current.client is None or current.client.internal:
        return go(current, "/login")
    url = current.runtime.provider.refuse(current.tenant, transaction.request, "access_denied")
    current.runtime.means.transactions.close(transaction)
    return away(url)


# --- Password -------------------------------------------------------------------------------------------------------


@often(views, "/login/password", "GET")
def password(current: Visit) -> AnyReply:
    transaction = load(current, "query")
    following = current.runtime.sign_in.ask(current.tenant, transaction)
    if following.step is not Step.SIGN_IN or not takes_passwords(current, transaction.connection or ""):
        return follow(current, following)
    if not transaction.identifier:
        return login_page(current, transaction)
    return password_page(current, transaction)


def password_page(
    current: Visit, transaction: Transaction, *, error: PasswordError | None = None, status: int = 200,
    retry_after: int = 0,
) -> Reply:  # fmt: skip
    def content() -> PasswordPage:
        return PasswordPage(
            identifier=transaction.identifier or "",
            connection=elsewhere(current, transaction.connection),
            reauthenticate=_again(transaction),
            notice=LoginNotice.PASSWORD_CHANGED if transaction.notice == "password_changed" else None,
            error=error,
            retry_after=retry_after,
        )

    if transaction.notice:
        return page(current, content(), tx=transaction.id, status=status, retry_after=retry_after)
    looks = "password", transaction.connection, bool(transaction.identifier), _again(transaction), error
    return usual(current, transaction.id, looks, transaction.identifier or "", content, status=status,
                 retry_after=retry_after)  # fmt: skip


def elsewhere(current: Visit, id: str | None) -> str:
    """The title of a connection whose passwords are not the tenant's own."""
    entry = current.tenant.connection(id) if id is not None else None
    if entry is None or isinstance(current.runtime.connection(current.tenant, entry.id), LocalReset):
        return ""
    return entry.title


@often(views, "/login/password", "POST")
def password_post(current: Visit) -> AnyReply:
    form = PasswordForm.sent(current)
    transaction = load(current)
    if transaction.identity is not None or not takes_passwords(current, transaction.connection or ""):
        return follow(current, current.runtime.sign_in.ask(current.tenant, transaction))
    typed = form.text("username").strip() or transaction.identifier or ""
    given = form.text("password")
    if not typed:
        return go(current, "/login", tx=transaction.id)
    if typed != transaction.identifier:
        transaction, before = transaction.note(transaction.notice, typed[:254]), transaction
    else:
        before = transaction
    if not given:
        return password_page(current, transaction, error=PasswordError.EMPTY, status=422)
    return _check_password(current, before, transaction, typed, form)


def _check_password(
    current: Visit, before: Transaction, transaction: Transaction, typed: str, form: Fields
) -> AnyReply:
    try:
        following = current.runtime.sign_in.password(
            current.tenant, transaction, typed, normalise(form.text("password")), origin(current, form.form_name)
        )
    except (SignInRefused, Throttled, ChallengeNeeded, Busy, ConnectionFailed) as problem:
        # The page that says so goes on with what was typed. Who was faster may have it: both pages work.
        if transaction is not before:
            current.runtime.means.transactions.save(before, transaction)
        return _not_now(current, transaction, problem)
    current.jar.keep_known_device(following.known_device or "")
    if following.step is not Step.ISSUE:
        keep(current, before, following)
    return follow(current, following)


def _not_now(current: Visit, transaction: Transaction, problem: BrokerError) -> Reply:
    """The password page, and why it is there again."""
    match problem:
        case Throttled():
            event, error, status, wait = "attempts.throttled", PasswordError.THROTTLED, 429, problem.retry_after
        case ChallengeNeeded():
            event, error, status, wait = "attempts.challenged", PasswordError.CHALLENGE, 403, 0
        case Busy():
            event, error, status, wait = "service.busy", PasswordError.BUSY, 503, problem.retry_after
        case ConnectionFailed():
            event, error, status, wait = "connection.failed", PasswordError.UNAVAILABLE, 502, 0
        case _:
            event, error, status, wait = "login.refused", PasswordError.WRONG, 422, 0
    refuse(current, event, problem.code, status, detail=problem.detail, transaction=transaction)
    return password_page(current, transaction, error=error, status=status, retry_after=wait)


# --- Which account, and a password that must be changed -------------------------------------------------------------


@views.get("/login/account")
def select_account() -> AnyReply:
    current = visit()
    transaction = load(current, "query")
    following = current.runtime.sign_in.ask(current.tenant, transaction)
    if following.step is not Step.SELECT_ACCOUNT or following.user is None:
        return follow(current, following)
    entry = current.tenant.connection(transaction.connection or "")
    choice = AccountChoice(following.user.id, following.user.label, entry.title if entry else "")
    return page(current, SelectAccountPage((choice,)), tx=transaction.id)


@views.post("/login/account")
def select_account_post() -> AnyReply:
    current = visit()
    form = SelectAccountForm.of(current)
    transaction = load(current)
    if form.text("account") and form.text("account") == transaction.user:
        after = transaction.select()
    else:
        after = transaction.reauthenticate()
    return follow(current, keep(current, transaction, current.runtime.sign_in.ask(current.tenant, after)))


def _must_change(current: Visit, source: str) -> tuple[Transaction, Next]:
    transaction = load(current, source)
    return transaction, current.runtime.sign_in.ask(current.tenant, transaction)


@views.get("/login/must-change")
def must_change() -> AnyReply:
    current = visit()
    transaction, following = _must_change(current, "query")
    if following.step is not Step.CHANGE_PASSWORD or following.user is None:
        return follow(current, following)
    content = MustChangePage(following.user.label, field(current, following.user), ask_current=True)
    return page(current, content, tx=transaction.id)


@views.post("/login/must-change")
def must_change_post() -> AnyReply:
    """A password that an administrator set is replaced; the one that was just typed proves who does it."""
    current = visit()
    form = MustChangeForm.of(current)
    transaction, following = _must_change(current, "form")
    user = following.user
    if following.step is not Step.CHANGE_PASSWORD or user is None:
        return follow(current, following)
    new = form.text("password")
    blank = MustChangePage(user.label, field(current, user), ask_current=True)
    if problem := different(current, form):
        content = replace(blank, new=field(current, user, problem))
        return page(current, content, tx=transaction.id, status=422)
    try:
        changed = current.runtime.passwords.change(
            current.tenant, user, normalise(form.text("current_password")), new, current.how
        )
    except PasswordRefused as refusal:
        content = replace(blank, new=field(current, user, refused(refusal)))
        return page(current, content, tx=transaction.id, status=422)
    except WrongPassword:
        return page(current, replace(blank, wrong_current=True), tx=transaction.id, status=422)
    except Throttled as wait:
        return page(current, replace(blank, retry_after=wait.retry_after), tx=transaction.id, status=429)
    except Busy:
        return page(current, replace(blank, busy=True), tx=transaction.id, status=503)
    current.know_device(changed)
    identity = transaction.identity
    if identity is None:
        return go(current, "/login", tx=transaction.id)
    renewed = transaction.reauthenticate().choose(identity.connection).identify(identity, changed.id, changed.epoch)
    return follow(current, keep(current, transaction, current.runtime.sign_in.ask(current.tenant, renewed)))
