"""Google accounts, personal and Workspace. https://developers.google.com/identity/openid-connect/openid-connect"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from broker.sdk import ConnectionFailed, Hint, ResetHow, SecretText, ServiceAddress
from connections.oidc import OidcConnection, OidcSettings
from connections.reset import ResetFacts
from connections.upstream import Title


class GoogleSettings(OidcSettings):
    """Google."""

    # g.co/recover leads there. It takes no hint. A Workspace whose administrators switched self-recovery off says so
    # there; one that signs in at another provider has its own page: `reset.url`.
    reset_facts: ClassVar[ResetFacts] = ResetFacts(
        ResetHow.DEEP_LINK, "https://accounts.google.com/signin/recovery", provider="Google"
    )

    title: Title = "Google"
    issuer: ServiceAddress = "https://accounts.google.com"
    client_secret: SecretText
    tells_auth_time: bool = False
    hosted_domain: str | None = Field(default=None, pattern=r"^[a-z0-9-]+(\.[a-z0-9-]+)+$", examples=["acme.example"])
    """Only people of this Workspace domain, and Google is told so."""


class Google(OidcConnection[GoogleSettings]):
    """`type: google`."""

    Settings = GoogleSettings

    def wishes(self, hint: Hint) -> dict[str, str]:
        """Google knows no `prompt=login` and no `max_age`; choosing the account is the most that it can be asked."""
        hosted = {"hd": self.settings.hosted_domain} if self.settings.hosted_domain else {}
        choose = {"prompt": "select_account"} if hint.force_login or hint.select_account else {}
        known = {"login_hint": hint.identifier, "hl": hint.language}
        return {**hosted, **choose, **{name: value for name, value in known.items() if value}}

    def accept(self, claims: Mapping[str, Any]) -> None:
        """The parameter only chooses what people see; the claim is what counts."""
        if self.settings.hosted_domain and claims.get("hd") != self.settings.hosted_domain:
            raise ConnectionFailed(f"hd is {claims.get('hd')!r}", code="connection.unknown_user")

    def email_is_verified(self, raw: Mapping[str, Any]) -> bool:
        """Google vouches for its own mailboxes only: any other address may have changed hands since it was proven."""
        domain = str(raw.get("email")).rpartition("@")[2].lower()
        return super().email_is_verified(raw) and domain != "" and domain in ("gmail.com", raw.get("hd"))
