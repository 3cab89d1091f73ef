"""Signing out (OpenID Connect RP-Initiated Logout 1.0)."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from flask import Blueprint, request

from broker.core.values import Session
from broker.oidc.logout import EndSession
from broker.web.answers import away, page
from broker.web.forms import SignOutForm
from broker.web.pages import SignedOutPage, SignOutPage
from broker.web.protocol import protocol_request
from broker.web.visit import Visit, visit

if TYPE_CHECKING:
    from broker.web.reply import AnyReply

views = Blueprint("homerealm_session", __name__)


@views.route("/end-session", methods=["GET", "POST"])
def end_session() -> AnyReply:
    """An app signs somebody out; or they answer our question about it."""
    current = visit()
    if request.method == "POST" and "decision" in current.form:
        return _decided(current)
    asked = current.runtime.provider.end_session(current.tenant, protocol_request(current))
    current.client = asked.client
    known = current.signed_in
    if known is None:
        current.jar.sign_out()
        return _after(current, None, asked.redirect)
    if _told_by_its_app(asked, known[0]) or _came_by_themselves(current):
        return _sign_out(current, known[0], asked.redirect)
    again = tuple((k, v) for k, v in (*current.query.pairs, *current.form.pairs) if k in _REPEATED)
    return page(current, SignOutPage(known[1].label, again))


_REPEATED = ("id_token_hint", "client_id", "post_logout_redirect_uri", "state", "logout_hint")


def _came_by_themselves(current: Visit) -> bool:
    """The bare address, and not by a link or form of another site: those could sign out whoever looks at them.

    Browsers say where a request comes from (Fetch Metadata); programs that do not are nobody's victims.
    """
    asked_elsewhere = request.headers.get("Sec-Fetch-Site", "none") == "cross-site"
    return not (current.query or current.form or asked_elsewhere)


def _told_by_its_app(asked: EndSession, session: Session) -> bool:
    """The hint proves that the app was given a token in this very session; else we ask the person."""
    if not asked.confirmed:
        return False
    return asked.session == session.id if asked.session else asked.subject == session.user


def _decided(current: Visit) -> AnyReply:
    form = SignOutForm.of(current)
    asked = current.runtime.provider.end_session(current.tenant, protocol_request(current))
    current.client = asked.client
    known = current.signed_in
    if form.text("decision") != "yes":
        return page(current, SignedOutPage(stayed=True))
    if known is None:
        return _after(current, None, asked.redirect)
    return _sign_out(current, known[0], asked.redirect)


def _sign_out(current: Visit, session: Session, redirect: str | None) -> AnyReply:
    flow = current.runtime.sign_out
    flow.end(current.tenant, session)
    current.jar.sign_out()
    state = _pack(current, redirect)
    upstream = flow.upstream(current.tenant, session, f"{current.tenant.issuer}/end-session/done", state)
    if upstream is not None:
        return away(upstream.url)
    return _after(current, session, redirect)


def _after(current: Visit, session: Session | None, redirect: str | None) -> AnyReply:
    if redirect:
        return away(redirect)
    provider = ""
    if session is not None:
        entry = current.tenant.connection(session.identity.connection)
        elsewhere = session.identity.issuer != current.tenant.issuer
        provider = entry.title if entry and elsewhere else ""
    return page(current, SignedOutPage(provider=provider))


@views.get("/end-session/done")
def done() -> AnyReply:
    """Back from the provider's own sign-out, with what we sealed into `state`."""
    current = visit()
    return _after(current, None, _unpack(current, current.query.get("state", "")))


def _pack(current: Visit, redirect: str | None) -> str:
    """The validated address, sealed for this browser: nobody else can make us redirect, nor anybody twice elsewhere."""
    body = base64.urlsafe_b64encode(json.dumps(redirect).encode()).decode().rstrip("=")
    return f"{body}.{current.runtime.vault.mac('signed-out', current.tenant.id, current.browser, body)}"


def _unpack(current: Visit, state: str) -> str | None:
    body, _, mac = state.partition(".")
    if not current.runtime.vault.is_mac(mac, "signed-out", current.tenant.id, current.browser, body):
        return None
    try:
        value = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except ValueError:
        return None
    return value if isinstance(value, str) else None
