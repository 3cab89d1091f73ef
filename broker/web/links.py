"""Mailed links: opened by people, by mail scanners, on another device, too late (SECURITY 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from flask import Blueprint

from broker.core.errors import Busy, PageExpired, Throttled
from broker.core.tenant import AfterReset
from broker.core.ticket import Purpose, Ticket, TicketState
from broker.core.transaction import Transaction
from broker.flows.passwords import PasswordRefused
from broker.flows.redemption import LinkRefused, Opened, Redeemed
from broker.web.answers import away, follow, go, home_of, keep, page
from broker.web.forms import ResetForm
from broker.web.new_password import different, field, refused
from broker.web.pages import NewPasswordError
from broker.web.pages_recovery import LinkProblemPage, ResetDonePage, ResetPage, WhyNewPassword
from broker.web.telling import refuse
from broker.web.visit import Visit, visit

if TYPE_CHECKING:
    from broker.web.reply import AnyReply, Reply

views = Blueprint("homerealm_links", __name__)

WHY = {
    Purpose.RESET: WhyNewPassword.RESET,
    Purpose.VERIFY_EMAIL: WhyNewPassword.INVITE,
    Purpose.INVITE: WhyNewPassword.INVITE,
    Purpose.SIGN_IN_ONCE: WhyNewPassword.LINK,
}
PATHS = {
    Purpose.RESET: "/reset",
    Purpose.VERIFY_EMAIL: "/verify",
    Purpose.INVITE: "/invite",
    Purpose.SIGN_IN_ONCE: "/link",
}


@views.get("/reset")
def reset() -> AnyReply:
    return opened(Purpose.RESET)


@views.get("/verify")
def verify() -> AnyReply:
    return opened(Purpose.VERIFY_EMAIL)


@views.get("/invite")
def invite() -> AnyReply:
    return opened(Purpose.INVITE)


@views.get("/link")
def link() -> AnyReply:
    return opened(Purpose.SIGN_IN_ONCE)


def opened(purpose: Purpose) -> AnyReply:
    """The secret leaves the address at once: into a short cookie, and on to a clean address. Nothing is consumed."""
    current = visit()
    if "ticket" in current.query:
        lifetime = int(current.tenant.rules.reset.lifetime.total_seconds())
        current.jar.keep_link(purpose.value, current.query["ticket"][:200], lifetime)
        return go(current, PATHS[purpose])
    secret = _secret(current, purpose)
    found = current.runtime.redemption.open(current.tenant, secret, purpose) if secret else Opened(TicketState.MANGLED)
    if found.state is not TicketState.VALID or found.user is None:
        return problem(current, found, purpose)
    _say(current, "reset.opened", purpose, found.ticket)
    return form_page(current, found, purpose)


def _say(current: Visit, event: str, purpose: Purpose, ticket: Ticket | None) -> None:
    current.runtime.log(
        event, current.reference, purpose=purpose.value, tenant=current.tenant.id,
        connection=str(ticket.connection or "") if ticket else "", client=str(ticket.client or "") if ticket else "",
    )  # fmt: skip


def _secret(current: Visit, purpose: Purpose) -> str:
    kind, _, secret = (current.jar.link or "").partition(".")
    return secret if kind == purpose.value else ""


def form_page(
    current: Visit, found: Opened, purpose: Purpose, *, errors: tuple[NewPasswordError, ...] = (), status: int = 200,
    busy: bool = False, retry_after: int = 0,
) -> Reply:  # fmt: skip
    user, ticket, known = found.user, found.ticket, current.signed_in
    if user is None or ticket is None:
        return problem(current, found, purpose)
    current.client = current.tenant.clients.get(ticket.client) if ticket.client else None
    content = ResetPage(
        label=user.label,
        new=field(current, user, errors),
        why=WHY[purpose],
        expires_at=ticket.expires_at,
        signed_in_as=known[1].label if known and known[1].id != user.id else "",
        busy=busy,
    )
    return page(current, content, status=status, retry_after=retry_after)


def problem(current: Visit, found: Opened, purpose: Purpose, *, typing: bool = False) -> Reply:
    """Why a link does not work, and what to do. Says nothing about any account."""
    ticket = found.ticket
    refused_with = f"ticket.{found.state}"
    refuse(current, "reset.refused", refused_with, LinkRefused(found).status)
    ended = {
        TicketState.EXPIRED: ticket.expires_at if ticket else None,
        TicketState.USED: ticket.used_at if ticket else None,
        TicketState.REPLACED: ticket.replaced_at if ticket else None,
    }
    content = LinkProblemPage(
        state=found.state,
        purpose=purpose,
        issued_at=ticket.issued_at if ticket else None,
        ended_at=ended.get(found.state),
        lifetime=current.tenant.rules.reset.lifetime,
        typing=typing,
    )
    return page(current, content, status=LinkRefused(found).status)


@views.post("/reset")
def reset_post() -> AnyReply:
    """The one request that consumes a link: it carries the new password."""
    current = visit()
    form = ResetForm.of(current)
    kind, _, secret = (current.jar.link or "").partition(".")
    if kind not in {purpose.value for purpose in PATHS} or not secret:
        return problem(current, Opened(TicketState.MANGLED), Purpose.RESET)
    purpose, flow = Purpose(kind), current.runtime.redemption
    if errors := different(current, form):
        found = flow.open(current.tenant, secret, purpose)
        return form_page(current, found, purpose, errors=errors, status=422)
    try:
        done = flow.redeem(current.tenant, secret, purpose, form.text("password"), current.how, browser=current.browser)
    except LinkRefused as refusal:
        return problem(current, refusal.opened, purpose, typing=True)
    except PasswordRefused as refusal:
        found = flow.open(current.tenant, secret, purpose)
        return form_page(current, found, purpose, errors=refused(refusal), status=422)
    except (Busy, Throttled) as wait:
        event = "service.busy" if isinstance(wait, Busy) else "attempts.throttled"
        refuse(current, event, wait.code, wait.status)
        found = flow.open(current.tenant, secret, purpose)
        return form_page(current, found, purpose, status=wait.status, busy=True, retry_after=wait.retry_after)
    current.jar.drop_link()
    current.know_device(done.user)
    _say(current, "reset.done", purpose, done.ticket)
    return home(current, done)


def home(current: Visit, done: Redeemed) -> AnyReply:
    """And then home: `rules.reset.after` (CONTRACT 2)."""
    current.client = done.client
    if done.after is AfterReset.SIGN_IN_PAGE:
        return _to_sign_in(current, done)
    old = current.visitor
    session, secret = current.runtime.sign_in.start_session(current.tenant, done.user, done.identity, old)
    current.jar.sign_in(secret)
    current.signed_in = session, done.user
    waiting = _still_wanted(current, done.transaction)
    if waiting is not None:
        clean = waiting.reauthenticate() if waiting.identity is not None else waiting
        known = clean.note("password_changed", done.user.label).recognise(
            done.identity, done.user.id, done.user.epoch, session.id
        )
        following = keep(current, waiting, current.runtime.sign_in.ask(current.tenant, known))
        if done.after is AfterReset.APP:
            return follow(current, following)
        url = f"{current.base}/continue?{urlencode({'tx': waiting.id})}"
        return page(current, ResetDonePage(signed_in=True, continue_url=url), tx=waiting.id)
    if done.ticket.purpose is Purpose.SIGN_IN_ONCE:
        return go(current, "/account", notice="password_changed")
    door = home_of(current, done.client) or (f"{current.base}/account" if done.client is None else None)
    return page(current, ResetDonePage(signed_in=True, continue_url=door, other_device=_elsewhere(current, done)))


def _still_wanted(current: Visit, waiting: Transaction | None) -> Transaction | None:
    """The login that waits, unless its app is not configured any more: the new password is saved all the same."""
    if waiting is None:
        return None
    try:
        current.belongs_to(waiting)
    except PageExpired:
        return None
    return waiting


def _elsewhere(current: Visit, done: Redeemed) -> bool:
    """Whether an app's request waits in another browser than this one."""
    return done.client is not None and done.ticket.browser != current.browser


def _to_sign_in(current: Visit, done: Redeemed) -> AnyReply:
    """The login page of the login that waits, identifier filled in; elsewhere, words and the app's own door."""
    waiting, known = done.transaction, current.signed_in
    if known is not None:
        # The page said that the account of the link takes this browser over: nobody continues as somebody else.
        current.runtime.sign_out.end(current.tenant, known[0])
        current.jar.sign_out()
    if waiting is not None:
        clean = waiting.reauthenticate() if waiting.identity is not None else waiting.forget_choice()
        current.runtime.sign_in.keep(waiting, clean.note("password_changed", done.user.label))
        return go(current, "/login", tx=waiting.id)
    url = home_of(current, done.client) or (f"{current.base}/login" if done.client is None else None)
    return page(current, ResetDonePage(signed_in=False, continue_url=url, other_device=_elsewhere(current, done)))


@views.get("/home")
def to_the_app() -> AnyReply:
    """After signing in from a mail: on to the app that it was about."""
    current = visit()
    client = current.tenant.clients.get(current.query.get("client_id", ""))  # type: ignore[call-overload]
    door = home_of(current, client)
    return away(door) if door else go(current, "/account")
