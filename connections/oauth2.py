"""Any OAuth 2.0 provider without ID tokens: whoever the access token's userinfo names (RFC 6749, RFC 7636).

Without an ID token nothing says when somebody signed in, or for whom the access token was made. It comes straight from
the token endpoint to us, which is what makes it ours; it is used once and forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from broker.sdk import Arrival, ConnectionFailed, Hint, Identity, Redirect, ServiceAddress, wrong
from connections.upstream import OAuthConnection, OAuthSettings, field_at, invalid, subject


class Endpoints(NamedTuple):
    authorization: str
    token: str
    userinfo: str
    emails: str | None = None
    """A second resource that lists the person's addresses, each with `email`, `verified` and `primary`."""


class OAuth2Settings(OAuthSettings):
    """An OAuth 2.0 provider. It describes itself nowhere, so its endpoints are given."""

    scope: str = Field(default="", pattern=r"^([\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*)?$")
    """What we ask for, with spaces between (RFC 6749 3.3)."""
    subject: str = Field(default="id", pattern=r"^[A-Za-z0-9_.:-]{1,128}$", examples=["id", "data.user.id"])
    """The field of the userinfo answer that identifies a person and never goes to somebody else: an id, not a name."""
    emails_endpoint: ServiceAddress | None = None
    """A second resource that lists a person's addresses, each with `email`, `verified` and `primary`."""
    login_hint_parameter: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    """The parameter of the authorization request that suggests who signs in."""
    pkce: bool = True
    """Proof Key for Code Exchange by S256 (RFC 7636). Off only for a provider that answers it with an error."""

    @model_validator(mode="after")
    def _endpoints_are_given(self) -> OAuth2Settings:
        if self.needs_endpoints():
            for name in ("authorization_endpoint", "token_endpoint", "userinfo_endpoint"):
                if getattr(self, name) is None:
                    raise wrong(f"has no {name}; its address would be right, for nothing discovers it")
        return self

    def needs_endpoints(self) -> bool:
        """For presets, which know them."""
        return True


S = TypeVar("S", bound=OAuth2Settings)


class OAuth2Connection(OAuthConnection[S], Generic[S]):
    """The protocol, for `oauth2` and for every preset."""

    def depart(self, state: str, return_url: str, hint: Hint) -> Redirect:
        verifier = self.tools.entropy.token(48) if self.settings.pkce else None
        url = self.tools.upstream.authorization_url(
            self.endpoints().authorization,
            client_id=self.settings.client_id,
            redirect_uri=return_url,
            scope=self.settings.scope,
            state=state,
            code_verifier=verifier,
            extra={**self.settings.parameters, **self.wishes(hint)},
        )
        return Redirect(url, {"issuer": self.issuer, **({"verifier": verifier} if verifier else {})})

    def wishes(self, hint: Hint) -> dict[str, str]:
        """The hint in the provider's own parameters. For presets."""
        name = self.settings.login_hint_parameter
        return {name: hint.identifier} if name and hint.identifier else {}

    def arrive(self, arrival: Arrival) -> Identity:
        params, private = arrival.params, arrival.private
        if private.get("issuer") != self.issuer or (self.settings.pkce and not private.get("verifier")):
            raise invalid("no departure of ours, or one to another provider")
        if params.get("iss") not in (None, self.issuer):
            raise invalid(f"an answer of {params['iss'][:200]!r}")
        if "error" in params:
            raise self.refused(params)
        token = self.tools.upstream.exchange(
            self.endpoints().token,
            client_id=self.settings.client_id,
            client_secret=self.secret,
            auth_method=self.auth_method(),
            code=self.code_of(params),
            redirect_uri=arrival.return_url,
            code_verifier=private.get("verifier"),
        )
        raw = self.person(token)
        return Identity(
            connection=self.id,
            issuer=self.issuer,
            subject=subject(field_at(raw, self.settings.subject)),
            at=self.tools.clock.now(),
            claims=self.claims_of(raw),
        )

    # --- For presets -------------------------------------------------------------------------------------------------

    def endpoints(self) -> Endpoints:
        """Where the provider is: given by the tenant, else known of it."""
        settings = self.settings
        return Endpoints(
            str(settings.authorization_endpoint),
            str(settings.token_endpoint),
            str(settings.userinfo_endpoint),
            settings.emails_endpoint,
        )

    @property
    def issuer(self) -> str:
        """What subjects are unique within: the origin where people sign in."""
        parts = urlsplit(self.endpoints().authorization)
        return f"{parts.scheme}://{parts.netloc}"

    def headers(self) -> Mapping[str, str]:
        """What the provider's resources want to be sent besides the access token."""
        return {}

    def person(self, token: Mapping[str, Any]) -> dict[str, Any]:
        """The provider's fields about whoever signed in. Raises `ConnectionFailed`."""
        endpoints = self.endpoints()
        found = self.userinfo_answer(endpoints.userinfo, token.get("access_token"), self.headers())
        if not isinstance(found, dict):
            raise invalid("a userinfo answer that is no object")
        if endpoints.emails is None:
            return found
        listed = self.userinfo_answer(endpoints.emails, token.get("access_token"), self.headers())
        return {**found, **best_address(listed)}

    # --- The rest ----------------------------------------------------------------------------------------------------

    def auth_method(self, announced: tuple[str, ...] | None = None) -> str:
        """In the form, by default: providers that are no OpenID providers often take nothing else."""
        return super().auth_method(announced or ("client_secret_post",))

    @property
    def home(self) -> str:
        return self.endpoints().authorization

    def check_live(self) -> list[str]:
        """Whether the resource that names people answers at all: without a token, with a refusal."""
        address = self.endpoints().userinfo
        try:
            answer = self.tools.fetcher.get(address, headers=self.headers())
        except ConnectionFailed as failure:
            return [failure.detail or failure.code]
        return [f"{address} answered {answer.status}"] if answer.status >= 500 or answer.status == 404 else []


class OAuth2(OAuth2Connection[OAuth2Settings]):
    """`type: oauth2`."""

    Settings = OAuth2Settings


def best_address(listed: Any) -> dict[str, Any]:
    """The primary address of a list, else its first verified one: `email` and `email_verified`.

    What the person's public profile says is never taken for it.
    """
    found = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    chosen = next((one for one in found if one.get("primary") is True), None)
    chosen = chosen or next((one for one in found if one.get("verified") is True), None)
    if chosen is None:
        return {"email": None, "email_verified": None}
    return {"email": chosen.get("email"), "email_verified": chosen.get("verified") is True}
