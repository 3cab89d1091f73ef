"""Values of the core with something in every field, for contract suites and tests of stores."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

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
    UserId,
)


def an_identity(now: datetime, **changes: Any) -> Identity:
    """Somebody who signed in at a provider."""
    identity = Identity(
        connection=ConnectionId("staff"),
        issuer="https://sso.acme.example",
        subject="00u1-Łukasz",
        at=now - timedelta(seconds=5, microseconds=123),
        methods=("pwd", "otp"),
        acr="urn:acme:two",
        claims={"email": "ada@acme.example", "email_verified": True, "address": {"locality": "Łódź"}},
        private={"id_token": "eyJhbGciOiJSUzI1NiJ9.e30.c2ln"},
    )
    return replace(identity, **changes)


def a_transaction(now: datetime, id: str = "Tr4nsact10n-1", **changes: Any) -> Transaction:
    """A login that somebody is in the middle of."""
    transaction = Transaction(
        id=TransactionId(id),
        tenant=TenantId("acme"),
        client=ClientId("shop"),
        config_version="7",
        request={"scope": "openid email", "state": "Zustand ü", "redirect_uri": "https://shop.example/callback"},
        browser="browser-digest",
        started_at=now,
        expires_at=now + timedelta(hours=2),
        connection=ConnectionId("staff"),
        identifier="ada@acme.example",
        upstream={"nonce": "n1", "verifier": "v1"},
    )
    return replace(transaction, **changes)


def an_identified(transaction: Transaction, now: datetime) -> Transaction:
    """The same login once the person is known: ready to finish."""
    return transaction.identify(an_identity(now), UserId("user-1"), 3)


def a_session(now: datetime, id: str = "S3ss10n-1", **changes: Any) -> Session:
    """A browser that somebody is signed in on."""
    session = Session(
        id=SessionId(id),
        directory=DirectoryId("acme/live"),
        user=UserId("user-1"),
        epoch=3,
        identity=an_identity(now),
        created_at=now,
        expires_at=now + timedelta(hours=12),
        authenticated_at=now - timedelta(seconds=5),
        factors=("otp",),
        confirmed_at=now,
        agent="Firefox on Linux",
        clients=(ClientId("shop"), ClientId("blog")),
    )
    return replace(session, **changes)


def a_grant(now: datetime, id: str = "Tr4nsact10n-1", **changes: Any) -> Grant:
    """What an app was allowed."""
    grant = Grant(
        id=GrantId(id),
        tenant=TenantId("acme"),
        directory=DirectoryId("acme/live"),
        client=ClientId("shop"),
        user=UserId("user-1"),
        epoch=3,
        scope="openid email offline_access",
        issued_at=now,
        expires_at=now + timedelta(days=30),
        authenticated_at=now - timedelta(seconds=5),
        redirect_uri="https://shop.example/callback",
        nonce="n-0S6_WzA2Mj",
        code_challenge="E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        code_challenge_method="S256",
        methods=("pwd", "otp"),
        acr="urn:acme:two",
        session=SessionId("S3ss10n-1"),
        claims_request={"userinfo": {"email": {"essential": True}, "name": None}},
        connection=ConnectionId("staff"),
    )
    return replace(grant, **changes)
