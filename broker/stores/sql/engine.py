"""How the engines are opened. The only module that tells SQLite and PostgreSQL apart."""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as SQLAlchemyTimeout

from broker.core.errors import ConfigurationError, Unavailable

PATIENCE = 10
"""Seconds that a transaction waits for others, of this process or of another, before it is `Unavailable`."""
_VIEW = "homerealm_view"
_BEGIN_VIEW = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_READ_ONLY = "25006"
"""SQLSTATE read_only_sql_transaction: a standby, or a server that its operator made so."""
POSTGRESQL_CONNECTIONS = 16
"""Most connections that one process opens to PostgreSQL; whoever needs one more waits for PATIENCE."""


class Engines:
    """The ways into one database: `writer` for transactions that write, `reader` for consistent views, and `fetch`."""

    def __init__(self, url: str, patience: float = PATIENCE) -> None:
        """Connects to nothing yet, but makes SQLite's folder and file. Raises `ConfigurationError`, `Unavailable`."""
        parsed = parse_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.patience = patience
        self._generation = 0
        if self.is_sqlite:
            _make_file(parsed)
            self.writer = _sqlite(parsed, patience, begin="BEGIN IMMEDIATE", pool_size=1, max_overflow=0)
            self.reader = _sqlite(parsed, patience, begin="BEGIN", query_only=True, pool_size=8, max_overflow=-1)
        else:
            self.writer = _postgresql(parsed, patience)
            self.reader = self.writer.execution_options(**{_VIEW: True})
            self._watch(self.writer)
        dialect = self.writer.dialect
        self.driver_error: type[Exception] = dialect.loaded_dbapi.Error
        """What comes from the driver where SQLAlchemy does not stand between."""
        self.errors = (DBAPIError, SQLAlchemyTimeout, self.driver_error)
        self.url = parsed
        self._abandoned: list[object] = []
        self._resting: deque[Any] = deque()

    @contextmanager
    def begun(self, *, writable: bool) -> Iterator[Connection]:
        """A connection with a transaction begun; what is not committed in the block is taken back.

        A connection that broke while it rested is replaced, once: BEGIN is the first that is sent, so nothing is lost.
        """
        engine = self.writer if writable else self.reader
        connection = engine.connect()
        try:
            try:
                connection.begin()
            except self.errors:
                if not self._is_broken(connection.connection.dbapi_connection):
                    raise
                self._generation += 1
                connection.invalidate()
                connection.close()
                connection = engine.connect()
                connection.begin()
            yield connection
        except Exception as error:
            if _is_of_a_standby(error):
                self._generation += 1  # every connection is made anew before it is used again
            raise
        finally:
            with suppress(SQLAlchemyError, self.driver_error):
                connection.close()

    def fetch(self, text: str, parameters: Any) -> list[Any]:
        """The rows of one SELECT in a transaction of its own, which costs no round trip.

        A connection that broke while it rested is replaced, once. Raises what is in `errors`.
        """
        if self.is_sqlite:
            return self._fetch_sqlite(text, parameters)
        try:
            return self._fetch(text, parameters)
        except _Broken:
            self._generation += 1
        try:
            return self._fetch(text, parameters)
        except _Broken as broken:
            raise broken.error from None

    def _fetch(self, text: str, parameters: Any) -> list[Any]:
        held = self.reader.raw_connection()
        try:
            found: list[Any] = held.dbapi_connection.execute(text, parameters).fetchall()  # type: ignore[union-attr]
        except self.driver_error as error:
            broken = self._is_broken(held.dbapi_connection)
            if broken:
                held.invalidate()
                raise _Broken(error) from error
            raise
        finally:
            held.close()
        return found

    def _fetch_sqlite(self, text: str, parameters: Any) -> list[Any]:
        try:
            connection = self._resting.pop()
        except IndexError:
            # Prepared as those of the pool, and then ours: the pool costs as much as the question.
            taken = self.reader.raw_connection()
            connection = taken.dbapi_connection
            taken.detach()
        try:
            # To the end, so that no snapshot stays open.
            found: list[Any] = connection.execute(text, parameters).fetchall()
        except BaseException:
            connection.close()
            raise
        self._resting.append(connection)
        return found

    def _watch(self, engine: Engine) -> None:
        """A resting connection that the server has closed is replaced before it is used, without asking the server."""

        @event.listens_for(engine, "connect")
        def opened(_: object, record: Any) -> None:
            record.info["generation"] = self._generation

        @event.listens_for(engine, "checkout")
        def taken(connection: Any, record: Any, _: object) -> None:
            if record.info["generation"] != self._generation or connection.closed or _has_news(connection.fileno()):
                raise DisconnectionError

    def _is_broken(self, connection: Any) -> bool:
        return not self.is_sqlite and bool(connection is None or connection.closed)

    def forget(self) -> None:
        """After a fork: never touch, and never close, what the parent still uses.

        Closing a SQLite connection that another process made can remove its write-ahead log, and ending a
        PostgreSQL one says goodbye in the parent's name. So the old pools are kept, unused.
        """
        self._abandoned.append(self._resting)
        self._resting = deque()
        for engine in (self.writer, self.reader):
            self._abandoned.append(engine.pool)
            engine.dispose(close=False)

    def close(self) -> None:
        while self._resting:
            with suppress(IndexError):
                self._resting.pop().close()
        self.reader.dispose()
        self.writer.dispose()


class _Broken(Exception):
    """The connection is gone."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def _is_of_a_standby(error: BaseException | None) -> bool:
    """Also under the names that it was raised again by."""
    while error is not None:
        if getattr(getattr(error, "orig", error), "sqlstate", None) == _READ_ONLY:
            return True
        error = error.__cause__
    return False


def _has_news(descriptor: int) -> bool:
    """Whether there is something to read. On a connection that nobody asked anything, that is its end."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLRDHUP)
    return bool(poll.poll(0))


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


def shown(text: str) -> str:
    """An address without its password. Raises `ConfigurationError`."""
    return parse_url(text).set(drivername=make_url(text).get_backend_name()).render_as_string(hide_password=True)


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


def _connecting(url: URL, patience: float) -> dict[str, object]:
    """What libpq is told (libpq-connect, 34.1.2), but for what the address says itself.

    A machine that vanishes says nothing: without these the kernel believes in it for a quarter of an hour after we
    sent something, and for two hours while we wait. Whoever is led to a standby, because the address has two hosts or
    moves, would read from behind and write nothing.
    """
    wanted = {
        "connect_timeout": max(2, int(patience)),
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
        "target_session_attrs": "read-write",
    }
    return {"autocommit": True, **{name: value for name, value in wanted.items() if name not in url.query}}


def _postgresql(url: URL, patience: float) -> Engine:
    try:
        engine = create_engine(
            url,
            pool_size=POSTGRESQL_CONNECTIONS // 2,
            max_overflow=POSTGRESQL_CONNECTIONS - POSTGRESQL_CONNECTIONS // 2,
            pool_timeout=patience,
            pool_recycle=1800,
            pool_use_lifo=True,
            hide_parameters=True,
            connect_args=_connecting(url, patience),
        )
    except ModuleNotFoundError:
        raise ConfigurationError(["database: PostgreSQL needs the driver: pip install 'psycopg[binary]'"]) from None

    @event.listens_for(engine, "do_connect")
    def limit(_dialect: object, _record: object, _arguments: object, options: dict[str, Any]) -> None:
        # What the address says comes last, and wins.
        options["options"] = f"{_limits(patience)} {options.get('options', '')}".strip()
        options.setdefault("application_name", "homerealm")

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        view = connection.get_execution_options().get(_VIEW)
        connection.connection.dbapi_connection.execute(_BEGIN_VIEW if view else "BEGIN")  # type: ignore[union-attr]

    return engine


def _limits(patience: float) -> str:
    """What the server ends by itself, in milliseconds: a wait for a lock, a statement, and a transaction of a process
    that was stopped in its middle, whose locks would stay."""
    limits = {
        "lock_timeout": patience,
        "statement_timeout": patience * 3,
        "idle_in_transaction_session_timeout": patience * 6,
    }
    return " ".join(f"-c {name}={int(seconds * 1000)}" for name, seconds in limits.items())
