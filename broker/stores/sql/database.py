"""One database: transactions over all the stores."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from sqlalchemy import select

from broker.core.errors import Unavailable
from broker.core.mail import Job
from broker.core.ports import Clock, Entropy, Vault
from broker.stores.sql import reseal, schema
from broker.stores.sql.audit import SqlAudit
from broker.stores.sql.consents import SqlConsents
from broker.stores.sql.engine import PATIENCE, Engines
from broker.stores.sql.keys import SqlKeys
from broker.stores.sql.outbox import SqlOutbox
from broker.stores.sql.questions import OneQuestion, Questions
from broker.stores.sql.statements import Statements, unavailable
from broker.stores.sql.tables import meta
from broker.stores.sql.tickets import SqlTickets
from broker.stores.sql.together import Together
from broker.stores.sql.users import SqlUsers

_MARKER = select(meta.c.value).where(meta.c.name == schema.MARKER)


class SqlUnitOfWork:
    """Implements `broker.core.ports.UnitOfWork`. Good for one `with` block, in one thread."""

    __slots__ = ("_clock", "_entropy", "_statements", "_vault")

    @property
    def statements(self) -> Statements:
        """For the housekeeping of this package."""
        return self._statements

    def __init__(self, statements: Statements, clock: Clock, entropy: Entropy, vault: Vault) -> None:
        self._statements = statements
        self._clock = clock
        self._entropy = entropy
        self._vault = vault

    @property
    def users(self) -> SqlUsers:
        return SqlUsers(self._statements, self._clock, self._vault)

    @property
    def tickets(self) -> SqlTickets:
        return SqlTickets(self._statements, self._entropy, self._vault)

    @property
    def outbox(self) -> SqlOutbox:
        return SqlOutbox(self._statements, self._vault)

    @property
    def audit(self) -> SqlAudit:
        return SqlAudit(self._statements, self._vault)

    @property
    def consents(self) -> SqlConsents:
        return SqlConsents(self._statements)

    @property
    def keys(self) -> SqlKeys:
        return SqlKeys(self._statements, self._vault)


class SqlQuestion:
    """The block of `asking()`. A class, since a generator costs a third of what SQLite needs for the answer."""

    __slots__ = ("_statements", "_work")

    def __init__(self, work: SqlUnitOfWork, statements: OneQuestion) -> None:
        self._work = work
        self._statements = statements

    def __enter__(self) -> SqlUnitOfWork:
        return self._work

    def __exit__(self, *_: object) -> None:
        self._statements.finish()


class SqlDatabase:
    """Implements `broker.core.ports.Database` on SQLite or PostgreSQL. Safe over threads, and after a fork."""

    def __init__(self, url: str, clock: Clock, entropy: Entropy, vault: Vault, *, patience: float = PATIENCE) -> None:
        """Connects to nothing yet; call `upgrade()` before the first use.

        `url`: `sqlite:///var/homerealm.db` (relative to the working directory), `sqlite:////var/lib/homerealm.db`, or
        `postgresql://user:password@host/name`. `patience`: seconds that a transaction waits for
        others. Raises `ConfigurationError`, `Unavailable`.
        """
        self._engines = Engines(url, patience)
        self._questions = Questions(self._engines)
        self._clock = clock
        self._entropy = entropy
        self._vault = vault
        self._marker: str | None = None
        self._forked()

    @contextmanager
    def writing(self) -> Iterator[SqlUnitOfWork]:
        """Raises `Unavailable`, and then nothing was written. One at a time in a thread: `RuntimeError` otherwise."""
        self._check_fork()
        if getattr(self._here, "writing", False):
            raise RuntimeError("this thread is inside writing() already: pass the unit of work on")
        # In a queue here, since SQLite's own way to wait is to try again after a nap: slower, and unfair.
        queue = self._queue if self._engines.is_sqlite else None
        if queue is not None and not queue.acquire(timeout=self._engines.patience):
            raise Unavailable("database: other writers did not finish in time", code="database.unavailable")
        self._here.writing = True
        try:
            with self._transaction(writable=True) as work:
                yield work
        finally:
            self._here.writing = False
            if queue is not None:
                queue.release()

    def enqueue(self, job: Job) -> None:
        """Raises `Unavailable`; and `RuntimeError` inside writing(), whose end it would wait for."""
        self._check_fork()
        if getattr(self._here, "writing", False):
            raise RuntimeError("this thread is inside writing() already: put the job into its outbox")
        self._together.put(job)

    def _enqueue(self, jobs: Sequence[Job]) -> None:
        with self.writing() as work:
            work.outbox.put(*jobs)

    @contextmanager
    def reading(self) -> Iterator[SqlUnitOfWork]:
        """Raises `Unavailable`. Writing through it raises `RuntimeError`."""
        self._check_fork()
        with self._transaction(writable=False) as work:
            yield work

    def asking(self) -> SqlQuestion:
        """Raises `Unavailable`. A second question, and writing, raise `RuntimeError`."""
        self._check_fork()
        statements = OneQuestion(self._questions)
        return SqlQuestion(SqlUnitOfWork(statements, self._clock, self._entropy, self._vault), statements)

    def marker(self) -> str:
        """Raises `Unavailable`."""
        if self._marker is None:
            self._marker = self._read_marker()
        return self._marker

    def ping(self) -> str:
        """Reads what every complete database has: another release may have changed the tables since we started."""
        self._read_marker()
        found = self.schema()
        found.need()
        return found.revision or ""

    def reseal(self) -> Mapping[str, int]:
        """Raises `ValueError` for what no key of ours opens, `Unavailable`."""
        self._check_fork()
        return reseal.everything(self.writing, self._vault)

    def upgrade(self) -> None:
        """Bring the tables to what this version needs. Any number of processes may do it at once.

        Raises `ConfigurationError` for a database of a newer version that this one cannot work with, or of somebody
        else, or whose tables this role may not change; `Unavailable`.
        """
        self._check_fork()
        with self._typed_errors():
            schema.upgrade(self._engines, self._clock, self._entropy)

    def check(self) -> None:
        """For whoever may not upgrade. Raises `ConfigurationError`, `Unavailable`."""
        self.schema().need()

    def fill_from(self, source: SqlDatabase, progress: Callable[[str, int, int], None]) -> dict[str, int]:
        """Copy everything that `source` holds into this one, which is empty. Returns the rows by table.

        Raises `ConfigurationError` when it is not empty, `Unavailable`; then it holds nothing but empty tables.
        """
        from broker.stores.sql.copying import copy

        self.upgrade()
        with self._typed_errors():
            return copy(source._engines, self._engines, progress)

    def schema(self) -> schema.Schema:
        """What the stored tables are. Raises `Unavailable`."""
        self._check_fork()
        with self._typed_errors():
            return schema.read(self._engines.reader)

    def revision(self) -> str | None:
        """The revision of the stored schema; None for an empty database. Raises `Unavailable`."""
        return self.schema().revision

    def close(self) -> None:
        """Give all connections back. It can be used again afterwards."""
        self._check_fork()
        self._engines.close()

    def _read_marker(self) -> str:
        self._check_fork()
        with self._typed_errors(), self._engines.reader.connect() as connection:
            found = connection.execute(_MARKER).scalar()
        if found is None:
            raise Unavailable(
                "database: it has no tables yet: `homerealm serve` makes them", code="database.unavailable"
            )
        return str(found)

    @contextmanager
    def _transaction(self, *, writable: bool) -> Iterator[SqlUnitOfWork]:
        with ExitStack() as stack:
            with self._typed_errors():
                connection = stack.enter_context(self._engines.begun(writable=writable))
            statements = Statements(connection, writable=writable)
            stack.callback(statements.finish)
            yield SqlUnitOfWork(statements, self._clock, self._entropy, self._vault)
            if statements.failed is not None:
                # Whoever caught it inside the block did not make it good.
                raise statements.failed
            with self._typed_errors():
                if writable:
                    connection.commit()

    @contextmanager
    def _typed_errors(self) -> Iterator[None]:
        try:
            yield
        except self._engines.errors as error:
            raise unavailable(error) from error

    def _check_fork(self) -> None:
        if os.getpid() != self._process:
            self._engines.forget()
            self._forked()

    def _forked(self) -> None:
        self._process = os.getpid()
        self._queue = threading.Lock()
        self._here = threading.local()
        self._together = Together(self._enqueue)
