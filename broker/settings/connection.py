"""What every connection's settings have in common. `broker.sdk` shows this to connections."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from broker.core.connection import ResetHow
from broker.settings.types import (
    ConnectionName,
    Domain,
    Duration,
    EmailAddress,
    SecretText,
    ServiceAddress,
    WebAddress,
    wrong,
)

__all__ = [
    "ConnectionSettings",
    "Domain",
    "Duration",
    "EmailAddress",
    "ResetSettings",
    "SecretText",
    "ServiceAddress",
    "SettingsModel",
    "WebAddress",
    "wrong",
]


class SettingsModel(BaseModel):
    """A part of the configuration: frozen, strict about its keys, documented by the docstrings of its attributes.

    `hide_input_in_errors`: what was written may be a secret that stands under the wrong key. `defer_build`: a part that
    no file has is not made ready; and the docstrings are read when documentation is made (broker/settings/schema.py):
    together they were half of what it took to import the settings.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", defer_build=True, hide_input_in_errors=True, validate_default=False
    )


class ResetSettings(SettingsModel):
    """Where somebody goes who forgot the password of this connection. What is left out keeps the type's default."""

    how: ResetHow | None = Field(default=None, examples=["deep_link"])
    """`local`: a link by mail from us. `deep_link`: the provider's own reset page. `oidc_forgot`: a reset page that
    takes an OpenID request and comes back. `authorize_hint`: an ordinary sign-in there, which offers its own "Forgot
    password?". `text`: what to do, in words."""
    url: WebAddress | None = Field(default=None, examples=["https://sso.acme.example/forgot"])
    """The provider's reset page, for `deep_link` and `oidc_forgot`."""
    text: str | None = Field(default=None, min_length=1, max_length=500, examples=["Call the help desk on 4711."])
    """What to do, in words: all there is for `text`, and a sentence beside the button for the others."""
    hint_parameter: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.-]{1,64}$", examples=["login_hint"])
    """The query parameter that tells the provider's page whom this is about. Nothing is told unless this is set."""
    change_only: bool | None = Field(default=None, examples=[False])
    """The page is only for people who are still signed in at the provider; our page says so."""

    @model_validator(mode="after")
    def _fits(self) -> ResetSettings:
        if self.url is not None and self.how in (ResetHow.LOCAL, ResetHow.TEXT, ResetHow.AUTHORIZE_HINT):
            raise wrong(f"has no meaning with how: {self.how}; how: deep_link has a page to go to", key="url")
        return self


class ConnectionSettings(SettingsModel):
    """One entry of `connections`. Types add their own keys by inheriting this."""

    id: ConnectionName
    """Its name in addresses, in `clients[].connections` and in the database, where people are stored with it: it never
    changes."""
    type: str
    """What it is: `database`, `oidc`, `google`, ..."""
    title: str | None = Field(default=None, min_length=1, max_length=60, examples=["Acme staff"])
    """What its button says. Each type has a default."""
    domains: tuple[Domain, ...] = Field(default=(), examples=[["acme.example"]])
    """People with an e-mail address in one of these domains are sent here: `acme.example`, `*.acme.example`."""
    reset: ResetSettings | None = None
    """Where a forgotten password goes. Each type has a default."""
