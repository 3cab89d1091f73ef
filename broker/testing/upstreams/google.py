"""Google, by its "OpenID Connect" guide: no `prompt=login`, no auth_time, the profile in the ID token, `hd`."""

from __future__ import annotations

from typing import Any

from flask import Flask

from broker.core.ports import Clock
from broker.testing.upstreams.openid import OpenIdStandIn
from broker.testing.upstreams.provider import Code, Registration, page


class GoogleStandIn(OpenIdStandIn):
    """On Google's own hosts. A person's `claims` may have `hd`, `email`, `email_verified`, `name`, `picture`, ..."""

    name = "Google"
    hosts = ("accounts.google.com", "oauth2.googleapis.com", "openidconnect.googleapis.com", "www.googleapis.com")
    reset_path = "/signin/recovery"

    def __init__(self, clock: Clock, client: Registration) -> None:
        super().__init__(clock, client, "https://accounts.google.com")

    def routes(self, app: Flask) -> None:
        app.get("/.well-known/openid-configuration")(self.configuration)
        app.get("/o/oauth2/v2/auth")(self.authorize)
        app.post("/o/oauth2/v2/auth")(self.log_in)
        app.post("/token")(self.token)
        app.get("/v1/userinfo")(self.userinfo)
        app.get("/oauth2/v3/certs")(self.jwks)
        app.route(self.reset_path, methods=["GET", "POST"])(self.forgot)

    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": "https://accounts.google.com",
            "authorization_endpoint": "https://accounts.google.com/o/oauth2/v2/auth",
            "device_authorization_endpoint": "https://oauth2.googleapis.com/device/code",
            "token_endpoint": "https://oauth2.googleapis.com/token",
            "userinfo_endpoint": "https://openidconnect.googleapis.com/v1/userinfo",
            "revocation_endpoint": "https://oauth2.googleapis.com/revoke",
            "jwks_uri": "https://www.googleapis.com/oauth2/v3/certs",
            "response_types_supported": ["code", "token", "id_token", "code token", "code id_token", "none"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": ["openid", "email", "profile"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
            "claims_supported": ["aud", "email", "email_verified", "exp", "family_name", "given_name", "iat", "iss"],
            "code_challenge_methods_supported": ["plain", "S256"],
            "authorization_response_iss_parameter_supported": True,
        }

    def refuses(self, parameters: Any) -> Any:
        if set(parameters.get("prompt", "").split()) - {"none", "consent", "select_account"}:
            return page(self.name, "Error 400: invalid_request. Invalid parameter value for prompt", 400)
        return super().refuses(parameters)

    def login_claims(self, code: Code) -> dict[str, Any]:
        person = self.people[code.login.person]
        return {"azp": self.client.client_id, **person.claims}
