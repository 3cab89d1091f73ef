"""Everything that is a row, through SQLAlchemy Core: SQLite in WAL mode, or PostgreSQL, by the same statements."""

from broker.stores.sql.database import SqlDatabase

__all__ = ["SqlDatabase"]
