"""Relying parties: as Authlib wants to see them, and how they prove who they are at our endpoints."""

from __future__ import annotations

import binascii
import hashlib
import hmac
from base64 import b64decode
from collections.abc import Mapping
from urllib.parse import unquote, unquote_plus

from authlib.oauth2.rfc6749 import ClientMixin
from authlib.oauth2.rfc6749.errors import InvalidClientError, InvalidRequestError

from broker.core import redirects
from broker.core.claims import SCOPES
from broker.core.tenant import Client, Tenant
from broker.core.values import ClientId

CHALLENGE = 'Basic realm="client"'
OF_PEOPLE = frozenset({"openid", "offline_access", *SCOPES})
"""Scopes that speak of a person; without one they mean nothing."""


class RelyingParty(ClientMixin):  # type: ignore[misc, unused-ignore]
    """One of our clients in the shape that Authlib asks for."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def get_client_id(self) -> str:
        return self.client.client_id

    def get_default_redirect_uri(self) -> str:
        """None in effect: a request without redirect_uri is refused before Authlib sees it (OIDC Core 3.1.2.1)."""
        return ""

    def get_allowed_scope(self, scope: object) -> str | None:  # type: ignore[override]
        """None, which is an error, when nothing is left of what was asked for."""
        asked = scope if isinstance(scope, str) else ""
        return allowed_scope(self.client, asked) or (None if asked else "")

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return may_return_to(self.client, redirect_uri)

    def check_client_secret(self, client_secret: str) -> bool:
        return secret_fits(self.client, client_secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method in methods_of(self.client)

    def check_response_type(self, response_type: str) -> bool:
        return response_type in self.client.response_types and self.check_grant_type("authorization_code")

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in self.client.grant_types


def may_return_to(client: Client, uri: str) -> bool:
    """Whether this is a registered redirect URI, byte for byte (RFC 9700 2.1)."""
    return redirects.allowed(uri, client.redirect_uris, native=client.application_type == "native")


def allowed_scope(client: Client, scope: str) -> str:
    """What is left of the requested scopes, in their order, once each. Unknown ones are ignored (OIDC Core 3.1.2.1)."""
    allowed = set(client.scope.split())
    if "refresh_token" not in client.grant_types:
        allowed.discard("offline_access")
    return " ".join(dict.fromkeys(name for name in scope.split(" ") if name in allowed))


def own_scope(client: Client, scope: str) -> str:
    """The scopes of a client that acts for itself (client_credentials); all that it has when it asks for none."""
    allowed = [name for name in client.scope.split() if name not in OF_PEOPLE]
    asked = scope.split(" ") if scope else allowed
    return " ".join(dict.fromkeys(name for name in asked if name in allowed))


def methods_of(client: Client) -> tuple[str, ...]:
    """How this client may authenticate: the registered method only (RFC 7591 2)."""
    method = client.token_endpoint_auth_method
    return ("client_secret_basic", "client_secret_post") if method == "client_secret" else (method,)


def secret_fits(client: Client, secret: str) -> bool:
    """Compare with each of its secrets, in constant time. They are long and random, so a plain SHA-256 serves."""
    try:
        digest = hashlib.sha256(secret.encode()).hexdigest()
    except UnicodeEncodeError:
        return False
    # Every one is compared, so that the time does not say which one fitted.
    return sum([hmac.compare_digest(digest, known) for known in client.secret_digests]) > 0


def authenticate(
    tenant: Tenant, authorization: str | None, form: Mapping[str, str], *, public: bool = True
) -> tuple[Client, str]:
    """The client behind a request, and the method by which it proved itself (RFC 6749 2.3).

    Raises `InvalidClientError` (always 401), and `InvalidRequestError` where more than one method was used at once.
    `public` says whether a client without a secret will do.
    """
    scheme, _, credentials = (authorization or "").strip().partition(" ")
    basic = scheme.lower() == "basic"
    if basic and ("client_secret" in form or "client_assertion" in form):
        raise InvalidRequestError("More than one way to authenticate the client")
    if basic:
        client = _by_basic(tenant, credentials.strip())
        if client is not None and form.get("client_id", client.client_id) != client.client_id:
            raise InvalidRequestError("client_id is not the client that authenticates")
        method = "client_secret_basic"
    else:
        client = _known(tenant, form.get("client_id", ""))
        method = "client_secret_post" if "client_secret" in form else "none"
        if client is not None and method == "client_secret_post" and not secret_fits(client, form["client_secret"]):
            client = None
    if client is None or method not in methods_of(client) or (method == "none" and not public):
        raise InvalidClientError("Client authentication failed", status_code=401)
    return client, method


def _known(tenant: Tenant, id: str) -> Client | None:
    # Not tenant.client(): our own pages are no client that could redeem anything.
    return tenant.clients.get(ClientId(id)) if id else None


def _by_basic(tenant: Tenant, credentials: str) -> Client | None:
    """HTTP Basic. Names and secrets are form-encoded in it (RFC 6749 2.3.1), which many clients forget to do: what
    was sent is tried as it is as well."""
    try:
        text = b64decode(credentials, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    name, colon, secret = text.partition(":")
    if not colon:
        return None
    for id in _readings(name):
        if (client := _known(tenant, id)) is not None:
            fits = [secret_fits(client, reading) for reading in _readings(secret)]
            return client if any(fits) else None
    return None


def _readings(text: str) -> list[str]:
    found = [text]
    if "%" not in text and "+" not in text:
        return found
    for decode in (unquote_plus, unquote):
        try:
            found.append(decode(text, errors="strict"))
        except UnicodeDecodeError:
            continue
    return list(dict.fromkeys(found))
