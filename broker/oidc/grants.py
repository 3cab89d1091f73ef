"""The grants: Authlib's, with every default that is too weak overridden (docs/decisions/authlib.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from authlib.oauth2.rfc6749 import grants
from authlib.oauth2.rfc6749.errors import (
    InvalidClientError,
    InvalidGrantError,
    InvalidRequestError,
    InvalidScopeError,
)
from authlib.oauth2.rfc7636 import CodeChallenge

from broker.core.tenant import Client
from broker.core.values import Grant, User
from broker.oidc import tokens
from broker.oidc.clients import RelyingParty, own_scope
from broker.oidc.requests import Message

if TYPE_CHECKING:
    from broker.oidc.server import Server

METHODS = ("client_secret_basic", "client_secret_post", "none")
TOKEN_TYPE = "Bearer"
_S256_LENGTH = 43


class Authorized:
    """A grant of ours, in the shape in which Authlib reads codes and refresh tokens."""

    def __init__(self, grant: Grant) -> None:
        self.grant = grant
        self.code_challenge = grant.code_challenge
        self.code_challenge_method = grant.code_challenge_method

    def get_redirect_uri(self) -> str:
        return self.grant.redirect_uri

    def get_scope(self) -> str:
        return self.grant.scope

    def check_client(self, client: RelyingParty) -> bool:
        return client.client.client_id == self.grant.client


class Issuing:
    """What the three grants share: our own tokens in the place of Authlib's, which live ten days and have no kid."""

    request: Message
    server: Server

    @property
    def relying_party(self) -> Client:
        """Who authenticated. Raises `InvalidClientError` before anybody did."""
        if not isinstance(self.request.client, RelyingParty):
            raise InvalidClientError(status_code=401)
        return self.request.client.client

    def generate_token(self, user: User | None = None, scope: str | None = None, **_: Any) -> dict[str, Any]:
        """The body of the token response (RFC 6749 5.1, OIDC Core 3.1.3.3)."""
        backing, tenant, message = self.server.backing, self.server.tenant, self.request
        client, grant, scope = self.relying_party, message.redeemed, " ".join(dict.fromkeys((scope or "").split()))
        access, seconds = tokens.access_token(backing, tenant, client, scope, grant)
        answer: dict[str, Any] = {"access_token": access, "token_type": TOKEN_TYPE, "expires_in": seconds}
        if scope:
            answer["scope"] = scope
        if grant is None or user is None:
            return answer
        if message.next_refresh is not None:
            answer["refresh_token"] = message.next_refresh
        if "openid" in scope.split():
            refreshed = isinstance(self, RefreshGrant)
            answer["id_token"] = tokens.id_token(backing, tenant, client, grant, user, access, refreshed=refreshed)
        return answer


class CodeGrant(Issuing, grants.AuthorizationCodeGrant):  # type: ignore[misc]
    """`response_type=code`, and its exchange for tokens."""

    TOKEN_ENDPOINT_AUTH_METHODS = METHODS
    RESPONSE_TYPES = frozenset({"code"})

    def query_authorization_code(self, code: str, client: Any) -> Authorized | None:
        """Take the code: one atomic step, not the look and delete of Authlib's examples, where all racers win.

        The family begins with its first refresh token in that step; whatever fails after it ends the family.
        """
        first = None
        if client.check_grant_type("refresh_token"):
            backing = self.server.backing
            first = backing.grants.refresh_for(tokens.family_of(code), backing.entropy.token(32))
        found = self.server.redeem(code, first, client.client)
        if found is None:
            return None
        self.request.redeemed, self.request.next_refresh = found, first
        return Authorized(found) if self.server.fits(found, client.client) else None

    def delete_authorization_code(self, authorization_code: object) -> None:
        """Nothing: it was taken, not read."""

    def authenticate_user(self, authorization_code: Authorized) -> User | None:
        return self.server.backing.person(self.server.tenant, authorization_code.grant)


class RefreshGrant(Issuing, grants.RefreshTokenGrant):  # type: ignore[misc]
    """Refresh with rotation: Authlib rotates nothing, and knows no families (RFC 9700 4.14.2)."""

    TOKEN_ENDPOINT_AUTH_METHODS = METHODS
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> Authorized | None:  # type: ignore[override]
        """Replace the token by its successor, in one atomic step.

        A scope that is too wide is refused before that: an app that asks for too much does not lose its token.
        """
        server, wanted = self.server, self.request.form.get("scope", "")
        if wanted:
            current = server.backing.grants.peek_refresh(refresh_token)
            if current is not None and not set(wanted.split()) <= set(current.scope.split()):
                raise InvalidScopeError
        family, random = tokens.family_of(refresh_token), server.backing.entropy.token(32)
        successor = server.backing.grants.refresh_for(family, random)
        found = server.rotate(refresh_token, successor, self.relying_party)
        if found is None:
            return None
        self.request.redeemed, self.request.next_refresh = found, successor
        live = server.backing.live(found, server.backing.clock.now())
        return Authorized(found) if live else None

    def authenticate_user(self, credential: Authorized) -> User:
        """Raises what Authlib does not: its answer to a user who is gone is invalid_request."""
        fits = self.server.fits(credential.grant, self.relying_party)
        person = self.server.backing.person(self.server.tenant, credential.grant) if fits else None
        if person is None:
            raise InvalidGrantError("The grant has ended")
        return person

    def revoke_old_credential(self, refresh_token: object) -> None:
        """Nothing: the rotation did it."""


class ClientCredentials(Issuing, grants.ClientCredentialsGrant):  # type: ignore[misc]
    """A client that acts for itself. No SQL, no key-value store: its token is made from the configuration alone."""

    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "client_secret_post")

    def generate_token(  # type: ignore[override]
        self, user: User | None = None, scope: str | None = None, **_: Any
    ) -> dict[str, Any]:
        granted = own_scope(self.relying_party, scope or "")
        if scope and not granted:
            raise InvalidScopeError
        return super().generate_token(scope=granted)


class Pkce(CodeChallenge):  # type: ignore[misc, unused-ignore]
    """PKCE by S256 (RFC 7636), for every client unless its configuration says otherwise; `plain` never.

    Authlib takes a missing method as `plain`, and asks public clients alone for PKCE.
    """

    def __init__(self) -> None:
        super().__init__(required=False)
        self.DEFAULT_CODE_CHALLENGE_METHOD = "S256"
        self.SUPPORTED_CODE_CHALLENGE_METHOD = ["S256"]
        self.CODE_CHALLENGE_METHODS = {"S256": self.CODE_CHALLENGE_METHODS["S256"]}

    def validate_code_challenge(self, grant: Any, redirect_uri: Any) -> None:
        parameters, client = grant.request.form, grant.request.client.client
        challenge, method = parameters.get("code_challenge"), parameters.get("code_challenge_method")
        if challenge is None and (client.require_pkce or client.token_endpoint_auth_method == "none"):
            raise InvalidRequestError("PKCE is required: code_challenge is missing")
        if challenge is not None and (method != "S256" or len(challenge) != _S256_LENGTH):
            raise InvalidRequestError("code_challenge_method must be S256, and code_challenge its value")
        super().validate_code_challenge(grant, redirect_uri)
