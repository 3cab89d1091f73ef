"""How the stores talk to the database: one transaction, whose errors are typed and final."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, CursorResult, Executable, Row
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from broker.core.errors import Unavailable

T = TypeVar("T")
Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None


def unavailable(error: BaseException) -> Unavailable:
    """Locked, full, broken, gone: for the person it is all one, and the detail is for the log."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    # PostgreSQL's details quote rows, with hashes in them: its first line does not.
    said = getattr(getattr(cause, "diag", None), "message_primary", None) or str(cause).strip()
    return Unavailable(f"database: {said or type(cause).__name__}", code="database.unavailable")


class Statements:
    """Runs the statements of one transaction.

    After the engine failed once, nothing more runs and nothing is committed, even if the caller goes on: SQLite ends
    the transaction by itself when the disk is full, and would take every later statement as a transaction of its own.
    """

    __slots__ = ("_connection", "_savepoints", "failed", "writable")

    def __init__(self, connection: Connection | None, *, writable: bool) -> None:
        self._connection = connection
        self._savepoints = 0
        self.writable = writable
        self.failed: Unavailable | RuntimeError | None = None

    def all(self, statement: Executable, parameters: Parameters = None) -> Sequence[Row[Any]]:
        return self._run(statement, parameters, _all)

    def one(self, statement: Executable, parameters: Parameters = None) -> Row[Any] | None:
        """The first row, or None."""
        return self._run(statement, parameters, _first)

    def change(self, statement: Executable, parameters: Parameters = None) -> int:
        """How many rows were changed. Raises `RuntimeError` inside `reading()`, `IntegrityError`."""
        self.must_write()
        return self._run(statement, parameters, _rowcount)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """A savepoint: an `IntegrityError` takes back what was done inside, and the transaction goes on."""
        self.must_write()
        try:
            savepoint = self._open().begin_nested()
        except SQLAlchemyError as error:
            raise self._fail(error) from error
        self._savepoints += 1
        try:
            yield
            savepoint.commit()
        except BaseException:
            if self.failed is None:
                savepoint.rollback()
            raise
        finally:
            self._savepoints -= 1

    def must_write(self) -> None:
        """Raises `RuntimeError` inside `reading()`: a mistake in the program, found on every engine alike."""
        if not self.writable:
            raise RuntimeError("this is a reading() view: to change something, use writing()")

    def finish(self) -> None:
        """From here on every use raises `RuntimeError`: a unit of work does not outlive its `with` block."""
        self.failed = RuntimeError("this unit of work is over")

    def _run(self, statement: Executable, parameters: Parameters, take: Callable[[CursorResult[Any]], T]) -> T:
        if self.failed is not None:
            raise self.failed
        try:
            return take(self._open().execute(statement, parameters))
        except IntegrityError as error:
            if not self._savepoints:
                # PostgreSQL has given the transaction up, and would answer COMMIT with a silent ROLLBACK.
                self._fail(error)
            raise
        except DBAPIError as error:
            raise self._fail(error) from error

    def _open(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("this unit of work has no transaction")
        return self._connection

    def _fail(self, error: BaseException) -> Unavailable:
        self.failed = failed = unavailable(error)
        return failed


def _all(result: CursorResult[Any]) -> Sequence[Row[Any]]:
    return result.all()


def _first(result: CursorResult[Any]) -> Row[Any] | None:
    return result.first()


def _rowcount(result: CursorResult[Any]) -> int:
    return result.rowcount
