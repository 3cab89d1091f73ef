"""/account: who am I, change password, where am I signed in, sign out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from flask import Blueprint

from broker.core.connection import LocalReset
from broker.core.errors import Busy, PageExpired, Throttled
from broker.core.passwords import normalise
from broker.core.values import Session, User
from broker.flows.passwords import PasswordRefused, WrongPassword
from broker.web.answers import go, page
from broker.web.authorize import begin_internal
from broker.web.forms import AccountPasswordForm, SessionForm, SessionsForm
from broker.web.new_password import different, field, refused
from broker.web.pages_account import AccountNotice, AccountPage, AccountPasswordPage, CurrentError, SessionRow
from broker.web.visit import Visit, visit

if TYPE_CHECKING:
    from broker.web.reply import AnyReply

views = Blueprint("homerealm_account", __name__)


def _me(current: Visit) -> tuple[Session, User]:
    """Raises `PageExpired` on a form whose session is over: its page explains, and leads back."""
    known = current.signed_in
    if known is None:
        raise PageExpired(code="session.gone")
    return known


@views.get("/account")
def account() -> AnyReply:
    current = visit()
    known = current.signed_in
    if known is None:
        return begin_internal(current, "/account")
    session, user = known
    current.client = current.tenant.internal_client
    entry = current.tenant.connection(session.identity.connection)
    connection = current.runtime.connection(current.tenant, session.identity.connection)
    notice = current.query.get("notice", "")
    local = connection is not None and isinstance(connection, LocalReset)
    where = urlencode({"connection": session.identity.connection})
    content = AccountPage(
        label=user.label,
        sessions=_sessions(current, session, user),
        full_name=str(user.profile.get("name") or ""),
        username=user.username or "",
        email=user.email or "",
        email_verified=user.email_verified,
        connection=entry.title if entry else "",
        has_password=user.has_password and local,
        elsewhere=None if local else f"{current.base}/forgot/elsewhere?{where}",
        admin=current.runtime.desk.role(current.tenant, session, user) is not None,
        notice=AccountNotice(notice) if notice in set(AccountNotice) else None,
    )
    return page(current, content)


def _sessions(current: Visit, session: Session, user: User) -> tuple[SessionRow, ...]:
    def names(one: Session) -> tuple[str, ...]:
        known = (current.tenant.clients.get(client) for client in one.clients)
        return tuple(client.client_name for client in known if client)

    alive = [one for one in current.runtime.sessions.of(user.id) if one.epoch == user.epoch]
    return tuple(SessionRow(one.id, one.agent, one.authenticated_at, one.id == session.id, names(one)) for one in alive)


@views.post("/account/sessions")
def end_one() -> AnyReply:
    current = visit()
    form = SessionForm.of(current)
    session, user = _me(current)
    current.runtime.sign_out.one_of(current.tenant, user, form.text("session"))
    if form.text("session") == session.id:
        current.jar.sign_out()
    return go(current, "/account", notice="session_ended")


@views.post("/account/sessions/others")
def end_others() -> AnyReply:
    current = visit()
    SessionsForm.of(current)
    session, user = _me(current)
    for one in current.runtime.sessions.of(user.id):
        if one.id != session.id:
            current.runtime.sign_out.one_of(current.tenant, user, one.id)
    return go(current, "/account", notice="others_signed_out")


@views.get("/account/password")
def password() -> AnyReply:
    current = visit()
    known = current.signed_in
    if known is None:
        return begin_internal(current, "/account")
    if not known[1].has_password:
        return go(current, "/account")
    current.client = current.tenant.internal_client
    return page(current, AccountPasswordPage(known[1].label, field(current, known[1])))


@views.post("/account/password")
def password_post() -> AnyReply:
    current = visit()
    form = AccountPasswordForm.of(current)
    session, user = _me(current)
    current.client = current.tenant.internal_client
    blank = AccountPasswordPage(user.label, field(current, user))
    if not form.text("current_password"):
        return page(current, replace(blank, error=CurrentError.EMPTY), status=422)
    if problem := different(current, form):
        return page(current, replace(blank, new=field(current, user, problem)), status=422)
    try:
        changed = current.runtime.passwords.change(
            current.tenant, user, normalise(form.text("current_password")), form.text("password"), current.how
        )
    except PasswordRefused as refusal:
        return page(current, replace(blank, new=field(current, user, refused(refusal))), status=422)
    except WrongPassword:
        return page(current, replace(blank, error=CurrentError.WRONG), status=422)
    except Throttled as wait:
        throttled = replace(blank, error=CurrentError.THROTTLED, retry_after=wait.retry_after)
        return page(current, throttled, status=429)
    except Busy:
        return page(current, replace(blank, error=CurrentError.BUSY), status=503)
    # Everything older is dead, this session too: the browser that did it gets a new one.
    fresh = replace(session.identity, at=current.runtime.clock.now(), methods=("pwd",))
    _, secret = current.runtime.sign_in.start_session(current.tenant, changed, fresh, current.visitor)
    current.jar.sign_in(secret)
    current.know_device(changed)
    return go(current, "/account", notice="password_changed")
