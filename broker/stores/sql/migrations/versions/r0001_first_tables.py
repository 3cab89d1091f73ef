"""The first tables.

A migration that has been released is never changed; it says in its own words what the tables were then.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TEXT = sa.Text()
KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _people()
    _tickets_and_mail()
    _the_rest()


def _people() -> None:
    op.create_table(
        "users",
        sa.Column("id", KEY, nullable=False),
        sa.Column("directory", KEY, nullable=False),
        sa.Column("connection", KEY, nullable=True),
        sa.Column("username", TEXT, nullable=True),
        sa.Column("username_key", KEY, nullable=True),
        sa.Column("email", TEXT, nullable=True),
        sa.Column("email_key", KEY, nullable=True),
        sa.Column("email_verified", sa.Boolean(), nullable=False),
        sa.Column("name_key", KEY, nullable=True),
        sa.Column("blocked", sa.Boolean(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("profile", TEXT, nullable=False),
        sa.Column("kinds", TEXT, nullable=False),
        sa.Column("hash", TEXT, nullable=True),
        sa.Column("must_change_password", sa.Boolean(), nullable=False),
        sa.Column("hash_changed_at", TIME, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
    )
    op.create_index("ix_users_directory_email_key", "users", ["directory", "email_key"], unique=False)
    op.create_index("ix_users_directory_id", "users", ["directory", "id"], unique=False)
    op.create_index("ix_users_directory_name_key", "users", ["directory", "name_key"], unique=False)
    op.create_index("ix_users_directory_username_key", "users", ["directory", "username_key"], unique=False)
    op.create_table(
        "identifiers",
        sa.Column("directory", KEY, nullable=False),
        sa.Column("connection", KEY, nullable=False),
        sa.Column("kind", KEY, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("user_id", KEY, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_identifiers_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("directory", "connection", "kind", "key", name=op.f("pk_identifiers")),
    )
    op.create_index("ix_identifiers_user_id", "identifiers", ["user_id"], unique=False)
    op.create_table(
        "identities",
        sa.Column("directory", KEY, nullable=False),
        sa.Column("connection", KEY, nullable=False),
        sa.Column("issuer", KEY, nullable=False),
        sa.Column("subject", KEY, nullable=False),
        sa.Column("user_id", KEY, nullable=False),
        sa.Column("linked_at", TIME, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("methods", TEXT, nullable=False),
        sa.Column("acr", TEXT, nullable=True),
        sa.Column("claims", TEXT, nullable=False),
        sa.Column("private", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_identities_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("directory", "connection", "issuer", "subject", name=op.f("pk_identities")),
    )
    op.create_index("ix_identities_user_id", "identities", ["user_id"], unique=False)
    op.create_table(
        "consents",
        sa.Column("user_id", KEY, nullable=False),
        sa.Column("client", KEY, nullable=False),
        sa.Column("scopes", TEXT, nullable=False),
        sa.Column("granted_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_consents_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "client", name=op.f("pk_consents")),
    )


def _tickets_and_mail() -> None:
    op.create_table(
        "tickets",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("id", KEY, nullable=False),
        sa.Column("digest", KEY, nullable=False),
        sa.Column("purpose", KEY, nullable=False),
        sa.Column("directory", KEY, nullable=False),
        sa.Column("user_id", KEY, nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("issued_by_kind", TEXT, nullable=False),
        sa.Column("issued_by_name", TEXT, nullable=False),
        sa.Column("issued_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("connection", TEXT, nullable=True),
        sa.Column("address", TEXT, nullable=True),
        sa.Column("client", TEXT, nullable=True),
        sa.Column("login", TEXT, nullable=True),
        sa.Column("browser", TEXT, nullable=True),
        sa.Column("language", TEXT, nullable=False),
        sa.Column("used_at", TIME, nullable=True),
        sa.Column("replaced_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_tickets_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_tickets")),
        sa.UniqueConstraint("digest", name=op.f("uq_tickets_digest")),
        sa.UniqueConstraint("id", name=op.f("uq_tickets_id")),
    )
    op.create_index("ix_tickets_expires_at", "tickets", ["expires_at"], unique=False)
    op.create_index("ix_tickets_user_id_purpose", "tickets", ["user_id", "purpose"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("id", KEY, nullable=False),
        sa.Column("tenant", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=True),
        sa.Column("state", KEY, nullable=False),
        sa.Column("queued_at", TIME, nullable=False),
        sa.Column("due_at", TIME, nullable=False),
        sa.Column("leased_until", TIME, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", TEXT, nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_index("ix_outbox_state_due_at", "outbox", ["state", "due_at"], unique=False)
    op.create_table(
        "mail_log",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("tenant", KEY, nullable=False),
        sa.Column("kind", KEY, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_mail_log")),
    )
    op.create_index("ix_mail_log_at", "mail_log", ["at"], unique=False)
    op.create_index("ix_mail_log_tenant_kind_key_at", "mail_log", ["tenant", "kind", "key", "at"], unique=False)


def _the_rest() -> None:
    op.create_table(
        "audit",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("directory", KEY, nullable=False),
        sa.Column("actor_kind", TEXT, nullable=False),
        sa.Column("actor_name", TEXT, nullable=False),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("target", KEY, nullable=False),
        sa.Column("detail", TEXT, nullable=False),
        sa.Column("reference", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_directory_number", "audit", ["directory", "number"], unique=False)
    op.create_index("ix_audit_directory_target_number", "audit", ["directory", "target", "number"], unique=False)
    op.create_table(
        "signing_keys",
        sa.Column("kid", KEY, nullable=False),
        sa.Column("tenant", KEY, nullable=False),
        sa.Column("algorithm", TEXT, nullable=False),
        sa.Column("private", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("active_from", TIME, nullable=False),
        sa.Column("retired_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("kid", name=op.f("pk_signing_keys")),
    )
    op.create_index("ix_signing_keys_tenant", "signing_keys", ["tenant"], unique=False)
    op.create_table(
        "meta",
        sa.Column("name", KEY, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_meta")),
    )
