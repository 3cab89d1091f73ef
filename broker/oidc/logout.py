"""RP-Initiated Logout 1.0: what an app asks for when it signs somebody out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from broker.core import redirects
from broker.core.errors import BadRequest
from broker.core.tenant import Client, Tenant
from broker.core.values import ClientId, SessionId, UserId
from broker.oidc.messages import MAX_STATE, Parameters, Request
from broker.oidc.signing import Signing

ID_TOKEN = "JWT"


@dataclass(frozen=True, slots=True)
class EndSession:
    """A request to sign out. The caller ends the session, asks first unless `confirmed`, and then redirects."""

    client: Client | None
    redirect: str | None
    """Where to go afterwards, complete with `state`; None: say so on a page of ours."""
    state: str | None
    session: SessionId | None
    """The `sid` that the app names by its ID token: ask when the browser is signed in with another one."""
    subject: UserId | None
    confirmed: bool
    """Whether the app proved by an ID token of ours that it means this person, or sent nothing at all."""


def read_hint(signing: Signing, tenant: Tenant, token: str, client_id: str | None) -> Mapping[str, Any]:
    """The claims of an ID token that we made, expired ones too (OIDC Core 3.1.2.1, RP-Initiated Logout 2).

    Raises `BadRequest` for what we did not sign, what is no ID token, and what was made for another client.
    """
    claims = signing.verify(tenant.id, token, ID_TOKEN)
    if claims is None or claims.get("iss") != tenant.issuer or not isinstance(claims.get("sub"), str):
        raise BadRequest("not an ID token of ours", code="id_token_hint.invalid")
    if _audience(claims) is None or (client_id is not None and _audience(claims) != client_id):
        raise BadRequest("an ID token of another client", code="id_token_hint.client")
    return claims


def _audience(claims: Mapping[str, Any]) -> str | None:
    """The one client that an ID token is for; Authlib finds none in a list of one, and then never redirects."""
    audience = claims.get("aud")
    if isinstance(audience, list) and len(audience) == 1:
        audience = audience[0]
    return audience if isinstance(audience, str) else None


def end_session(signing: Signing, tenant: Tenant, request: Request) -> EndSession:
    """Read a logout request, by GET or POST.

    Raises `BadRequest` for parameters that are there twice or contradict each other, for an unknown client, and for a
    post_logout_redirect_uri that is not registered: none of these is ever redirected. A hint that is missing, or that
    we cannot verify any more, leads to a question on a page of ours, and not back to the app either.
    """
    form = request.form if request.method == "POST" else ()
    parameters = Parameters([*form, *request.query])
    if parameters.twice:
        raise BadRequest("a parameter is there twice", code="request.duplicate")
    state, wanted = parameters.get("state"), parameters.get("post_logout_redirect_uri")
    if state is not None and len(state) > MAX_STATE:
        raise BadRequest(f"state has more than {MAX_STATE} characters", code="request.too_large")
    if not parameters:
        return EndSession(None, None, None, None, None, confirmed=True)
    claims = _hint(signing, tenant, parameters)
    client = _client(tenant, parameters, claims)
    if wanted is not None and client is not None and wanted not in client.post_logout_redirect_uris:
        raise BadRequest(wanted, code="logout.redirect_uri", app=client.client_name)
    if claims is None or client is None:
        return EndSession(client, None, state, None, None, confirmed=False)
    redirect = None
    if wanted is not None:
        redirect = redirects.extend(wanted, [("state", state)] if state is not None else [])
    sid = claims.get("sid")
    session = SessionId(sid) if isinstance(sid, str) else None
    return EndSession(client, redirect, state, session, UserId(claims["sub"]), confirmed=True)


def _hint(signing: Signing, tenant: Tenant, parameters: Parameters) -> Mapping[str, Any] | None:
    token = parameters.get("id_token_hint")
    if token is None:
        return None
    try:
        return read_hint(signing, tenant, token, parameters.get("client_id"))
    except BadRequest as error:
        if error.code == "id_token_hint.client":
            raise
        return None


def _client(tenant: Tenant, parameters: Parameters, claims: Mapping[str, Any] | None) -> Client | None:
    """The app: named by itself, else by the ID token. One that was removed since leads nowhere."""
    named = parameters.get("client_id")
    if named is not None:
        client = tenant.clients.get(ClientId(named))
        if client is None:
            raise BadRequest("no such client", code="client.unknown")
        return client
    return tenant.clients.get(ClientId(_audience(claims) or "")) if claims is not None else None
