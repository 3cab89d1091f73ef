"""Rows of the core with something in every field, for contract suites and tests of stores."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from broker.core.events import Action, Event
from broker.core.mail import Job, JobKind
from broker.core.ports import SigningKey
from broker.core.ticket import Purpose, Ticket
from broker.core.values import Actor, ClientId, ConnectionId, DirectoryId, TenantId, TransactionId, User, UserId

LIVE = DirectoryId("acme/live")
DEV = DirectoryId("acme/dev")
USERS = ConnectionId("users")
BOTH = ("email", "username")
HASH = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$mq8v0J0nJb2h6P7Ph1kqz0bJ0d1w0l5cE9l0M7mHn2k"


def a_user(now: datetime, name: str = "ada", **changes: Any) -> User:
    """Somebody of the database connection `users`, called `name` in every way."""
    user = User(
        id=UserId(f"user-{name}"),
        directory=LIVE,
        created_at=now,
        updated_at=now,
        connection=USERS,
        username=name.capitalize(),
        email=f"{name.capitalize()}@Acme.example",
        email_verified=True,
        profile={"name": f"{name.capitalize()} Łoś", "address": {"locality": "Łódź"}, "updated_at": 7},
    )
    return replace(user, **changes)


def a_federated_user(now: datetime, name: str = "grace", **changes: Any) -> User:
    """Somebody who only ever signs in upstream."""
    return replace(a_user(now, name), connection=None, username=None, **changes)


def a_ticket(now: datetime, user: UserId = UserId("user-ada"), id: str = "t1", **changes: Any) -> Ticket:  # noqa: B008
    """A reset link that was just asked for."""
    ticket = Ticket(
        id=id,
        purpose=Purpose.RESET,
        directory=LIVE,
        user=user,
        epoch=0,
        issued_by=Actor.worker(),
        issued_at=now,
        expires_at=now + timedelta(minutes=30),
        connection=USERS,
        address="Ada@Acme.example",
        client=ClientId("shop"),
        transaction=TransactionId("Tr4nsact10n-1"),
        browser="browser-digest",
        language="de",
    )
    return replace(ticket, **changes)


def a_job(now: datetime, id: str = "job-1", **changes: Any) -> Job:
    """A mail that is due."""
    job = Job(
        id=id,
        tenant=TenantId("acme"),
        kind=JobKind.MAIL,
        payload={"kind": "reset", "to": "Ada@Acme.example", "link": "https://login.acme.example/reset?t=CANARY"},
        queued_at=now,
        due_at=now,
    )
    return replace(job, **changes)


def an_event(now: datetime, **changes: Any) -> Event:
    """A reset that is done."""
    event = Event(
        at=now,
        directory=LIVE,
        actor=Actor.user(UserId("user-ada")),
        action=Action.RESET_DONE,
        target="user-ada",
        detail={"connection": "users", "from": "Łódź"},
        reference="7K3Q-XW92-4T",
    )
    return replace(event, **changes)


def a_signing_key(now: datetime, kid: str = "k1", **changes: Any) -> SigningKey:
    """A key that signs."""
    key = SigningKey(
        kid=kid,
        tenant="acme",
        algorithm="ES256",
        private=b"\x30\x81CANARY of a private key\x00\xff",
        created_at=now,
        active_from=now + timedelta(hours=1),
    )
    return replace(key, **changes)
