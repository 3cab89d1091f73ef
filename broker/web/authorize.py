"""The front door: /authorize and /continue, and a bare /login as a login to our own pages."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from flask import Blueprint

from broker.core.policy import Step
from broker.core.tenant import INTERNAL_CLIENT, Client
from broker.flows.sign_in import Next
from broker.oidc.provider import RefusedToApp
from broker.web.answers import away, follow, go
from broker.web.lane import often
from broker.web.login import load, login_page
from broker.web.protocol import protocol_request
from broker.web.visit import Visit, visit

if TYPE_CHECKING:
    from broker.web.reply import AnyReply

views = Blueprint("homerealm_authorize", __name__)


@often(views, "/authorize", "GET", "POST")
def authorize(current: Visit) -> AnyReply:
    """An app sends somebody (OIDC Core 3.1.2)."""
    if current.environ["REQUEST_METHOD"] == "POST":
        return authorize_by_post(current)
    try:
        asked = current.runtime.provider.authorize(current.tenant, protocol_request(current))
    except RefusedToApp as refusal:
        return away(refusal.url)
    return begin(current, asked.client, dict(asked.parameters))


def authorize_by_post(current: Visit) -> AnyReply:
    """The same request as an address of ours.

    A cross-site POST brings no Lax cookie, so the person would look signed out; the GET that follows brings it.
    """
    try:
        asked = current.runtime.provider.authorize(current.tenant, protocol_request(current))
    except RefusedToApp as refusal:
        return away(refusal.url)
    sent = {name: value for name, value in asked.parameters.items() if name in current.form or name in current.query}
    return away(f"{current.tenant.issuer}/authorize?{urlencode(sent)}")


def begin(current: Visit, client: Client, parameters: dict[str, str]) -> AnyReply:
    """Open a login and answer its first page itself, so that a reload always works."""
    current.client = client
    flow = current.runtime.sign_in
    following = flow.begin(current.tenant, client, parameters, current.newcomer, current.runtime.settings.version)
    if "none" in following.transaction.prompts and following.step is not Step.ISSUE:
        error = following.check.error if following.check else "login_required"
        current.runtime.log("login.refused", current.reference, code=error, tenant=current.tenant.id,
                            client=client.client_id)  # fmt: skip
        return away(current.runtime.provider.refuse(current.tenant, parameters, error))
    hint = parameters.get("screen_hint")
    if following.step is Step.ISSUE and hint != "reset":
        return follow(current, following, stored=False)
    flow.open(following.transaction)
    if not client.internal:
        current.jar.keep_app(client.client_id)
    if hint == "reset":
        # Also for somebody who is signed in: an app's "Change your password" says so with this.
        return go(current, "/forgot", tx=following.transaction.id)
    return first_page(current, following)


def first_page(current: Visit, following: Next) -> AnyReply:
    hint = following.transaction.request.get("screen_hint")
    if following.step in (Step.CHOOSE_CONNECTION, Step.SIGN_IN) and hint == "signup":
        return go(current, "/signup", tx=following.transaction.id)
    if following.step is Step.CHOOSE_CONNECTION:
        return login_page(current, following.transaction)
    return follow(current, following)


@views.get("/continue")
def resume() -> AnyReply:
    """Where does this login stand? For returns from outside: a link on a page, a provider."""
    current = visit()
    return follow(current, current.runtime.sign_in.ask(current.tenant, load(current, "query")))


def begin_internal(current: Visit, path: str, *, prompt: str = "", **more: str) -> AnyReply:
    """Sign in to a page of our own: an ordinary login of our internal client (ARCHITECTURE 5.4)."""
    client = current.tenant.internal_client
    parameters = {"client_id": INTERNAL_CLIENT, "redirect_uri": f"{current.tenant.issuer}{path}", "scope": "openid"}
    return begin(current, client, parameters | ({"prompt": prompt} if prompt else {}) | more)
