"""The OpenID Provider's protocol, without a web framework: requests in, answers and addresses out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from authlib.oauth2 import OAuth2Error

from broker.core import redirects
from broker.core.errors import BadRequest
from broker.core.ports import Clock, Database, Entropy, Grants, Sessions, Vault
from broker.core.tenant import Client, Tenant
from broker.core.transaction import Transaction
from broker.core.values import TenantId
from broker.oidc import endpoints, logout, metadata
from broker.oidc.backing import Backing
from broker.oidc.clients import may_return_to
from broker.oidc.logout import EndSession
from broker.oidc.messages import Answer, Parameters, RefusedToApp, Request, printable, refusal
from broker.oidc.requests import Message, addressee, check, refuse, sent
from broker.oidc.server import Server
from broker.oidc.signing import Signing

__all__ = ["Answer", "AuthorizationRequest", "EndSession", "Provider", "RefusedToApp", "Request"]


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """A request of an app, validated."""

    client: Client
    parameters: Mapping[str, str]
    """What goes into `Transaction.request`: the known parameters as they came, `scope` without what the client may
    not have, and `hinted_subject`, the person that an `id_token_hint` names."""


class Provider:
    """Every tenant's provider. Nothing in it belongs to one request."""

    def __init__(
        self,
        *,
        clock: Clock,
        entropy: Entropy,
        vault: Vault,
        database: Database,
        grants: Grants,
        sessions: Sessions,
        signing: Signing,
    ) -> None:
        self._backing = Backing(clock, entropy, vault, database, grants, sessions, signing)
        self._signing = signing
        self._servers: dict[TenantId, Server] = {}
        self._documents: dict[TenantId, tuple[Tenant, bytes]] = {}

    def _server(self, tenant: Tenant) -> Server:
        found = self._servers.get(tenant.id)
        if found is None or found.tenant is not tenant:
            found = self._servers[tenant.id] = Server(tenant, self._backing)
        return found

    # --- The authorization endpoint -----------------------------------------------------------------------------

    def authorize(self, tenant: Tenant, request: Request) -> AuthorizationRequest:
        """Validate an authorization request (OIDC Core 3.1.2, RFC 6749 4.1.1, RFC 7636, RFC 9700).

        Raises `BadRequest` where the app cannot be told: for our own error page. Raises `RefusedToApp` otherwise.
        """
        parameters = sent(request)
        client = addressee(tenant, parameters)
        try:
            kept = check(parameters)
            self._read_hint(tenant, client, parameters, kept)
            scope = self._server(tenant).consider(kept)
        except OAuth2Error as error:
            code, description = error.error or "invalid_request", error.description or ""
            raise RefusedToApp(_error_url(tenant, parameters, code, description), code, description) from error
        if "scope" in kept:
            kept["scope"] = scope
        if request.method == "POST" and "id_token_hint" in parameters:
            # A POST is answered by a redirect to the same request as a GET, which reads the hint again.
            kept["id_token_hint"] = parameters["id_token_hint"]
        return AuthorizationRequest(client, kept)

    def _read_hint(self, tenant: Tenant, client: Client, parameters: Parameters, kept: dict[str, str]) -> None:
        token = parameters.get("id_token_hint")
        if token is None:
            return
        try:
            subject = str(self.read_id_token_hint(tenant, token, client.client_id)["sub"])
        except BadRequest as error:
            raise refuse("invalid_request", f"id_token_hint is {error.detail}") from error
        if kept.get("hinted_subject", subject) != subject:
            raise refuse("login_required", "id_token_hint and claims name two people")
        kept["hinted_subject"] = subject

    def refuse(self, tenant: Tenant, parameters: Mapping[str, str], error: str, description: str = "") -> str:
        """Where to send the browser with an error, for a request that `authorize` validated.

        Raises `BadRequest` when its redirect URI is no longer one of the client's.
        """
        client = tenant.client(parameters.get("client_id", ""))
        if client is None or not may_return_to(client, parameters.get("redirect_uri", "")):
            raise BadRequest("the client was changed", code="client.changed")
        return _error_url(tenant, parameters, error, description)

    def respond(self, tenant: Tenant, transaction: Transaction, code: str) -> str:
        """Where to send the browser with a code, with `state` and `iss` (RFC 6749 4.1.2, RFC 9207).

        Raises `BadRequest` when the stored request is no longer right.
        """
        return self._server(tenant).answer_app(transaction.request, code)

    def read_id_token_hint(self, tenant: Tenant, token: str, client_id: str | None) -> Mapping[str, Any]:
        """The claims of an ID token of ours, expired or not. Raises `BadRequest`."""
        return logout.read_hint(self._signing, tenant, token, client_id)

    # --- For programs ---------------------------------------------------------------------------------------------

    def token(self, tenant: Tenant, request: Request) -> Answer:
        """The token endpoint: authorization_code, refresh_token, client_credentials. Raises `Unavailable` alone."""
        try:
            form = endpoints.read_form(request).once()
        except BadRequest as error:
            return refusal("invalid_request", error.detail)
        if "grant_type" not in form:
            return refusal("invalid_request", "grant_type is missing")
        return self._server(tenant).answer_token(Message("POST", form, request.header("Authorization")))

    def userinfo(self, tenant: Tenant, request: Request) -> Answer:
        """Claims about the person behind an access token: by GET, POST with a header, POST with a body."""
        return endpoints.userinfo(self._backing, tenant, request)

    def revoke(self, tenant: Tenant, request: Request) -> Answer:
        """RFC 7009: access and refresh tokens."""
        return endpoints.revoke(self._backing, tenant, request)

    def introspect(self, tenant: Tenant, request: Request) -> Answer:
        """RFC 7662: access and refresh tokens."""
        return endpoints.introspect(self._backing, tenant, request)

    def metadata(self, tenant: Tenant) -> bytes:
        """The discovery document: JSON, stable bytes."""
        known = self._documents.get(tenant.id)
        if known is None or known[0] is not tenant:
            known = self._documents[tenant.id] = (tenant, metadata.document(tenant))
        return known[1]

    def jwks(self, tenant: Tenant) -> bytes:
        """The public keys: JSON, the same bytes until a key comes or goes."""
        return self._signing.public_jwks(tenant.id)

    def end_session(self, tenant: Tenant, request: Request) -> EndSession:
        """Read a logout request (RP-Initiated Logout 1.0). Raises `BadRequest`: never a redirect."""
        return logout.end_session(self._signing, tenant, request)


def _error_url(tenant: Tenant, parameters: Mapping[str, str], error: str, description: str) -> str:
    """An error for the app (RFC 6749 4.1.2.1): nothing else than these parameters ever goes into it."""
    pairs = [("error", error)]
    if description:
        pairs.append(("error_description", printable(description)))
    if state := parameters.get("state"):
        pairs.append(("state", state))
    return redirects.extend(parameters["redirect_uri"], [*pairs, ("iss", tenant.issuer)])
