"""A plain OpenID provider (OpenID Connect Core, Discovery 1.0; RFC 9207), and what the branded ones share."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from flask import Flask, Response, jsonify, redirect, request
from jwt.algorithms import RSAAlgorithm

from broker.core.ports import Clock
from broker.testing.upstreams.provider import Change, Code, Registration, StandIn, page, unchanged


@cache
def signing_key(name: str) -> rsa.RSAPrivateKey:
    """One key a name for the whole run: making them is slow."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class OpenIdStandIn(StandIn):
    """An issuer with discovery, RS256 keys, userinfo and RP-initiated logout."""

    name = "Contoso"
    kid = "k1"
    announces_iss = True

    def __init__(self, clock: Clock, client: Registration, issuer: str = "https://sso.upstream.test") -> None:
        self.issuer = issuer
        self.hosts = self.hosts or (urlsplit(issuer).netloc,)
        self.change_claims: Change = unchanged
        """On the claims of the ID token."""
        self.change_userinfo: Change = unchanged
        self.change_metadata: Change = unchanged
        self.sign = self.sign_honestly
        """Makes the ID token of its claims."""
        self.logouts: list[dict[str, str]] = []
        super().__init__(clock, client)

    def routes(self, app: Flask) -> None:
        base = urlsplit(self.issuer).path.rstrip("/")
        app.get(f"{base}/.well-known/openid-configuration")(self.configuration)
        app.get(f"{base}/authorize")(self.authorize)
        app.post(f"{base}/authorize")(self.log_in)
        app.post(f"{base}/token")(self.token)
        app.get(f"{base}/userinfo")(self.userinfo)
        app.get(f"{base}/jwks")(self.jwks)
        app.get(f"{base}/logout")(self.logout)
        app.route(f"{base}{self.reset_path}", methods=["GET", "POST"])(self.forgot)

    # --- Documents ---------------------------------------------------------------------------------------------------

    def metadata(self) -> dict[str, Any]:
        base = self.issuer.rstrip("/")
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{base}/authorize",
            "token_endpoint": f"{base}/token",
            "userinfo_endpoint": f"{base}/userinfo",
            "jwks_uri": f"{base}/jwks",
            "end_session_endpoint": f"{base}/logout",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "authorization_response_iss_parameter_supported": self.announces_iss,
        }

    def configuration(self) -> Response:
        return jsonify(self.change_metadata(self.metadata()))

    def jwks(self) -> Response:
        return jsonify(keys=[self.public_key()])

    def public_key(self) -> dict[str, Any]:
        found = RSAAlgorithm.to_jwk(signing_key(self.kid).public_key(), as_dict=True)
        return {**{name: found[name] for name in ("kty", "n", "e")}, "kid": self.kid, "use": "sig", "alg": "RS256"}

    def response_extras(self) -> dict[str, str]:
        return {"iss": self.issuer} if self.announces_iss else {}

    # --- Tokens ------------------------------------------------------------------------------------------------------

    def token(self) -> Any:
        code, error = self.redeem()
        if code is None:
            return jsonify(error=error), 401 if error == "invalid_client" else 400
        access_token = self.entropy.token()
        self.tokens[access_token] = code
        claims = self.change_claims(self.claims(code, access_token))
        answer = {
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": 3599,
            "scope": code.parameters.get("scope", ""),
            "id_token": self.sign(claims),
        }
        return jsonify(self.change_token(answer))

    def claims(self, code: Code, access_token: str) -> dict[str, Any]:
        """Of the ID token. Subclasses add what their provider documents."""
        now = self.now()
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": self.people[code.login.person].subject,
            "aud": self.client.client_id,
            "exp": now + 3600,
            "iat": now,
            "at_hash": half_digest(access_token),
        }
        if "nonce" in code.parameters:
            claims["nonce"] = code.parameters["nonce"]
        return claims | self.login_claims(code)

    def login_claims(self, code: Code) -> dict[str, Any]:
        return {"auth_time": code.login.at, "amr": ["pwd"]}

    def sign_honestly(self, claims: Mapping[str, Any]) -> str:
        return jwt.encode(dict(claims), signing_key(self.kid), algorithm="RS256", headers={"kid": self.kid})

    def userinfo(self) -> Any:
        code = self.bearer()
        if code is None:
            return jsonify(error="invalid_token"), 401
        person = self.people[code.login.person]
        return jsonify(self.change_userinfo({"sub": person.subject, **person.claims}))

    def logout(self) -> Any:
        """OpenID Connect RP-Initiated Logout 1.0."""
        self.logouts.append(dict(request.args))
        self.logins.pop(request.cookies.get("login", ""), None)
        back = request.args.get("post_logout_redirect_uri")
        if back and request.args.get("id_token_hint"):
            state = request.args.get("state")
            return redirect(f"{back}?state={state}" if state else back)
        return page(self.name, "You are signed out")


def half_digest(token: str) -> str:
    """at_hash for a signature with SHA-256 (Core 3.1.3.6)."""
    digest = hashlib.sha256(token.encode()).digest()
    return urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
