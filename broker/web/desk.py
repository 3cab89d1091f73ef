"""/admin: the support desk. Who may is said in the tenant's YAML; what was done is in the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint

from broker.core.errors import Busy, Denied, NotFound, PageExpired, Throttled
from broker.core.passwords import normalise
from broker.core.redirects import local_path
from broker.core.tenant import Role
from broker.core.ticket import AdminConfirmed
from broker.core.values import Actor, Session, User
from broker.flows.desk import NotPossible
from broker.flows.passwords import PasswordRefused, WrongPassword
from broker.web.answers import go, page
from broker.web.authorize import begin_internal
from broker.web.forms import AdminConfirmForm, AdminSetPasswordForm, admin_form
from broker.web.new_password import different, field, refused
from broker.web.pages import NewPasswordError
from broker.web.pages_account import CurrentError
from broker.web.pages_desk import (
    AdminAction,
    AdminConfirmPage,
    AdminNotice,
    AdminSetPasswordPage,
    AdminUserPage,
    AdminUsersPage,
    UserRow,
)
from broker.web.visit import Visit, visit

if TYPE_CHECKING:
    from broker.web.reply import AnyReply, Reply

views = Blueprint("homerealm_desk", __name__)

SHOWN = 50
NEEDS_CONFIRMATION = frozenset(
    {AdminAction.SET_PASSWORD, AdminAction.LOGIN_LINK, AdminAction.BLOCK, AdminAction.SIGN_OUT}
)
"""Each behind the administrator's own password. Sending somebody the mail that they could ask for is not."""


def _desk(current: Visit) -> tuple[Session, User, Role]:
    """The administrator at work. Raises `Denied` for everybody else."""
    known = current.signed_in
    if known is None:
        raise PageExpired(code="session.gone")
    role = current.runtime.desk.role(current.tenant, *known)
    if role is None:
        raise Denied(code="desk.not_admin")
    current.client = current.tenant.internal_client
    return *known, role


def _row(current: Visit, user: User) -> UserRow:
    entry = current.tenant.connection(user.connection or "")
    if entry is None:
        ids = current.runtime.desk.identities(user)
        entry = current.tenant.connection(ids[0]) if ids else None
    return UserRow(
        user.id, user.label, user.username or "", user.email or "", str(user.profile.get("name") or ""),
        entry.title if entry else "", user.blocked,
    )  # fmt: skip


@views.get("/admin")
def home() -> AnyReply:
    current = visit()
    if current.signed_in is None:
        return begin_internal(current, "/admin")
    _desk(current)
    return go(current, "/admin/users")


@views.get("/admin/users")
def users() -> AnyReply:
    current = visit()
    if current.signed_in is None:
        return begin_internal(current, "/admin")
    _desk(current)
    query = current.query.get("q", "").strip()[:254]
    found = current.runtime.desk.search(current.tenant, query) if query else None
    rows = None if found is None else tuple(_row(current, one) for one in found[:SHOWN])
    return page(current, AdminUsersPage(query, rows, more=found is not None and len(found) >= SHOWN))


@views.get("/admin/users/<id>")
def user(id: str) -> AnyReply:
    current = visit()
    if current.signed_in is None:
        return begin_internal(current, "/admin")
    _desk(current)
    notice = current.query.get("notice", "")
    return _user_page(current, id, AdminNotice(notice) if notice in set(AdminNotice) else None)


def _user_page(
    current: Visit, id: str, notice: AdminNotice | None = None, *, link: str = "", status: int = 200
) -> Reply:
    _, _, role = _desk(current)
    target = current.runtime.desk.user(current.tenant, id)
    alive = [one for one in current.runtime.sessions.of(target.id) if one.epoch == target.epoch]
    until = current.runtime.clock.now() + current.tenant.rules.reset.lifetime if link else None
    content = AdminUserPage(
        _row(current, target), _actions(current, role, target), target.created_at, target.email_verified,
        target.has_password, target.must_change_password, len(alive), notice, link, until,
    )  # fmt: skip
    return page(current, content, status=status)


def _actions(current: Visit, role: Role, target: User) -> tuple[AdminAction, ...]:
    """What the menu offers: only what can be done to this account, by this role."""
    try:
        current.runtime.desk.may(current.tenant, role, target)
    except Denied:
        return ()
    known = current.signed_in
    myself = known is not None and known[1].id == target.id  # nobody locks themselves out
    local = target.connection is not None and current.tenant.connection(target.connection) is not None
    offered = [AdminAction.SEND_RESET] if target.email and not target.blocked else []
    if local and target.has_password:
        offered.append(AdminAction.SET_PASSWORD)
    if local and not target.blocked and role.rank >= Role.ADMIN.rank:
        offered.append(AdminAction.LOGIN_LINK)
    offered.append(AdminAction.SIGN_OUT)
    if role.rank >= Role.ADMIN.rank and not myself:
        offered.append(AdminAction.UNBLOCK if target.blocked else AdminAction.BLOCK)
    return tuple(offered)


def _permitted(current: Visit, id: str, action: AdminAction) -> tuple[Session, User, User]:
    """Who does it to whom. Raises `Denied`, `NotFound`."""
    session, admin, role = _desk(current)
    target = current.runtime.desk.user(current.tenant, id)
    if action not in _actions(current, role, target):
        raise Denied(code="desk.rank")
    return session, admin, target


def _confirm(current: Visit, action: AdminAction, target: User, proof: AdminConfirmed | None) -> AnyReply | None:
    """`Confirm it's you`, when the last time is too long ago."""
    if action not in NEEDS_CONFIRMATION or proof is not None:
        return None
    path = f"/admin/users/{target.id}"
    return confirm_page(
        current, action, target, f"{path}/set-password" if action is AdminAction.SET_PASSWORD else f"{path}?do={action}"
    )


def confirm_page(
    current: Visit, action: AdminAction, target: User, next: str, *, error: CurrentError | None = None,
    status: int = 200, retry_after: int = 0,
) -> Reply:  # fmt: skip
    session, admin, _ = _desk(current)
    entry = current.tenant.connection(session.identity.connection)
    elsewhere = "" if admin.has_password else (entry.title if entry else session.identity.connection)
    content = AdminConfirmPage(
        admin.label, action, _row(current, target), next, error, retry_after, elsewhere
    )  # fmt: skip
    return page(current, content, status=status)


@views.post("/admin/confirm")
def confirm() -> AnyReply:
    current = visit()
    form = AdminConfirmForm.of(current)
    session, admin, _ = _desk(current)
    next = local_path(form.text("next"), "/admin")
    path, _, wanted = next.partition("?do=")
    parts = path.split("/")
    if parts[:3] != ["", "admin", "users"] or len(parts) < 4:
        raise NotFound
    target = current.runtime.desk.user(current.tenant, parts[3])
    if not admin.has_password:
        connection = session.identity.connection
        return begin_internal(current, f"/admin/users/{target.id}", prompt="login", connection=connection)
    action = AdminAction(wanted) if wanted in set(AdminAction) else AdminAction.SET_PASSWORD
    try:
        secret = current.runtime.desk.confirm(
            current.tenant, session, current.jar.session or "", admin, normalise(form.text("password")), current.how
        )
    except WrongPassword:
        wrong = CurrentError.WRONG if form.text("password") else CurrentError.EMPTY
        return confirm_page(current, action, target, next, error=wrong, status=422)
    except Throttled as wait:
        return confirm_page(current, action, target, next, error=CurrentError.THROTTLED, status=429,
                            retry_after=wait.retry_after)  # fmt: skip
    except Busy:
        return confirm_page(current, action, target, next, error=CurrentError.BUSY, status=503)
    current.jar.sign_in(secret)
    return go(current, path)


@views.post("/admin/users/<id>/send-reset")
def send_reset(id: str) -> AnyReply:
    current = visit()
    admin_form(AdminAction.SEND_RESET).of(current)
    _, admin, target = _permitted(current, id, AdminAction.SEND_RESET)
    try:
        current.runtime.desk.send_reset(current.tenant, target, Actor.admin(admin.id), current.how)
    except NotPossible as refusal:
        too_soon = refusal.code == "mail.too_soon"
        return go(current, f"/admin/users/{id}", notice="reset_too_soon" if too_soon else "no_address")
    return go(current, f"/admin/users/{id}", notice="reset_sent")


@views.get("/admin/users/<id>/set-password")
def set_password(id: str) -> AnyReply:
    current = visit()
    if current.signed_in is None:
        return begin_internal(current, "/admin")
    session, admin, target = _permitted(current, id, AdminAction.SET_PASSWORD)
    proof = current.runtime.desk.confirmed(session, admin, target)
    asked = _confirm(current, AdminAction.SET_PASSWORD, target, proof)
    return asked or _set_page(current, target)


def _set_page(
    current: Visit, target: User, errors: tuple[NewPasswordError, ...] = (), *, status: int = 200, busy: bool = False
) -> Reply:
    return page(
        current, AdminSetPasswordPage(_row(current, target), field(current, target, errors), busy), status=status
    )


@views.post("/admin/users/<id>/set-password")
def set_password_post(id: str) -> AnyReply:
    current = visit()
    form = AdminSetPasswordForm.of(current)
    session, admin, target = _permitted(current, id, AdminAction.SET_PASSWORD)
    proof = current.runtime.desk.confirmed(session, admin, target)
    if proof is None:
        return confirm_page(current, AdminAction.SET_PASSWORD, target, f"/admin/users/{id}/set-password", status=403)
    if errors := different(current, form):
        return _set_page(current, target, errors, status=422)
    try:
        current.runtime.desk.set_password(current.tenant, target, form.text("password"), proof, current.how)
    except PasswordRefused as refusal:
        return _set_page(current, target, refused(refusal), status=422)
    except Busy:
        return _set_page(current, target, status=503, busy=True)
    return go(current, f"/admin/users/{id}", notice="password_set")


@views.post("/admin/users/<id>/<action>")
def act(id: str, action: str) -> AnyReply:
    """The entries of the More menu that are one press each."""
    current = visit()
    if action not in {AdminAction.LOGIN_LINK, AdminAction.SIGN_OUT, AdminAction.BLOCK, AdminAction.UNBLOCK}:
        raise NotFound
    wanted = AdminAction(action)
    admin_form(action).of(current)
    session, admin, target = _permitted(current, id, wanted)
    if asked := _confirm(current, wanted, target, current.runtime.desk.confirmed(session, admin, target)):
        return asked
    by, desk = Actor.admin(admin.id), current.runtime.desk
    if wanted is AdminAction.LOGIN_LINK:
        return _user_page(current, id, AdminNotice.LOGIN_LINK, link=desk.login_link(current.tenant, target, by))
    if wanted is AdminAction.SIGN_OUT:
        current.runtime.sign_out.everywhere(current.tenant, target, by)
        return go(current, f"/admin/users/{id}", notice="signed_out")
    desk.block(current.tenant, target, by, blocked=wanted is AdminAction.BLOCK)
    return go(current, f"/admin/users/{id}", notice="blocked" if wanted is AdminAction.BLOCK else "unblocked")
