"""Somebody cannot sign in: asking for a reset here, or being sent to where it happens."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import Blueprint

from broker.core.connection import LocalReset, Redirect, ResetHow
from broker.core.errors import (
    ChallengeNeeded,
    ConnectionFailed,
    InvalidIdentifier,
    InvalidTransition,
    PageExpired,
    Throttled,
)
from broker.core.tenant import Client
from broker.core.transaction import Transaction
from broker.core.values import ClientId, ConnectionId
from broker.flows.recovery import Elsewhere
from broker.web.answers import away, go, page, upstream_failed, usual
from broker.web.challenge import origin
from broker.web.forms import ElsewhereForm, ForgotForm
from broker.web.lane import often
from broker.web.login import identifiers
from broker.web.pages_recovery import ForgotError, ForgotPage, ResetElsewherePage, WhyElsewhere
from broker.web.telling import refuse
from broker.web.visit import Visit, visit

if TYPE_CHECKING:
    from broker.web.reply import AnyReply, Reply

views = Blueprint("homerealm_recovery", __name__)


def waiting(current: Visit, source: str) -> Transaction | None:
    """The login behind this page, if it still waits: without one, recovery works all the same."""
    tx = (current.form if source == "form" else current.query).get("tx", "")
    try:
        transaction = current.runtime.sign_in.load(current.tenant, tx, current.browser)
        current.belongs_to(transaction)
    except PageExpired:
        return None
    return current.runtime.sign_in.rested(transaction, lambda: current.visitor)


def _home_login(current: Visit) -> Transaction:
    """For a visitor without a login of an app: one to our own account page. Not stored yet."""
    client = current.tenant.internal_client
    current.client = client
    request = {"client_id": client.client_id, "redirect_uri": f"{current.tenant.issuer}/account", "scope": "openid"}
    flow = current.runtime.sign_in
    opened = flow.begin(current.tenant, client, request, current.newcomer, current.runtime.settings.version).transaction
    return opened.reauthenticate() if opened.identity is not None else opened


def _save(current: Visit, before: Transaction | None, after: Transaction) -> None:
    """A login as it goes on: stored for the first time where there was none."""
    if before is None:
        current.runtime.sign_in.open(after)
    else:
        current.runtime.sign_in.keep(before, after)


@often(views, "/forgot", "GET")
def forgot(current: Visit) -> AnyReply:
    transaction = waiting(current, "query")
    chosen, identifier = None, transaction.identifier if transaction else None
    if "other" in current.query:
        identifier = None  # they said that it is another account
    elif transaction is not None and transaction.identity is None and transaction.connection is not None:
        chosen = transaction.connection
    elif identifier is None and current.device.connection:
        chosen = ConnectionId(current.device.connection)
    entry = current.runtime.recovery.route(current.tenant, current.client, chosen=chosen, identifier=identifier)
    if entry is not None:
        tx = transaction.id if transaction else ""
        return go(current, "/forgot/elsewhere", connection=entry.id, tx=tx)
    return forgot_page(current, transaction)


def forgot_page(
    current: Visit, transaction: Transaction | None, *, error: ForgotError | None = None, typed: str = "",
    status: int = 200, retry_after: int = 0,
) -> Reply:  # fmt: skip
    known, tx = current.signed_in, transaction.id if transaction else ""
    identifier = typed or (transaction.identifier if transaction else "") or current.device.identifier

    def content() -> ForgotPage:
        return ForgotPage(
            identifier=identifier,
            identifiers=identifiers(current.tenant, _local_connection(current)),
            error=error,
            retry_after=retry_after,
            signed_in_as=known[1].label if known else "",
            lifetime=current.tenant.rules.reset.lifetime,
        )

    if error is None and known is None:
        return usual(current, tx, ("forgot", bool(identifier)), identifier, content)
    return page(current, content(), tx=tx, status=status, retry_after=retry_after)


def _local_connection(current: Visit) -> str | None:
    """The first way to sign in whose passwords are reset here."""
    offered = current.tenant.connections_of(current.client)
    resets_here = (one.id for one in offered if _resets_here(current, one.id))
    return next(resets_here, None)


def _resets_here(current: Visit, connection: ConnectionId) -> bool:
    return isinstance(current.runtime.connection(current.tenant, connection), LocalReset)


@often(views, "/forgot", "POST")
def forgot_post(current: Visit) -> AnyReply:
    """The same answer for everybody: back on the log-in screen (SECURITY 7)."""
    form = ForgotForm.sent(current)
    transaction = waiting(current, "form")
    typed = form.text("username").strip()
    if not typed:
        return forgot_page(current, transaction, error=ForgotError.EMPTY, status=422)
    login = transaction or _home_login(current)
    try:
        answer = current.runtime.recovery.ask(
            current.tenant,
            current.client,
            typed,
            current.how,
            origin(current, "forgot"),
            transaction=login,
            browser=current.browser,
        )
    except InvalidIdentifier:
        return forgot_page(current, transaction, error=ForgotError.MALFORMED, typed=typed[:254], status=422)
    except ChallengeNeeded as needed:
        refuse(current, "attempts.challenged", needed.code, needed.status)
        return forgot_page(current, transaction, error=ForgotError.CHALLENGE, typed=typed, status=403)
    except Throttled as wait:
        refuse(current, "attempts.throttled", wait.code, wait.status)
        return forgot_page(
            current, transaction, error=ForgotError.THROTTLED, typed=typed, status=429, retry_after=wait.retry_after
        )
    if isinstance(answer, Elsewhere):
        _save(current, transaction, login.note(None, typed))
        return go(current, "/forgot/elsewhere", connection=answer.connection.id, tx=login.id)
    ready = login.reauthenticate() if login.identity is not None else login.forget_choice()
    _save(current, transaction, ready.note("mail_sent", typed))
    _count(current, "reset.asked", login)
    return go(current, "/login", tx=login.id)


@views.get("/change-password")
def change_password() -> AnyReply:
    """Where password managers send people: change it if signed in, else the way back in."""
    current = visit()
    known = current.signed_in
    if known is not None and known[1].has_password:
        return go(current, "/account/password")
    if known is not None:
        return go(current, "/forgot/elsewhere", connection=known[0].identity.connection)
    return go(current, "/forgot")


# --- The password lives at a provider -----------------------------------------------------------------------------


@views.get("/forgot/elsewhere")
def elsewhere() -> AnyReply:
    """Why, the provider's real host name, its reset page, and "Continue with X". Nothing was looked up for it."""
    current = visit()
    transaction = waiting(current, "query")
    by_mail = "client_id" in current.query or transaction is None
    if transaction is None:
        client = current.tenant.clients.get(ClientId(current.query.get("client_id", "")))
        current.client = client
        transaction = _login_for_client(current, client)
    connection = current.query.get("connection", "")
    why = WhyElsewhere.MAIL if by_mail else WhyElsewhere.CONNECTION
    if not by_mail and transaction.identifier:
        route = current.runtime.recovery.route(
            current.tenant, current.client, chosen=None, identifier=transaction.identifier
        )
        why = WhyElsewhere.DOMAIN if route is not None and route.id == connection else why
    return elsewhere_page(current, transaction, connection, why)


def _login_for_client(current: Visit, client: Client | None) -> Transaction:
    """A mail opened without its login: sign in to ourselves, and go on to the app by its own address."""
    opened = _home_login(current)
    if client is not None:
        home = f"{current.tenant.issuer}/home?client_id={client.client_id}"
        opened = replace(opened, request={**opened.request, "redirect_uri": home})
    current.runtime.sign_in.open(opened)
    return opened


def _count(current: Visit, event: str, login: Transaction, connection: str = "") -> None:
    """A step on the way to a new password. Who it is for is nobody's business but the worker's."""
    current.runtime.log(event, current.reference, tenant=current.tenant.id, client=login.client, connection=connection)


def elsewhere_page(current: Visit, transaction: Transaction, connection: str, why: WhyElsewhere) -> Reply:
    found = current.runtime.recovery.elsewhere(current.tenant, connection, transaction.identifier)
    _count(current, "reset.elsewhere", transaction, connection)
    return page(
        current,
        ResetElsewherePage(
            connection=connection,
            provider=found.provider,
            how=found.how,
            why=why,
            url=found.url if found.how is ResetHow.DEEP_LINK else None,
            host=urlsplit(found.url).hostname or "" if found.url else "",
            text=found.text or "",
            change_only=found.change_only,
            identifier=transaction.identifier or "",
            can_continue=any(one.id == connection for one in current.tenant.connections_of(current.client)),
            local=_local_connection(current) is not None,
        ),
        tx=transaction.id,
    )


@views.post("/reset-elsewhere")
def depart_to_reset() -> AnyReply:
    """`reset.how: oidc_forgot`: a sign-in request on the provider's reset page, which comes back to our callback."""
    current = visit()
    form = ElsewhereForm.of(current)
    transaction = waiting(current, "form")
    if transaction is None:
        raise PageExpired
    flow = current.runtime.sign_in
    connection = form.text("connection")
    before = transaction.reauthenticate() if transaction.identity is not None else transaction
    chosen = before.choose(ConnectionId(connection))
    nonce = current.runtime.entropy.token(16)
    try:
        found = current.runtime.recovery.elsewhere(
            current.tenant, connection, transaction.identifier,
            state=f"{transaction.id}.{nonce}", return_url=f"{current.tenant.issuer}/callback/{connection}",
        )  # fmt: skip
    except ConnectionFailed as failure:
        flow.keep(transaction, chosen)
        return upstream_failed(current, chosen, failure)
    if found.url is None or found.how is not ResetHow.OIDC_FORGOT:
        raise InvalidTransition(transaction.id)
    departure = Redirect(found.url, found.private)
    flow.keep(transaction, chosen.depart({**departure.private, "_state": nonce}))
    return away(departure.url)
