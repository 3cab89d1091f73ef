"""How the engines are opened. The only module that tells SQLite and PostgreSQL apart."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from broker.core.errors import ConfigurationError, Unavailable

PATIENCE = 10
"""Seconds that a transaction waits for others, of this process or of another, before it is `Unavailable`."""
POSTGRESQL_CONNECTIONS = 16
"""Most connections that one process opens to PostgreSQL; whoever needs one more waits for PATIENCE."""


class Engines:
    """The two ways into one database: `writer` for transactions that write, `reader` for consistent views."""

    def __init__(self, url: str, patience: float = PATIENCE) -> None:
        """Connects to nothing yet, but makes SQLite's folder and file. Raises `ConfigurationError`, `Unavailable`."""
        parsed = parse_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.patience = patience
        if self.is_sqlite:
            _make_file(parsed)
            self.writer = _sqlite(parsed, patience, begin="BEGIN IMMEDIATE", pool_size=1, max_overflow=0)
            self.reader = _sqlite(parsed, patience, begin="BEGIN", query_only=True, pool_size=8, max_overflow=-1)
        else:
            self.writer = _postgresql(parsed, patience)
            self.reader = self.writer.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        dialect = self.writer.dialect
        self.driver_error: type[Exception] = dialect.loaded_dbapi.Error
        """What comes from the driver where SQLAlchemy does not stand between."""
        self.url = parsed
        self._abandoned: list[object] = []

    def forget(self) -> None:
        """After a fork: never touch, and never close, what the parent still uses.

        Closing a SQLite connection that another process made can remove its write-ahead log, and ending a
        PostgreSQL one says goodbye in the parent's name. So the old pools are kept, unused.
        """
        for engine in (self.writer, self.reader):
            self._abandoned.append(engine.pool)
            engine.dispose(close=False)

    def close(self) -> None:
        self.reader.dispose()
        self.writer.dispose()


def parse_url(text: str) -> URL:
    """`sqlite:///relative`, `sqlite:////absolute`, `postgresql://...`. Raises `ConfigurationError`."""
    try:
        url = make_url(text)
    except ArgumentError:
        # Not quoted: it may hold a password.
        raise ConfigurationError(["database: is not an address such as sqlite:///var/homerealm.db"]) from None
    backend = url.get_backend_name()
    if backend == "sqlite":
        if not url.database or url.database == ":memory:" or url.query:
            raise ConfigurationError(["database: SQLite needs a file and takes no options: sqlite:///var/homerealm.db"])
        return url
    if backend == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    raise ConfigurationError([f"database: {backend} is not supported: use sqlite:/// or postgresql://"])


def _make_file(url: URL) -> None:
    """Readable by its owner alone; SQLite gives its log the same mode. An empty file is an empty database."""
    path = Path(url.database or "")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise Unavailable(f"the database cannot be made: {error}", code="database.unavailable") from error


def _sqlite(
    url: URL, patience: float, *, begin: str, query_only: bool = False, pool_size: int, max_overflow: int
) -> Engine:
    engine = create_engine(
        url,
        connect_args={"timeout": patience, "check_same_thread": False},
        pool_size=pool_size,
        max_overflow=max_overflow,
        pool_timeout=patience,
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        prepare_sqlite(connection, query_only=query_only)

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        # Past SQLAlchemy's own layers: a tenth of the time, twice in every transaction.
        connection.connection.dbapi_connection.execute(begin)  # type: ignore[union-attr]

    return engine


def prepare_sqlite(connection: Any, *, query_only: bool = False) -> None:
    """One new connection of the driver.

    `synchronous=FULL`: with NORMAL a power cut could take back the last commits, and with them revive a ticket that
    was used, or a password that was replaced. It costs one fsync, 0.12 ms where it was measured, and only writers pay.
    """
    # The driver's own idea of transactions is off: it would begin them deferred, and late.
    connection.isolation_level = None
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    # What is deleted or wiped is overwritten with zeros: payloads and hashes do not linger in free pages.
    connection.execute("PRAGMA secure_delete=ON")
    if query_only:
        connection.execute("PRAGMA query_only=ON")


def _postgresql(url: URL, patience: float) -> Engine:
    try:
        return create_engine(
            url,
            pool_size=POSTGRESQL_CONNECTIONS // 2,
            max_overflow=POSTGRESQL_CONNECTIONS - POSTGRESQL_CONNECTIONS // 2,
            pool_timeout=patience,
            pool_recycle=1800,
            hide_parameters=True,
            connect_args={
                "connect_timeout": max(2, int(patience)),
                "options": f"-c lock_timeout={int(patience * 1000)}",
            },
        )
    except ModuleNotFoundError:
        raise ConfigurationError(["database: PostgreSQL needs the driver: pip install 'psycopg[binary]'"]) from None
