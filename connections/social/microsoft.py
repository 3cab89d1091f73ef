"""Microsoft Entra ID, many tenants. https://learn.microsoft.com/en-us/entra/identity-platform/v2-protocols-oidc"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from broker.sdk import ConnectionFailed, Hint, ResetHow, SecretText, ServiceAddress
from connections.oidc import OidcConnection, OidcSettings, unverified
from connections.reset import ResetFacts
from connections.upstream import Title, invalid

_GUID = r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}"
_MANY = re.compile(r"/(common|organizations)(?=/v2\.0$)")


class MicrosoftSettings(OidcSettings):
    """Microsoft Entra ID."""

    # The page takes a name with `hint_parameter: username`; nothing is told to it unless the connection says so.
    reset_facts: ClassVar[ResetFacts] = ResetFacts(
        ResetHow.DEEP_LINK, "https://passwordreset.microsoftonline.com/", provider="Microsoft"
    )

    title: Title = "Microsoft"
    issuer: ServiceAddress = "https://login.microsoftonline.com/organizations/v2.0"
    """`organizations` lets in every organisation, `common` personal accounts as well, a tenant id only that one."""
    client_secret: SecretText
    tenants: tuple[Annotated[str, Field(pattern=f"^{_GUID}$")], ...] = ()
    """Ids of the only Entra tenants whose people are let in. Empty: all that `issuer` allows."""
    userinfo: bool = False
    tells_auth_time: bool = False


class Microsoft(OidcConnection[MicrosoftSettings]):
    """`type: microsoft`."""

    Settings = MicrosoftSettings

    @property
    def discovery_issuer(self) -> str:
        """For many tenants, Microsoft's document holds a template."""
        return _MANY.sub("/{tenantid}", self.settings.issuer)

    def is_ours(self, issuer: str) -> bool:
        pattern = re.escape(self.discovery_issuer).replace(re.escape("{tenantid}"), _GUID)
        return re.fullmatch(pattern, issuer) is not None

    def issuer_of(self, id_token: str) -> str:
        """The template with the token's own tenant, which the verified claims must then repeat."""
        tenant = unverified(id_token, 1).get("tid")
        if not isinstance(tenant, str) or not re.fullmatch(_GUID, tenant):
            raise invalid("a token without tenant")
        return self.discovery_issuer.replace("{tenantid}", tenant)

    def accept(self, claims: Mapping[str, Any]) -> None:
        if self.settings.tenants and claims["tid"] not in self.settings.tenants:
            raise ConnectionFailed(f"tenant {claims['tid']}", code="connection.unknown_user")

    def subject_of(self, claims: Mapping[str, Any]) -> str:
        """`sub` is another one for every app registration; `oid` in its tenant stays."""
        tenant, person = claims.get("tid"), claims.get("oid")
        if not isinstance(tenant, str) or not isinstance(person, str) or not person or tenant not in claims["iss"]:
            raise invalid("a token without oid")
        return f"{tenant}:{person}"

    def wishes(self, hint: Hint) -> dict[str, str]:
        """One `prompt` at a time."""
        found = super().wishes(hint)
        return {**found, "prompt": "login"} if hint.force_login else found

    def email_is_verified(self, raw: Mapping[str, Any]) -> bool:
        """An administrator or a guest writes any address there. The optional claim `xms_edov` says that its domain
        belongs to the tenant; with `common` even that is not believed (the "nOAuth" takeovers of 2023)."""
        return "/common/" not in self.settings.issuer and raw.get("xms_edov") in (True, 1, "1", "true")
