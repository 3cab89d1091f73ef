"""Each built-in connection with the stand-in of its provider, ready to be tried."""

from __future__ import annotations

from typing import Any

from broker.core.values import ConnectionId, User, UserId
from broker.registry import resolve
from broker.testing.contracts import OpenIdCase, RedirectCase
from broker.testing.contracts.redirect_sign_in import RETURN_URL
from broker.testing.tools import ACME, Workbench
from broker.testing.upstreams import EntraStandIn, GitHubStandIn, GoogleStandIn, OpenIdStandIn, Person, Registration
from broker.testing.upstreams.entra import TENANT

PASSWORD = "correct horse battery staple"
US = Registration("homerealm", "upstream-secret-0123456789", (RETURN_URL,))
OURS: dict[str, Any] = {"client_id": US.client_id, "client_secret": US.secret}
OID = "00000000-0000-0000-66f3-3332eca7ea81"


def kind(name: str) -> Any:
    found = resolve(name)
    assert found is not None
    return found


def oidc(**settings: Any) -> OpenIdCase:
    bench = Workbench()
    provider = OpenIdStandIn(bench.clock, US)
    provider.people["ada"] = Person(
        "248289761001",
        PASSWORD,
        {"name": "Ada Lovelace", "email": "ada@acme.test", "email_verified": True, "groups": ["staff"]},
    )
    return OpenIdCase(
        kind("oidc"),
        {**OURS, "issuer": provider.issuer, **settings},
        bench,
        provider,
        subject="248289761001",
        issuer=provider.issuer,
    )


def google(**settings: Any) -> OpenIdCase:
    bench = Workbench()
    provider = GoogleStandIn(bench.clock, US)
    provider.people["ada"] = Person(
        "10769150350006150715113082367",
        PASSWORD,
        {
            "hd": "acme.test", "email": "ada@acme.test", "email_verified": True, "name": "Ada Lovelace",
            "picture": "https://lh3.googleusercontent.com/a-/photo.jpg", "given_name": "Ada", "family_name": "Lovelace",
        },
    )  # fmt: skip
    return OpenIdCase(
        kind("google"), {**OURS, **settings}, bench, provider, subject=provider.people["ada"].subject,
        issuer="https://accounts.google.com",
    )  # fmt: skip


def microsoft(audience: str = "organizations", **settings: Any) -> OpenIdCase:
    bench = Workbench()
    provider = EntraStandIn(bench.clock, US, audience)
    provider.people["ada"] = Person(
        "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
        PASSWORD,
        {"tid": TENANT, "oid": OID, "name": "Ada Lovelace", "email": "ada@contoso.test"},
    )
    return OpenIdCase(
        kind("microsoft"), {**OURS, "issuer": provider.issuer, **settings}, bench, provider,
        subject=f"{TENANT}:{OID}", issuer=f"https://login.microsoftonline.com/{TENANT}/v2.0",
    )  # fmt: skip


OCTOCAT = {
    "login": "octocat",
    "name": "monalisa octocat",
    "email": "public@github.test",
    "blog": "https://github.test/blog",
    "emails": [
        {"email": "old@acme.test", "verified": True, "primary": False, "visibility": None},
        {"email": "octocat@acme.test", "verified": True, "primary": True, "visibility": "public"},
    ],
}


def github(host: str = "github.com", **settings: Any) -> RedirectCase:
    bench = Workbench()
    provider = GitHubStandIn(bench.clock, US, host)
    provider.people["ada"] = Person("583231", PASSWORD, dict(OCTOCAT))
    return RedirectCase(
        kind("github"), {**OURS, **({"host": host} if host != "github.com" else {}), **settings}, bench, provider,
        subject="583231", issuer=f"https://{host}",
    )  # fmt: skip


def oauth2(**settings: Any) -> RedirectCase:
    """A server of its own that speaks as GitHub does, by the generic type alone."""
    bench = Workbench()
    provider = GitHubStandIn(bench.clock, US, "git.upstream.test")
    provider.people["ada"] = Person("583231", PASSWORD, dict(OCTOCAT))
    written = {
        **OURS,
        "authorization_endpoint": "https://git.upstream.test/login/oauth/authorize",
        "token_endpoint": "https://git.upstream.test/login/oauth/access_token",
        "userinfo_endpoint": "https://git.upstream.test/api/v3/user",
        "emails_endpoint": "https://git.upstream.test/api/v3/user/emails",
        "scope": "read:user user:email",
        **settings,
    }
    return RedirectCase(kind("oauth2"), written, bench, provider, subject="583231", issuer="https://git.upstream.test")


def add_person(bench: Workbench, **facts: object) -> User:
    """Ada, who signs in as `ada` or `ada@acme.test` with PASSWORD."""
    now = bench.clock.now()
    user = User(
        UserId("user-ada"), ACME.directory, now, now, connection=ConnectionId("tried"), username="ada",
        email="ada@acme.test", email_verified=True, **facts,
    )  # fmt: skip
    with bench.database.writing() as work:
        return work.users.add(user, hash=bench.hasher.hash(PASSWORD), kinds=("email", "username"))
