"""Userinfo, revocation, introspection: what tokens are presented to."""

from __future__ import annotations

from typing import Any

from authlib.oauth2.rfc6749.errors import InvalidClientError, InvalidRequestError

from broker.core.claims import select
from broker.core.errors import BadRequest
from broker.core.tenant import Client, Tenant
from broker.core.values import ClientId, Grant, User
from broker.oidc.backing import Backing
from broker.oidc.clients import CHALLENGE, authenticate
from broker.oidc.messages import NO_STORE, Answer, Parameters, Request, refusal
from broker.oidc.tokens import AccessToken, read_access_token

MAX_BEARER = 8 * 1024


def read_form(request: Request) -> Parameters:
    """The body of a request by a program: each parameter once, and nothing in the address, which ends in logs.

    Raises `BadRequest`.
    """
    if request.method != "POST":
        raise BadRequest("POST is needed", code="request.method")
    if request.query:
        raise BadRequest("parameters belong in the body", code="request.query")
    form = Parameters(request.form)
    if form.twice:
        raise BadRequest("a parameter is there more than once", code="request.duplicate")
    return form


def userinfo(backing: Backing, tenant: Tenant, request: Request) -> Answer:
    """OIDC Core 5.3: claims by scope and by the `claims` parameter, for the bearer of an access token."""
    try:
        presented = _bearer(request)
    except BadRequest as error:
        return _unauthorized(400, "invalid_request", error.detail)
    if presented is None:
        return Answer(401, None, {**NO_STORE, "WWW-Authenticate": 'Bearer realm="userinfo"'})
    token = read_access_token(backing, tenant, presented)
    standing = _standing(backing, tenant, token) if token is not None else None
    if token is None or standing is None:
        return _unauthorized(401, "invalid_token", "The access token is expired, revoked or not ours")
    grant, user = standing
    if grant is None or user is None or "openid" not in token.scopes:
        return _unauthorized(403, "insufficient_scope", "The access token was not given the scope openid")
    return Answer(200, select(user, token.scopes, grant.claims_request.get("userinfo")))


def _bearer(request: Request) -> str | None:
    """The access token, by header or by form body (RFC 6750 2.1, 2.2). Raises `BadRequest` for two at once."""
    form, query = Parameters(request.form), Parameters(request.query)
    if "access_token" in query:
        raise BadRequest("access tokens are not accepted in the address")
    if form.twice:
        raise BadRequest("a parameter is there more than once")
    scheme, _, value = (request.header("Authorization") or "").strip().partition(" ")
    by_header = value.strip() if scheme.lower() == "bearer" else None
    by_form = form.get("access_token") if request.method == "POST" else None
    if by_header is not None and by_form is not None:
        raise BadRequest("the access token came in two ways")
    return by_header if by_header is not None else by_form


def _unauthorized(status: int, error: str, description: str) -> Answer:
    challenge = f'Bearer realm="userinfo", error="{error}", error_description="{description}"'
    return refusal(error, description, status, WWW_Authenticate=challenge)


def _standing(backing: Backing, tenant: Tenant, token: AccessToken) -> tuple[Grant | None, User | None] | None:
    """Whether a token still counts: the grant and the user behind it, both None for a client's own token.

    A code or refresh token that was used twice, a revocation, a sign-out, a new password, a block, an app or a
    connection that was removed: each ends it here and now, although it is a JWT.
    """
    client = tenant.clients.get(ClientId(token.client))
    if client is None:
        return None
    if token.grant is None:
        return None if backing.grants.is_revoked(token.jti) else (None, None)
    grant = backing.grants.find_unless_revoked(token.grant, token.jti)
    if grant is None or not backing.belongs(tenant, client, grant) or not backing.live(grant, backing.clock.now()):
        return None
    user = backing.person(tenant, grant)
    return (grant, user) if user is not None else None


def revoke(backing: Backing, tenant: Tenant, request: Request) -> Answer:
    """RFC 7009. 200 for anything that is no token of ours; a hint that is wrong changes nothing."""
    found = _asked(tenant, request, public=True)
    if isinstance(found, Answer):
        return found
    client, form = found
    token = form["token"]
    access = read_access_token(backing, tenant, token)
    if access is not None:
        if access.client != client.client_id:
            return refusal("invalid_grant", "The token was issued to another client")
        backing.grants.revoke_token(access.jti, access.expires_at - backing.clock.now())
        return Answer(200)
    grant = backing.grants.peek_refresh(token)
    if grant is not None:
        if not backing.belongs(tenant, client, grant):
            return refusal("invalid_grant", "The token was issued to another client")
        backing.grants.revoke(grant.id)
    return Answer(200)


def introspect(backing: Backing, tenant: Tenant, request: Request) -> Answer:
    """RFC 7662, for clients with a secret: those that a token was issued to, and those that it is meant for."""
    found = _asked(tenant, request, public=False)
    if isinstance(found, Answer):
        return found
    client, form = found
    token = read_access_token(backing, tenant, form["token"])
    body = _access(backing, tenant, client, token) if token is not None else _refresh(backing, tenant, client, form)
    return Answer(200, body if body is not None else {"active": False})


def _access(backing: Backing, tenant: Tenant, client: Client, token: AccessToken) -> dict[str, Any] | None:
    audience = token.claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if client.client_id != token.client and client.client_id not in audiences:
        return None
    standing = _standing(backing, tenant, token)
    if standing is None:
        return None
    told = ("iss", "sub", "aud", "client_id", "scope", "iat", "exp", "jti", "auth_time", "acr", "sid")
    body = {name: token.claims[name] for name in told if name in token.claims}
    user = standing[1]
    named = {"username": user.username} if user is not None and user.username else {}
    return {"active": True, "token_type": "Bearer"} | body | named


def _refresh(backing: Backing, tenant: Tenant, client: Client, form: Parameters) -> dict[str, Any] | None:
    grant = backing.grants.peek_refresh(form["token"])
    if grant is None or not backing.belongs(tenant, client, grant) or not backing.live(grant, backing.clock.now()):
        return None
    user = backing.person(tenant, grant)
    if user is None:
        return None
    return {
        "active": True,
        "iss": tenant.issuer,
        "sub": user.id,
        "client_id": client.client_id,
        "scope": grant.scope,
        "iat": int(grant.issued_at.timestamp()),
        "exp": int(grant.expires_at.timestamp()),
    }


def _asked(tenant: Tenant, request: Request, *, public: bool) -> tuple[Client, Parameters] | Answer:
    """The client that asks, and its form with a `token` in it; or the answer that refuses."""
    try:
        form = read_form(request)
        client, _ = authenticate(tenant, request.header("Authorization"), form, public=public)
    except BadRequest as error:
        return refusal("invalid_request", error.detail)
    except InvalidRequestError as error:
        return refusal("invalid_request", error.description)
    except InvalidClientError as error:
        return refusal("invalid_client", error.description, 401, WWW_Authenticate=CHALLENGE)
    if "token" not in form:
        return refusal("invalid_request", "token is missing")
    return client, form
