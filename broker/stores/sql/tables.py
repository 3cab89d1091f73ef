"""The tables. Whoever changes them writes a migration: a test compares the two.

Texts are `TEXT` everywhere, since PostgreSQL would refuse at run time what SQLite takes. Uniqueness rests on columns
that hold what Python canonicalised, never on an expression such as lower() (SECURITY 16).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect


class UtcDateTime(TypeDecorator[datetime]):
    """Aware in, aware out, in UTC. SQLite alone would forget the zone. A naive time raises `ValueError`."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive time: take it from a Clock")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Key = Text().with_variant(Text(collation="C"), "postgresql")
"""Compared byte by byte, as SQLite does, so that a prefix is a range of the index on both."""
Number = BigInteger().with_variant(Integer(), "sqlite")
"""Counts up. SQLite numbers rows by itself only where the type is INTEGER."""

metadata = MetaData(
    naming_convention={
        # Names of our own, since a migration can only change what it can name.
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _user(*, primary_key: bool = False) -> Column[Any]:
    return Column("user_id", Key, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, primary_key=primary_key)


users = Table(
    "users",
    metadata,
    Column("id", Key, primary_key=True),
    Column("directory", Key, nullable=False),
    Column("connection", Key),
    Column("username", Text),
    Column("username_key", Key),
    Column("email", Text),
    # Not unique: several accounts may have one contact address. What must be unique stands in `identifiers`.
    Column("email_key", Key),
    Column("email_verified", Boolean, nullable=False),
    Column("name_key", Key),
    Column("blocked", Boolean, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("profile", Text, nullable=False),
    # Which of username and address sign the person in: space-separated, in the order of `KINDS`.
    Column("kinds", Text, nullable=False),
    Column("hash", Text),
    Column("must_change_password", Boolean, nullable=False),
    Column("hash_changed_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index("ix_users_directory_username_key", "directory", "username_key"),
    Index("ix_users_directory_email_key", "directory", "email_key"),
    Index("ix_users_directory_name_key", "directory", "name_key"),
    Index("ix_users_directory_id", "directory", "id"),
)

identifiers = Table(
    "identifiers",
    metadata,
    Column("directory", Key, primary_key=True),
    Column("connection", Key, primary_key=True),
    Column("kind", Key, primary_key=True),
    Column("key", Key, primary_key=True),
    _user(),
    Index("ix_identifiers_user_id", "user_id"),
)

identities = Table(
    "identities",
    metadata,
    Column("directory", Key, primary_key=True),
    Column("connection", Key, primary_key=True),
    Column("issuer", Key, primary_key=True),
    Column("subject", Key, primary_key=True),
    _user(),
    Column("linked_at", UtcDateTime, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("methods", Text, nullable=False),
    Column("acr", Text),
    Column("claims", Text, nullable=False),
    # Sealed: it may hold the upstream's ID token.
    Column("private", LargeBinary, nullable=False),
    Index("ix_identities_user_id", "user_id"),
)

consents = Table(
    "consents",
    metadata,
    _user(primary_key=True),
    Column("client", Key, primary_key=True),
    Column("scopes", Text, nullable=False),
    Column("granted_at", UtcDateTime, nullable=False),
)

tickets = Table(
    "tickets",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("id", Key, nullable=False),
    Column("digest", Key, nullable=False),
    Column("purpose", Key, nullable=False),
    Column("directory", Key, nullable=False),
    _user(),
    Column("epoch", Integer, nullable=False),
    Column("issued_by_kind", Text, nullable=False),
    Column("issued_by_name", Text, nullable=False),
    Column("issued_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("connection", Text),
    Column("address", Text),
    Column("client", Text),
    # The transaction of the browser that asked; not ours.
    Column("login", Text),
    Column("browser", Text),
    Column("language", Text, nullable=False),
    Column("used_at", UtcDateTime),
    Column("replaced_at", UtcDateTime),
    UniqueConstraint("id"),
    UniqueConstraint("digest"),
    Index("ix_tickets_user_id_purpose", "user_id", "purpose"),
    Index("ix_tickets_expires_at", "expires_at"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Key, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("kind", Text, nullable=False),
    # Sealed while the job is `new`, and wiped then: it may hold a link.
    Column("payload", LargeBinary),
    Column("state", Key, nullable=False),
    Column("queued_at", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    # Nobody else takes the job until then.
    Column("leased_until", UtcDateTime),
    Column("attempts", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("finished_at", UtcDateTime),
    Index("ix_outbox_state_due_at", "state", "due_at"),
)

mail_log = Table(
    "mail_log",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("tenant", Key, nullable=False),
    Column("kind", Key, nullable=False),
    # A keyed digest of the address.
    Column("key", Key, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Index("ix_mail_log_tenant_kind_key_at", "tenant", "kind", "key", "at"),
    Index("ix_mail_log_at", "at"),
)

audit = Table(
    "audit",
    metadata,
    # No reference to users: what happened stays when somebody is deleted.
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("directory", Key, nullable=False),
    Column("actor_kind", Text, nullable=False),
    Column("actor_name", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Key, nullable=False),
    Column("detail", Text, nullable=False),
    Column("reference", Text, nullable=False),
    # The chain (core/chain): empty until the worker has sealed the row.
    Column("place", Number),
    Column("hash", Text),
    Column("seal", Text),
    Index("ix_audit_directory_number", "directory", "number"),
    Index("ix_audit_place", "place", unique=True),
    Index("ix_audit_reference", "reference"),
    Index("ix_audit_directory_target_number", "directory", "target", "number"),
    # A number is never given twice, not even when the last row was removed by hand.
    sqlite_autoincrement=True,
)

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("kid", Key, primary_key=True),
    Column("tenant", Key, nullable=False),
    Column("algorithm", Text, nullable=False),
    # Sealed.
    Column("private", LargeBinary, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("active_from", UtcDateTime, nullable=False),
    Column("retired_at", UtcDateTime),
    Index("ix_signing_keys_tenant", "tenant"),
)

meta = Table(
    "meta",
    metadata,
    Column("name", Key, primary_key=True),
    Column("value", Text, nullable=False),
)
