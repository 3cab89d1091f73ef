"""Microsoft Entra ID (v2.0 endpoints) for many tenants, by "OpenID Connect on the Microsoft identity platform".

The discovery document of `organizations` and `common` has a template for an issuer; each token's `iss` names the
person's own tenant. There is no RFC 9207, no at_hash with the code flow, no auth_time unless an app asks for it by
configuration.
"""

from __future__ import annotations

from typing import Any

from flask import Flask, request

from broker.core.ports import Clock
from broker.testing.upstreams.openid import OpenIdStandIn
from broker.testing.upstreams.provider import Code, Registration, page

TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
OTHER_TENANT = "11111111-2222-3333-4444-555555555555"


class EntraStandIn(OpenIdStandIn):
    """On Microsoft's own hosts. A person's `claims` have `tid` and `oid`; the subject is pairwise, as there."""

    name = "Microsoft"
    hosts = ("login.microsoftonline.com", "passwordreset.microsoftonline.com")
    announces_iss = False

    def __init__(self, clock: Clock, client: Registration, audience: str = "organizations") -> None:
        """`audience`: `organizations`, `common`, or the id of one tenant."""
        self.audience = audience
        super().__init__(clock, client, f"https://login.microsoftonline.com/{audience}/v2.0")

    def routes(self, app: Flask) -> None:
        app.get("/<audience>/v2.0/.well-known/openid-configuration")(self.configuration_of)
        app.get("/<audience>/oauth2/v2.0/authorize", endpoint="authorize")(lambda audience: self.authorize())
        app.post("/<audience>/oauth2/v2.0/authorize", endpoint="log_in")(lambda audience: self.log_in())
        app.post("/<audience>/oauth2/v2.0/token", endpoint="token")(lambda audience: self.token())
        app.get("/<audience>/discovery/v2.0/keys", endpoint="keys")(lambda audience: self.jwks())
        app.get("/<audience>/oauth2/v2.0/logout", endpoint="logout")(lambda audience: self.logout())
        app.route("/", methods=["GET", "POST"])(self.forgot)

    def configuration_of(self, audience: str) -> Any:
        return self.configuration() if audience == self.audience else ({"error": "invalid_tenant"}, 400)

    def metadata(self) -> dict[str, Any]:
        base = f"https://login.microsoftonline.com/{self.audience}"
        issuer = "{tenantid}" if self.audience in ("organizations", "common") else self.audience
        return {
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
            "jwks_uri": f"{base}/discovery/v2.0/keys",
            "response_modes_supported": ["query", "fragment", "form_post"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "issuer": f"https://login.microsoftonline.com/{issuer}/v2.0",
            "request_uri_parameter_supported": False,
            "userinfo_endpoint": "https://graph.microsoft.com/oidc/userinfo",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "end_session_endpoint": f"{base}/oauth2/v2.0/logout",
            "tenant_region_scope": None,
            "cloud_instance_name": "microsoftonline.com",
        }

    def public_key(self) -> dict[str, Any]:
        """Keys there have no `alg`, and say whose tokens they sign."""
        found = super().public_key()
        del found["alg"]
        return {**found, "x5t": self.kid, "issuer": "https://login.microsoftonline.com/{tenantid}/v2.0"}

    def refuses(self, parameters: Any) -> Any:
        if len(parameters.get("prompt", "").split()) > 1:
            return page(self.name, "AADSTS90023: Unsupported 'prompt' value", 400)
        return super().refuses(parameters)

    def cancelled(self) -> dict[str, str]:
        return {
            "error": "access_denied",
            "error_subcode": "cancel",
            "error_description": "AADSTS65004: User declined to consent to access the app.",
        }

    def claims(self, code: Code, access_token: str) -> dict[str, Any]:
        claims = super().claims(code, access_token)
        del claims["at_hash"]
        person = self.people[code.login.person]
        tenant = person.claims.get("tid", TENANT)
        return {
            **claims,
            "iss": f"https://login.microsoftonline.com/{tenant}/v2.0",
            "nbf": claims["iat"],
            "tid": tenant,
            "ver": "2.0",
            "preferred_username": code.login.person,
            "rh": "0.AX0A",
            "uti": "fqiBqXLPj0eQa82S-IYFAA",
            **person.claims,
        }

    def login_claims(self, code: Code) -> dict[str, Any]:
        return {}

    def forgot(self) -> Any:
        if request.host != "passwordreset.microsoftonline.com":
            return page(self.name, "Not found", 404)
        return super().forgot()
