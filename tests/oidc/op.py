"""A tenant's OpenID Provider on real stores, and an app that talks to it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

from joserfc import jwt
from joserfc.jwk import KeySet

from broker.core.ports import Database, Grants, Sessions, Vault
from broker.core.tenant import Client, ConnectionEntry, MailRules, Tenant
from broker.core.transaction import Transaction
from broker.core.values import (
    ClientId,
    ConnectionId,
    DirectoryId,
    Grant,
    GrantId,
    Identity,
    Session,
    SessionId,
    TenantId,
    TransactionId,
    User,
    UserId,
)
from broker.oidc.provider import Answer, AuthorizationRequest, Provider, RefusedToApp, Request
from broker.oidc.signing import Signing
from broker.testing.clock import FixedClock
from broker.testing.entropy import SeededEntropy

ISSUER = "https://login.acme.example"
CALLBACK = "https://shop.example/callback?from=acme&x=a%20b"
"""A registered query in a spelling that most encoders would change."""
BYE = "https://shop.example/bye"
SECRET = "the secret of the shop, 2 % + more"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
STATE = "s" * 128
NONCE = "n" * 64


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


SHOP = Client(
    client_id=ClientId("shop"),
    client_name="Shop",
    secret_digests=(digest("an older secret"), digest(SECRET)),
    redirect_uris=(CALLBACK, "https://shop.example/other"),
    post_logout_redirect_uris=(BYE,),
    grant_types=("authorization_code", "refresh_token"),
    scope="openid profile email address phone offline_access orders",
    token_endpoint_auth_method="client_secret",
)
SERVICE = replace(SHOP, client_id=ClientId("svc"), redirect_uris=(), grant_types=("client_credentials",))
CLIENTS = (
    SHOP,
    replace(SERVICE, scope="orders stock"),
    replace(SHOP, client_id=ClientId("forum"), client_name="Forum", token_endpoint_auth_method="client_secret_basic"),
    replace(SHOP, client_id=ClientId("poster"), token_endpoint_auth_method="client_secret_post"),
    replace(SHOP, client_id=ClientId("old"), require_pkce=False, id_token_signed_response_alg="ES256"),
    replace(SHOP, client_id=ClientId("spa"), secret_digests=(), token_endpoint_auth_method="none"),
    replace(SHOP, client_id=ClientId("plain"), grant_types=("authorization_code",), scope="openid email"),
    replace(SHOP, client_id=ClientId("phone"), application_type="native", redirect_uris=("http://127.0.0.1/cb",)),
    replace(SHOP, client_id=ClientId("api-user"), access_token_audience="https://api.acme.example"),
)  # fmt: skip


def tenant(id: str = "acme", issuer: str = ISSUER) -> Tenant:
    return Tenant(
        id=TenantId(id),
        name=id.title(),
        issuer=issuer,
        directory=DirectoryId(f"{id}/live"),
        environment="live",
        mail=MailRules("Acme <no-reply@acme.example>", "console:"),
        connections=(ConnectionEntry(ConnectionId("users"), "database", "Acme account", (), None),),
        clients={client.client_id: client for client in CLIENTS},
        languages=("en", "de"),
    )


@dataclass
class Op:
    """What an app and its user can do at the provider."""

    database: Database
    grants: Grants
    sessions: Sessions
    vault: Vault
    clock: FixedClock
    entropy: SeededEntropy
    tenant: Tenant = field(default_factory=tenant)

    def __post_init__(self) -> None:
        self.signing = Signing(self.database, self.clock)
        self.provider = self.build(self.signing)
        now = self.clock.now()
        self.ada = User(
            id=UserId(self.entropy.token(12)),
            directory=self.tenant.directory,
            created_at=now,
            updated_at=now,
            connection=ConnectionId("users"),
            username="ada-" + self.entropy.token(6).replace("-", "x").replace("_", "y"),
            profile={
                "name": "Ada Lovelace",
                "given_name": "Ada",
                "family_name": "Lovelace",
                "middle_name": "King",
                "nickname": "ada",
                "profile": "https://ada.example/",
                "picture": "https://ada.example/me.png",
                "website": "https://ada.example/",
                "gender": "female",
                "birthdate": "1815-12-10",
                "zoneinfo": "Europe/London",
                "locale": "en-GB",
                "phone_number": "+44 20 7946 0000",
                "phone_number_verified": True,
                "address": {"locality": "London", "country": "GB"},
            },
        )
        self.ada = replace(self.ada, email=f"{self.ada.username}@acme.example".lower(), email_verified=True)
        with self.database.writing() as work:
            work.users.add(self.ada, kinds=("username",))
        self.session = self.sign_in()

    def build(self, signing: Signing) -> Provider:
        return Provider(
            clock=self.clock, entropy=self.entropy, vault=self.vault, database=self.database, grants=self.grants,
            sessions=self.sessions, signing=signing,
        )  # fmt: skip

    def change(self, client: str, **changes: Any) -> None:
        """Another configuration of one client."""
        changed = replace(self.tenant.clients[ClientId(client)], **changes)
        self.tenant = replace(self.tenant, clients={**self.tenant.clients, ClientId(client): changed})

    def sign_in(self) -> Session:
        now = self.clock.now()
        identity = Identity(ConnectionId("users"), self.tenant.issuer, self.ada.id, now, ("pwd",))
        session = Session(
            SessionId(self.entropy.token(18)), self.tenant.directory, self.ada.id, 0, identity, now,
            now + timedelta(hours=12), now,
        )  # fmt: skip
        self.sessions.open(session, self.sessions.secret_for(session.id, self.entropy.token(32)))
        return session

    # --- The authorization endpoint -------------------------------------------------------------------------------

    def ask(self, client: str = "shop", method: str = "GET", **changes: str | None) -> AuthorizationRequest:
        """An authorization request; None takes a parameter away."""
        parameters: dict[str, str | None] = {
            "client_id": client, "redirect_uri": CALLBACK, "response_type": "code", "scope": "openid", "state": STATE,
            "nonce": NONCE, "code_challenge": CHALLENGE, "code_challenge_method": "S256", **changes,
        }  # fmt: skip
        return self.send([(name, value) for name, value in parameters.items() if value is not None], method)

    def send(self, pairs: list[tuple[str, str]], method: str = "GET") -> AuthorizationRequest:
        where = {"query": pairs} if method == "GET" else {"form": pairs}
        return self.provider.authorize(self.tenant, Request(method, f"{self.tenant.issuer}/authorize", {}, **where))

    def refused(self, client: str = "shop", **changes: str | None) -> dict[str, str]:
        """The parameters of the error that the app gets."""
        try:
            self.ask(client, **changes)
        except RefusedToApp as refusal:
            return self.arrived(refusal.url)
        raise AssertionError("not refused")

    def arrived(self, url: str) -> dict[str, str]:
        """What the app reads at its redirect URI, whose own query must be untouched."""
        assert url.startswith(CALLBACK + "&"), url
        return dict(parse_qsl(url.removeprefix(CALLBACK + "&"), strict_parsing=True))

    def transaction(self, asked: AuthorizationRequest) -> Transaction:
        now = self.clock.now()
        return Transaction(
            TransactionId(self.entropy.token(18)), self.tenant.id, asked.client.client_id, "1", asked.parameters, "b",
            now, now + timedelta(hours=2), user=self.ada.id,
        )  # fmt: skip

    def grant(self, asked: AuthorizationRequest, **changes: Any) -> Grant:
        """As flows/sign_in makes it."""
        now, parameters = self.clock.now(), asked.parameters
        return replace(
            Grant(
                id=GrantId(self.entropy.token(18)), tenant=self.tenant.id, directory=self.tenant.directory,
                client=asked.client.client_id, user=self.ada.id, epoch=0, scope=parameters.get("scope", ""),
                issued_at=now, expires_at=now + self.tenant.rules.lifetimes.refresh_token,
                authenticated_at=self.session.authenticated_at, redirect_uri=parameters.get("redirect_uri", ""),
                nonce=parameters.get("nonce"), code_challenge=parameters.get("code_challenge"),
                code_challenge_method=parameters.get("code_challenge_method"), methods=("pwd",),
                session=self.session.id, claims_request=json.loads(parameters.get("claims", "{}")),
                connection=ConnectionId("users"),
            ),
            **changes,
        )  # fmt: skip

    def code(self, client: str = "shop", *, grant: Mapping[str, Any] | None = None, **changes: str | None) -> str:
        """A code, after a successful sign-in."""
        made = self.grant(self.ask(client, **changes), **(grant or {}))
        code = self.grants.code_for(made.id, self.entropy.token(32))
        self.grants.save_code(code, made, self.tenant.rules.lifetimes.code)
        return code

    # --- For programs ---------------------------------------------------------------------------------------------

    def post(
        self, path: str, form: Mapping[str, str | None], *, client: str | None = "shop", secret: str | None = SECRET,
        headers: Mapping[str, str] | None = None, query: list[tuple[str, str]] | None = None,
    ) -> Answer:  # fmt: skip
        """A form post; with HTTP Basic unless `client` is None."""
        sent = dict(headers or {})
        if client is not None and secret is not None:
            sent.setdefault("Authorization", basic(client, secret))
        pairs = [(name, value) for name, value in form.items() if value is not None]
        endpoint = getattr(self.provider, path)
        answer = endpoint(self.tenant, Request("POST", f"{self.tenant.issuer}/{path}", sent, query or [], pairs))
        assert isinstance(answer, Answer)
        return answer

    def exchange(self, code: str, client: str = "shop", **changes: str | None) -> Answer:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
        if client == "spa":
            return self.post("token", {**form, "client_id": "spa", **changes}, client=None)
        return self.post("token", {**form, **changes}, client=client)

    def tokens(self, client: str = "shop", scope: str = "openid", **changes: Any) -> dict[str, Any]:
        """The tokens of a successful sign-in."""
        answer = self.exchange(self.code(client, scope=scope, **changes), client)
        assert answer.status == 200, answer.body
        return body(answer)

    def refresh(self, token: str, client: str = "shop", **changes: str | None) -> Answer:
        return self.post("token", {"grant_type": "refresh_token", "refresh_token": token, **changes}, client=client)

    def userinfo(self, token: str | None, method: str = "GET", **more: Any) -> Answer:
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        return self.provider.userinfo(self.tenant, Request(method, f"{ISSUER}/userinfo", headers, **more))

    # --- What anybody can check ----------------------------------------------------------------------------------

    def jwks(self) -> dict[str, Any]:
        found = json.loads(self.provider.jwks(self.tenant))
        assert isinstance(found, dict)
        return found

    def read(self, token: str, algorithm: str = "RS256") -> dict[str, Any]:
        """The claims of a token, verified against the published keys by another library than the one that signed."""
        decoded = jwt.decode(token, KeySet.import_key_set(self.jwks()), algorithms=[algorithm])  # type: ignore[arg-type]
        return dict(decoded.claims)

    def events(self, target: str) -> list[tuple[str, str]]:
        """What the audit log says of a grant: who, and what."""
        with self.database.reading() as work:
            return [(event.actor.name, event.action) for event in work.audit.read(self.tenant.directory, target=target)]


def basic(client: str, secret: str) -> str:
    from urllib.parse import quote_plus

    return "Basic " + base64.b64encode(f"{quote_plus(client)}:{quote_plus(secret)}".encode()).decode()


def body(answer: Answer) -> dict[str, Any]:
    assert isinstance(answer.body, Mapping)
    json.dumps(answer.body)
    return dict(answer.body)


def header(token: str) -> dict[str, Any]:
    part = token.split(".", maxsplit=1)[0]
    return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


def query(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query, strict_parsing=True, keep_blank_values=True)
