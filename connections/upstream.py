"""What all OAuth 2.0 providers have in common: our registration there, their refusals, their claims."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from broker.sdk import (
    STANDARD_CLAIMS,
    Connection,
    ConnectionFailed,
    RedirectSignIn,
    ResetPage,
    SecretText,
    ServiceAddress,
    UpstreamReset,
    WebAddress,
    from_upstream,
    wrong,
)
from connections.reset import UpstreamSettings

Title = Annotated[str | None, Field(min_length=1, max_length=60)]
"""For presets, whose buttons say the provider's name."""
AuthMethod = Literal["client_secret_basic", "client_secret_post", "none"]
LONGEST_CODE = 4096
"""Characters of an authorization code; the longest that we know of have about 2,000 (Entra ID)."""
LONGEST_SUBJECT = 255
"""OpenID Connect Core 2."""
LEEWAY = 30
"""Seconds that a provider's clock may be off."""

_RESERVED = frozenset(
    {
        "client_id", "client_secret", "code", "code_challenge", "code_challenge_method", "code_verifier", "iss",
        "login_hint", "max_age", "nonce", "prompt", "redirect_uri", "request", "request_uri", "response_mode",
        "response_type", "scope", "state", "uri", "url",
    }
)  # fmt: skip

# RFC 6749 4.1.2.1, OpenID Connect Core 3.1.2.6, and what single providers say instead.
_REFUSALS: Mapping[str, str] = {
    **dict.fromkeys(
        ("access_denied", "account_selection_required", "consent_required", "interaction_required", "login_required",
         "user_cancelled_authorize", "user_cancelled_login"),
        "connection.denied",
    ),
    **dict.fromkeys(("server_error", "temporarily_unavailable"), "connection.unavailable"),
    **dict.fromkeys(
        ("application_suspended", "invalid_client", "invalid_request", "invalid_scope", "redirect_uri_mismatch",
         "registration_not_supported", "request_not_supported", "request_uri_not_supported", "unauthorized_client",
         "unsupported_response_type"),
        "connection.misconfigured",
    ),
}  # fmt: skip

# A resource that is not there, or not for us, is a matter of scopes and permissions.
_STATUSES: Mapping[int, str] = {
    403: "connection.misconfigured",
    404: "connection.misconfigured",
    429: "connection.unavailable",
}


class OAuthSettings(UpstreamSettings):
    """Our registration at a provider."""

    known_claims: ClassVar[Mapping[str, str]] = {}
    """The provider's own field for a standard claim; a preset brings what is known."""

    client_id: str = Field(min_length=1, max_length=512)
    """What the provider calls us."""
    client_secret: SecretText | None = None
    """From the provider, for `client_secret_basic` and `client_secret_post`."""
    token_endpoint_auth_method: AuthMethod | None = None
    """How we show who we are at the token endpoint. Default: what the provider announces, else `client_secret_basic`;
    `none` without a secret."""
    scope: str = Field(
        default="openid profile email", pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*$"
    )
    """What we ask for, with spaces between (RFC 6749 3.3)."""
    authorization_endpoint: WebAddress | None = None
    """Where people sign in, when it cannot be discovered."""
    token_endpoint: ServiceAddress | None = None
    """Where codes are exchanged, when it cannot be discovered."""
    userinfo_endpoint: ServiceAddress | None = None
    """Where claims are read, when it cannot be discovered."""
    parameters: Mapping[str, str] = Field(default={}, examples=[{"domain_hint": "acme.example"}])
    """Further parameters of the authorization request, as the provider documents them."""
    claims: Mapping[str, str] = Field(default={}, examples=[{"preferred_username": "upn", "name": "profile.real_name"}])
    """The provider's own field for a standard claim of OpenID Connect; a dot goes one level down."""
    trust_email: Literal["claim", "always", "never"] = "claim"
    """Whether an e-mail address counts as verified: as the provider says, always, or never. With `always` whoever can
    write the address there can receive what is mailed to its accounts here."""
    sign_up: bool = True
    """Whether the first sign-in makes an account. Without it, only people who are known already come in."""

    @field_validator("parameters")
    @classmethod
    def _leave_ours_alone(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        if taken := sorted(_RESERVED & value.keys()):
            raise wrong(f"sets {', '.join(taken)}, which we set ourselves; other parameters would be right")
        return value

    @field_validator("claims")
    @classmethod
    def _standard_claims(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        if unknown := sorted(value.keys() - STANDARD_CLAIMS):
            raise wrong(
                f"names {', '.join(unknown)}; standard claims would be right, such as name or preferred_username"
            )
        return value


S = TypeVar("S", bound=OAuthSettings)


class OAuthConnection(Connection[S], RedirectSignIn, UpstreamReset, Generic[S]):
    """Sign in by a redirect, reset at the provider. How the person is recognised is up to the protocol."""

    def reset_page(self, hint: str | None, state: str | None = None, return_url: str | None = None) -> ResetPage:
        return self.settings.effective_reset().page(self.title, hint)

    @property
    @abstractmethod
    def home(self) -> str:
        """An address of the provider, for the origin that people's browsers are sent to."""

    def http_origins(self) -> tuple[str, ...]:
        facts = self.settings.effective_reset()
        pages = (self.home, self.settings.authorization_endpoint, facts.url)
        parts = [urlsplit(page) for page in pages if page]
        return tuple(dict.fromkeys(f"http://{part.netloc}" for part in parts if part.scheme == "http"))

    @property
    def _mapping(self) -> dict[str, str]:
        return {**self.settings.known_claims, **self.settings.claims}

    def claims_of(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Standard claims from the provider's fields, with our own word on whether the address is verified."""
        mapping = self._mapping
        flat = {**raw, **{path: field_at(raw, path) for path in mapping.values()}}
        claims = from_upstream(flat, mapping)
        claims.pop("email_verified", None)
        if "email" in claims:
            claims["email_verified"] = self._verified(flat)
        return claims

    def _verified(self, raw: Mapping[str, Any]) -> bool:
        match self.settings.trust_email:
            case "always":
                return True
            case "never":
                return False
            case _:
                return self.email_is_verified(raw)

    def email_is_verified(self, raw: Mapping[str, Any]) -> bool:
        """Whether the provider vouches for the address. What is missing is not verified."""
        mapping = self._mapping
        if "email" in mapping and "email_verified" not in mapping:
            # `email_verified` speaks of the field `email`, and the address is from another one.
            return False
        value = raw.get(mapping.get("email_verified", "email_verified"))
        return value is True or value == "true"

    def refused(self, params: Mapping[str, str]) -> ConnectionFailed:
        """The provider's error answer as our error; its words go to the log only."""
        error, description = params["error"], params.get("error_description", "")
        code = _REFUSALS.get(error, "connection.invalid")
        return ConnectionFailed(f"{printable(error)}: {printable(description)}", code=code)

    def code_of(self, params: Mapping[str, str]) -> str:
        """The authorization code of an answer. Raises `ConnectionFailed`."""
        code = params.get("code", "")
        if not 0 < len(code) <= LONGEST_CODE:
            raise invalid("an answer without a usable code")
        return code

    def userinfo_answer(self, address: str, access_token: Any, headers: Mapping[str, str] | None = None) -> Any:
        """What a protected resource says about the person, as JSON. Raises `ConnectionFailed`."""
        if not isinstance(access_token, str) or not access_token.isprintable() or not access_token.isascii():
            raise invalid("no usable access token")
        sent = {"Authorization": f"Bearer {access_token}", "Accept": "application/json", **(headers or {})}
        answer = self.tools.fetcher.get(address, headers=sent)
        if answer.status != 200:
            code = _STATUSES.get(
                answer.status, "connection.unavailable" if answer.status >= 500 else "connection.invalid"
            )
            raise ConnectionFailed(f"{address} answered {answer.status}", code=code)
        try:
            return answer.json()
        except ValueError as error:
            raise invalid(f"{address} answered what is no JSON") from error

    def auth_method(self, announced: tuple[str, ...] | None = None) -> str:
        """How to authenticate at the token endpoint; `announced` is the provider's own list."""
        settings = self.settings
        if settings.token_endpoint_auth_method is not None:
            return settings.token_endpoint_auth_method
        if settings.client_secret is None:
            return "none"
        if announced and "client_secret_basic" not in announced and "client_secret_post" in announced:
            return "client_secret_post"
        return "client_secret_basic"

    @property
    def secret(self) -> str | None:
        found = self.settings.client_secret
        return found.reveal() if found else None


def invalid(why: str) -> ConnectionFailed:
    """An answer that cannot be trusted."""
    return ConnectionFailed(why, code="connection.invalid")


def printable(text: str) -> str:
    """Somebody else's words, for a line of a log."""
    return "".join(c if c.isprintable() else " " for c in text[:200])


def subject(value: Any) -> str:
    """Raises `ConnectionFailed` for what identifies nobody. Numbers (GitHub) are written out."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_SUBJECT or not value.isprintable():
        raise invalid("an answer that names nobody")
    return value


def field_at(raw: Any, path: str) -> Any:
    """The value of a field of an answer; None where there is none. A dot goes one level down."""
    if isinstance(raw, Mapping) and path in raw:
        return raw[path]
    for step in path.split("."):
        raw = raw.get(step) if isinstance(raw, Mapping) else None
    return raw
