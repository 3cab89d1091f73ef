"""One question to the database: a SELECT on a connection of the driver, in one round trip.

SQLAlchemy's part is done once for each statement: its text, and what turns values of Python into those of the driver
and back. What it does at every execution besides costs ten times what SQLite needs for the answer.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Dialect, Executable, Row, Select
from sqlalchemy.types import TypeEngine

from broker.stores.sql.engine import Engines
from broker.stores.sql.statements import Parameters, Statements, unavailable

_MOST = 500
"""Statements that are kept. They are constants of modules; whoever made them anew each time would fill the memory."""

Process = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Question:
    """A SELECT as one driver takes it."""

    text: str
    order: tuple[str, ...] | None
    """Names of the parameters in the order of their marks; None where the marks have names."""
    constants: Mapping[str, Any]
    into: tuple[tuple[str, Process], ...]
    out: tuple[tuple[int, Process], ...]
    row: Callable[[Sequence[Any]], Any]

    @classmethod
    def compiled(cls, statement: Select[Any], dialect: Dialect) -> Question:
        made = statement.compile(dialect=dialect)
        positions = getattr(made, "positiontup", None)
        columns = list(statement.selected_columns)
        into = ((name, _process(bind.type, dialect)) for bind, name in made.bind_names.items())
        out = ((number, _process(column.type, dialect, out=True)) for number, column in enumerate(columns))
        # As SQLAlchemy's rows: by position, and by the name of the column.
        row = namedtuple("row", [str(column.name) for column in columns])  # type: ignore[misc]
        return cls(
            text=str(made),
            order=None if positions is None else tuple(positions),
            constants={name: bind.value for bind, name in made.bind_names.items() if not bind.required},
            into=tuple((name, process) for name, process in into if process is not None),
            out=tuple((number, process) for number, process in out if process is not None),
            row=row._make,
        )

    def bound(self, parameters: Mapping[str, Any]) -> Any:
        """The parameters as the driver takes them. Raises `KeyError` for one that is missing."""
        values = {**self.constants, **parameters}
        for name, process in self.into:
            values[name] = process(values[name])
        return values if self.order is None else [values[name] for name in self.order]

    def rows(self, found: Sequence[Sequence[Any]]) -> list[Any]:
        if not self.out:
            return [self.row(one) for one in found]
        rows = []
        for one in found:
            values = list(one)
            for number, process in self.out:
                values[number] = process(values[number])
            rows.append(self.row(values))
        return rows


class Questions:
    """Asks, and knows what was asked before."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._known: dict[Executable, Question] = {}

    def ask(self, statement: Executable, parameters: Parameters) -> list[Any]:
        """Raises `Unavailable`."""
        question = self._known.get(statement) or self._learn(statement)
        bound = question.bound(parameters if isinstance(parameters, Mapping) else {})
        try:
            return question.rows(self._engines.fetch(question.text, bound))
        except self._engines.errors as error:
            raise unavailable(error) from error

    def _learn(self, statement: Executable) -> Question:
        if not isinstance(statement, Select):
            raise TypeError("only a SELECT is a question")
        question = Question.compiled(statement, self._engines.reader.dialect)
        if len(self._known) < _MOST:
            self._known[statement] = question
        return question


class OneQuestion(Statements):
    """Statements for a block that asks once."""

    __slots__ = ("_questions",)

    def __init__(self, questions: Questions) -> None:
        # Without a connection: there is none before the question is asked.
        super().__init__(None, writable=False)
        self._questions = questions

    def all(self, statement: Executable, parameters: Parameters = None) -> Sequence[Row[Any]]:
        if self.failed is not None:
            raise self.failed
        self.failed = RuntimeError("this was asking(), for one question: for a view of more, use reading()")
        return self._questions.ask(statement, parameters)

    def one(self, statement: Executable, parameters: Parameters = None) -> Row[Any] | None:
        found = self.all(statement, parameters)
        return found[0] if found else None


def _process(type: TypeEngine[Any], dialect: Dialect, *, out: bool = False) -> Process | None:
    there = type.dialect_impl(dialect)
    return there.result_processor(dialect, None) if out else there.bind_processor(dialect)
