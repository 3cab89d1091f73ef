"""GitHub and GitHub Enterprise: OAuth 2.0 without ID token, addresses by a second call.
https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from broker.sdk import ResetHow, SecretText
from connections.oauth2 import Endpoints, OAuth2Connection, OAuth2Settings
from connections.reset import ResetFacts
from connections.upstream import Title


class GitHubSettings(OAuth2Settings):
    """GitHub."""

    known_claims: ClassVar[Mapping[str, str]] = {
        "preferred_username": "login", "picture": "avatar_url", "profile": "html_url", "website": "blog",
    }  # fmt: skip

    title: Title = "GitHub"
    client_secret: SecretText
    scope: str = "read:user user:email"
    login_hint_parameter: str | None = "login"
    host: str = Field(default="github.com", pattern=r"^[a-z0-9.-]+(:[0-9]+)?$", examples=["github.acme.example"])
    """The host of GitHub Enterprise Server, or `<name>.ghe.com`."""

    def needs_endpoints(self) -> bool:
        return False

    def known_reset(self) -> ResetFacts:
        """It takes no hint. Enterprise Managed Users have no password at GitHub: for them, `reset.url`."""
        return ResetFacts(ResetHow.DEEP_LINK, f"https://{self.host}/password_reset", provider="GitHub")


class GitHub(OAuth2Connection[GitHubSettings]):
    """`type: github`. The subject is the number `id`: a login can be renamed, and then taken by somebody else."""

    Settings = GitHubSettings

    def endpoints(self) -> Endpoints:
        given, host = self.settings, self.settings.host
        api = f"https://api.{host}" if host == "github.com" or host.endswith(".ghe.com") else f"https://{host}/api/v3"
        return Endpoints(
            given.authorization_endpoint or f"https://{host}/login/oauth/authorize",
            given.token_endpoint or f"https://{host}/login/oauth/access_token",
            given.userinfo_endpoint or f"{api}/user",
            given.emails_endpoint or f"{api}/user/emails",
        )

    def headers(self) -> Mapping[str, str]:
        return {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
