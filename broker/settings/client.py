"""An app that people sign in to, as the YAML describes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from broker.core.redirects import acceptable
from broker.settings.connection import SettingsModel
from broker.settings.types import ConnectionName, SecretText, WebAddress, wrong


def _redirect(value: str) -> str:
    if reason := acceptable(value):
        raise wrong(f"{reason}; an exact address such as https://shop.example/callback would be right")
    return value


RedirectAddress = Annotated[str, AfterValidator(_redirect), WithJsonSchema({"type": "string", "format": "uri"})]


def _listed(value: Any) -> Any:
    # A tuple, since a list is no tuple to a strict model once it comes from here and not from JSON.
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


_SECRET = {"type": "string", "format": "password", "writeOnly": True}
GrantType = Literal["authorization_code", "refresh_token", "client_credentials"]
AuthMethod = Literal["client_secret_basic", "client_secret_post", "none"]


class ClientSettings(SettingsModel):
    """An app that people sign in to. The names are those of OAuth 2.0 Dynamic Client Registration (RFC 7591); ours
    are `connections`, `first_party`, `require_pkce` and `access_token_audience`."""

    client_id: str = Field(pattern=r"^[!-}]{1,128}$", examples=["shop"])
    """Letters, digits and signs, no spaces and no ~."""
    client_name: str | None = Field(default=None, min_length=1, max_length=60, examples=["Shop"])
    """What pages and mails call the app. Its id by default."""
    client_secret: Annotated[
        tuple[SecretText, ...],
        BeforeValidator(_listed),
        WithJsonSchema(
            {
                "anyOf": [_SECRET, {"type": "array", "items": _SECRET}],
            }
        ),
    ] = Field(default=(), max_length=5, examples=["${ENV:SHOP_SECRET}"])
    """One secret, or a list of those that are valid while one replaces another. None: a public client."""
    redirect_uris: tuple[RedirectAddress, ...] = Field(default=(), examples=[["https://shop.example/callback"]])
    """Where people may be sent back to, compared byte by byte."""
    post_logout_redirect_uris: tuple[RedirectAddress, ...] = Field(default=(), examples=[["https://shop.example/bye"]])
    """Where people may be sent after signing out, compared byte by byte."""
    initiate_login_uri: WebAddress | None = Field(default=None, examples=["https://shop.example/login"])
    """Where the app begins a sign-in by itself: the way back to the app on another device."""
    client_uri: WebAddress | None = Field(default=None, examples=["https://shop.example/"])
    """The app's front page."""
    logo_uri: WebAddress | None = Field(default=None, examples=["https://shop.example/logo.svg"])
    """Shown by reference; we never fetch it."""
    policy_uri: WebAddress | None = Field(default=None, examples=["https://shop.example/privacy"])
    """The app's privacy policy, linked from the pages of its sign-in."""
    tos_uri: WebAddress | None = Field(default=None, examples=["https://shop.example/terms"])
    """The app's terms of service, linked likewise."""
    application_type: Literal["web", "native"] = "web"
    """`native` apps may use any port of 127.0.0.1 or [::1] (RFC 8252)."""
    grant_types: tuple[GrantType, ...] = Field(default=("authorization_code",), min_length=1)
    """`authorization_code`, `refresh_token`, `client_credentials`."""
    response_types: tuple[Literal["code"], ...] = Field(default=("code",), min_length=1)
    """`code`."""
    scope: str = Field(
        default="openid profile email address phone offline_access",
        pattern=r"^[!#-\[\]-~]+( [!#-\[\]-~]+)*$",
        max_length=1000,
    )
    """What the app may ask for, separated by spaces."""
    token_endpoint_auth_method: AuthMethod | None = Field(default=None, examples=["client_secret_basic"])
    """`client_secret_basic`, `client_secret_post` or `none`. If it is not stated, a client with a secret may use basic
    and post, and one without is public."""
    id_token_signed_response_alg: Literal["RS256", "ES256"] = "RS256"
    """How its ID tokens are signed."""
    default_max_age: int | None = Field(default=None, ge=0, le=31_536_000, examples=[3600])
    """Seconds after which the app wants people to sign in anew."""
    require_auth_time: bool = False
    """Always tell when people signed in (`auth_time`)."""
    connections: tuple[ConnectionName, ...] | None = Field(default=None, min_length=1, examples=[["users"]])
    """Those it offers, in the order of their buttons. All of the tenant's by default."""
    first_party: bool = True
    """Ours: people are not asked for consent. Set it to false for apps of others."""
    require_pkce: bool = True
    """Refuse requests without PKCE (S256). Turn it off only for apps that cannot."""
    access_token_audience: str | None = Field(
        default=None, pattern=r"^[!-~]{1,255}$", examples=["https://api.shop.example"]
    )
    """The `aud` of its access tokens: the API that they are for. The issuer by default."""

    @model_validator(mode="after")
    def _fits(self) -> ClientSettings:
        if self.token_endpoint_auth_method == "none" and self.client_secret:
            raise wrong(
                "is none, but there is a client_secret; one of the two would be right", key="token_endpoint_auth_method"
            )
        if self.token_endpoint_auth_method not in (None, "none") and not self.client_secret:
            raise wrong(
                f"is {self.token_endpoint_auth_method}, but there is no client_secret; with one it would be right",
                key="token_endpoint_auth_method",
            )
        if "client_credentials" in self.grant_types and not self.client_secret:
            raise wrong(
                "has client_credentials, but there is no client_secret; with one it would be right", key="grant_types"
            )
        if "authorization_code" in self.grant_types and not self.redirect_uris:
            raise wrong("is missing; the address that people are sent back to would be right", key="redirect_uris")
        if "refresh_token" in self.grant_types and "authorization_code" not in self.grant_types:
            raise wrong(
                "has refresh_token without authorization_code, which refresh tokens come from", key="grant_types"
            )
        return self
