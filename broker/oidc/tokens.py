"""Access tokens as JWTs (RFC 9068) and ID tokens (OIDC Core 2): what is in them, and how long they are good."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from broker.core.claims import select
from broker.core.tenant import Client, Tenant
from broker.core.values import Grant, GrantId, User
from broker.oidc.backing import Backing

ACCESS_TOKEN = "at+jwt"
ACCESS_TOKEN_ALGORITHM = "ES256"
LOWEST_ACR = "1"
"""The one level of ours: ISO/IEC 29115 level 1, which any login that got through reaches. Connections may say more."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """An access token that was presented and is ours, within its time. Whether its grant lives is another question."""

    claims: Mapping[str, Any]

    @property
    def client(self) -> str:
        return str(self.claims["client_id"])

    @property
    def scopes(self) -> frozenset[str]:
        return frozenset(str(self.claims.get("scope", "")).split())

    @property
    def jti(self) -> str:
        return str(self.claims["jti"])

    @property
    def grant(self) -> GrantId | None:
        """None for a client that acts for itself."""
        return GrantId(self.claims["gid"]) if isinstance(self.claims.get("gid"), str) else None

    @property
    def expires_at(self) -> datetime:
        return datetime.fromtimestamp(self.claims["exp"], UTC)


def access_token(backing: Backing, tenant: Tenant, client: Client, scope: str, grant: Grant | None) -> tuple[str, int]:
    """A new access token, and for how many seconds it is good."""
    now = backing.clock.now()
    expires = now + tenant.rules.lifetimes.access_token
    if grant is not None:
        expires = min(expires, grant.expires_at)
    audience = client.access_token_audience or tenant.issuer
    openid = "openid" in scope.split()  # then userinfo is what it is for
    claims: dict[str, Any] = {
        "iss": tenant.issuer,
        "sub": grant.user if grant is not None else client.client_id,
        "aud": [audience, tenant.issuer] if openid and audience != tenant.issuer else audience,
        "client_id": client.client_id,
        "iat": int(now.timestamp()),
        "exp": int(expires.timestamp()),
        "jti": backing.entropy.token(16),
    }
    if scope:
        claims["scope"] = scope
    if grant is not None:
        claims |= {"gid": grant.id, "auth_time": int(grant.authenticated_at.timestamp()), "acr": acr(grant)}
        if grant.session is not None:
            claims["sid"] = grant.session
    token = backing.signing.sign(tenant.id, ACCESS_TOKEN_ALGORITHM, claims, ACCESS_TOKEN, comes_back=openid)
    return token, claims["exp"] - claims["iat"]


def read_access_token(backing: Backing, tenant: Tenant, token: str) -> AccessToken | None:
    """A token that this tenant made and that has not expired; None for everything else."""
    claims = backing.signing.verify(tenant.id, token, ACCESS_TOKEN)
    if claims is None or claims.get("iss") != tenant.issuer:
        return None
    expires = claims.get("exp")
    if not isinstance(expires, int) or backing.clock.now().timestamp() >= expires:
        return None
    return AccessToken(claims) if "client_id" in claims and "jti" in claims else None


def family_of(token: str) -> GrantId:
    """The family that a code or refresh token says it is of. Proves nothing: the store checks the token itself."""
    return GrantId(token.partition(".")[0])


def id_token(
    backing: Backing, tenant: Tenant, client: Client, grant: Grant, user: User, access: str, *, refreshed: bool = False
) -> str:
    """The ID token of one answer.

    It says who signed in, when and how; claims about the person only where `claims` asks for them here (OIDC Core
    5.5), since userinfo can give them. A refreshed one has no nonce (OIDC Core 12.2).
    """
    now = backing.clock.now()
    requested = grant.claims_request.get("id_token") or {}
    claims: dict[str, Any] = select(user, (), requested) | {
        "iss": tenant.issuer,
        "aud": client.client_id,
        "iat": int(now.timestamp()),
        "exp": int((now + tenant.rules.lifetimes.id_token).timestamp()),
        "auth_time": int(grant.authenticated_at.timestamp()),
        "acr": acr(grant),
        "at_hash": half_hash(access),
    }
    if grant.methods:
        claims["amr"] = list(grant.methods)
    if grant.session is not None:
        claims["sid"] = grant.session
    if grant.nonce is not None and not refreshed:
        claims["nonce"] = grant.nonce
    return backing.signing.sign(tenant.id, client.id_token_signed_response_alg, claims)


def half_hash(token: str) -> str:
    """`at_hash` for algorithms on SHA-256, which all of ours are (OIDC Core 3.1.3.6)."""
    return urlsafe_b64encode(hashlib.sha256(token.encode("ascii")).digest()[:16]).rstrip(b"=").decode("ascii")


def acr(grant: Grant) -> str:
    """What the connection said, unless the app asked for our own level; never more than was done."""
    if grant.acr is None:
        return LOWEST_ACR
    wanted = wanted_acr(grant.claims_request)
    if not wanted or grant.acr in wanted or LOWEST_ACR not in wanted:
        return grant.acr
    return LOWEST_ACR


def wanted_acr(claims_request: Mapping[str, Any]) -> tuple[str, ...]:
    """The values of `acr` that a `claims` parameter names for the ID token (OIDC Core 5.5.1.1)."""
    request = (claims_request.get("id_token") or {}).get("acr")
    if not isinstance(request, dict):
        return ()
    values = [*(request.get("values") or ()), request.get("value")]
    return tuple(value for value in values if isinstance(value, str))
