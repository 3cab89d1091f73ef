"""The audit log becomes a chain: each row gets a place, a hash and a seal, by the worker and after the fact.

Nothing but new columns that may be empty: the release before this one writes its rows as ever, and they are sealed
when a worker of this one finds them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
works_with = "0001"

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("audit", sa.Column("place", NUMBER, nullable=True))
    op.add_column("audit", sa.Column("hash", sa.Text(), nullable=True))
    op.add_column("audit", sa.Column("seal", sa.Text(), nullable=True))
    op.create_index("ix_audit_place", "audit", ["place"], unique=True)
    op.create_index("ix_audit_reference", "audit", ["reference"], unique=False)
