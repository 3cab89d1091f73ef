"""Authlib's authorization server for one tenant. It validates and serialises; state, views and users are ours."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from typing import Any

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import AuthorizationServer

from broker.core import redirects
from broker.core.errors import BadRequest
from broker.core.events import Action, Event
from broker.core.ports import Reused
from broker.core.tenant import Client, Tenant
from broker.core.values import Actor, ClientId, Grant
from broker.oidc.backing import Backing
from broker.oidc.clients import CHALLENGE, RelyingParty, authenticate
from broker.oidc.grants import ClientCredentials, CodeGrant, Pkce, RefreshGrant
from broker.oidc.messages import NO_STORE, Answer, refusal
from broker.oidc.requests import Message

# At DEBUG it logs every token that it issues, whole.
logging.getLogger("authlib").setLevel(logging.INFO)


_S256 = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_OF_ONE_REQUEST = frozenset({"state", "nonce", "code_challenge", "login_hint", "hinted_subject", "id_token_hint"})
"""Parameters whose values Authlib does not look at, or whose form is known to be right."""
RIGHT = 256
"""Ways to ask that one tenant's apps have, at most; each is a few hundred bytes."""


class Server(AuthorizationServer):
    """Built once per tenant and configuration, never per request. Everything about one request is in its `Message`."""

    def __init__(self, tenant: Tenant, backing: Backing) -> None:
        super().__init__()
        self.tenant = tenant
        self.backing = backing
        self._right: dict[frozenset[tuple[str, str]], str] = {}
        """Requests that were found right, without what is only theirs, and their scopes."""
        self.register_grant(CodeGrant, [Pkce()])
        self.register_grant(RefreshGrant)
        self.register_grant(ClientCredentials)

    # --- What Authlib asks of an integration ----------------------------------------------------------------------

    def create_oauth2_request(self, request: Message) -> Message:
        """Unchanged: a stored request goes in again as it is. The stock Flask integration reads the current one."""
        return request

    def query_client(self, client_id: str) -> RelyingParty | None:  # type: ignore[override]
        client = self.tenant.clients.get(ClientId(client_id))
        return RelyingParty(client) if client is not None else None

    def authenticate_client(self, request: Any, methods: Collection[str], endpoint: str = "token") -> RelyingParty:
        """Ours: Authlib's answers 500 to Basic credentials that are not UTF-8, and takes two methods at once."""
        client, method = authenticate(
            self.tenant, request.headers.get("Authorization"), request.form, public="none" in methods
        )
        relying_party = RelyingParty(client)
        request.auth_method, request.client = method, relying_party
        return relying_party

    def save_token(self, token: Mapping[str, Any], request: Any) -> None:
        """Nothing: Authlib would save the token before it deletes the code. Ours are kept by the grant they are of."""

    def send_signal(self, name: str, *args: object, **kwargs: object) -> None:
        """Nobody listens."""

    def handle_response(self, status: int, body: Any, headers: Any) -> Answer:
        return Answer(status, body or None, {**NO_STORE, **dict(headers)})

    def handle_error_response(self, request: Any, error: OAuth2Error) -> Answer:
        """JSON. Errors for the app's redirect URI are written by the provider, which adds `iss` to every one."""
        status = error.status_code or 400
        if status == 401:
            return refusal(error.error or "invalid_client", error.description, 401, WWW_Authenticate=CHALLENGE)
        return refusal(error.error or "invalid_request", error.description, status)

    # --- Codes and refresh tokens ---------------------------------------------------------------------------------

    def redeem(self, code: str, first: str | None, by: Client) -> Grant | None:
        """The grant of a code, for exactly one caller; `first` is the refresh token that its family begins with."""
        return self._once(self.backing.grants.redeem_code(code, first), Action.CODE_REUSED, by)

    def rotate(self, old: str, new: str, by: Client) -> Grant | None:
        """The grant of a refresh token, for exactly one caller."""
        return self._once(self.backing.grants.rotate_refresh(old, new), Action.REFRESH_REUSED, by)

    def _once(self, found: Grant | Reused | None, action: Action, by: Client) -> Grant | None:
        if not isinstance(found, Reused):
            return found
        # The family is dead already; somebody has a token that is not theirs, which an operator should see.
        now, actor = self.backing.clock.now(), Actor.client(by.client_id)
        event = Event(now, self.tenant.directory, actor, action, found.grant or "")
        with self.backing.database.reading() as work:
            # Once for each grant: whoever holds a dead token could write rows for ever.
            known = work.audit.read(self.tenant.directory, target=event.target, limit=8)
        if not any(one.action is action for one in known):
            with self.backing.database.writing() as work:
                work.audit.write(event)
        return None

    def fits(self, grant: Grant, client: Client) -> bool:
        return self.backing.belongs(self.tenant, client, grant)

    # --- The two endpoints ----------------------------------------------------------------------------------------

    def consider(self, parameters: Mapping[str, str]) -> str:
        """Check an authorization request; returns its scope. Raises `OAuth2Error`.

        An app asks the same each time, but for what is random or a person's: what was found right is not looked at
        again while this configuration lasts.
        """
        same = None
        if _S256.fullmatch(parameters.get("code_challenge", "")):
            same = frozenset(item for item in parameters.items() if item[0] not in _OF_ONE_REQUEST)
            if (known := self._right.get(same)) is not None:
                return known
        message = Message("GET", parameters)
        self.get_consent_grant(message, end_user=None)  # type: ignore[no-untyped-call]
        scope = message.scope or ""
        if same is not None:
            if len(self._right) >= RIGHT:
                self._right.clear()
            self._right[same] = scope
        return scope

    def answer_app(self, parameters: Mapping[str, str], code: str) -> str:
        """Where to send the browser with a code. The stored request is checked again, as the configuration is now.

        Authlib would decode a registered query and encode it in another way.
        Raises `BadRequest` when it no longer is right, such as for an app that was removed in the meantime.
        """
        try:
            self.consider(parameters)
        except OAuth2Error as error:
            raise BadRequest(str(error), code="client.changed") from error
        pairs = [("code", code)]
        if state := parameters.get("state"):
            pairs.append(("state", state))
        return redirects.extend(parameters["redirect_uri"], [*pairs, ("iss", self.tenant.issuer)])

    def answer_token(self, message: Message) -> Answer:
        """The token response. Whatever used up a code or a refresh token and then failed ends its family."""
        answer: object = self.create_token_response(message)
        if not isinstance(answer, Answer):
            raise TypeError("Authlib answered past handle_response")
        if answer.status != 200 and message.redeemed is not None:
            self.backing.grants.revoke(message.redeemed.id)
        return answer
