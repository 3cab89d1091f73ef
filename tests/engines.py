"""The pair of engines that a run of the tests stands on: `pytest --engines postgresql-redis` takes the second one.

Whatever opens stores asks the fixture `engines` for them. That is also how a run on the second pair knows what to run:
tests without that fixture, their own or below another, touch no engine, or choose theirs themselves.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from tests import kv_engines
from tests.postgresql import shared
from tests.sql_engines import ready_file


@dataclass(frozen=True)
class Pair:
    sql: str
    kv: str

    def database(self, place: Path, *, lasting: bool = False) -> str:
        """The address of a database with our tables and without people: a file at `place`, or one of PostgreSQL's for
        one test."""
        if self.sql == "sqlite":
            shutil.copyfile(ready_file(), place)
            return f"sqlite:///{place}"
        return shared().database(shared().ready(), lasting=lasting)

    def database_of_serve(self, place: str) -> str:
        """The same for processes, which have the true time; it stays until the tests end."""
        return f"sqlite:///{place}" if self.sql == "sqlite" else shared().fresh()

    def key_value(self) -> AbstractContextManager[str]:
        """The address of a store that lives as long as the block."""
        return kv_engines.server(self.kv)

    def key_value_of_serve(self) -> AbstractContextManager[str]:
        """What a configuration says for `homerealm serve`: on the first pair it starts its own."""
        return nullcontext("embedded") if self.kv == "valkey" else kv_engines.server(self.kv)

    @contextmanager
    def key_values(self) -> Iterator[tuple[str, str]]:
        """Two of them, for a town."""
        with self.key_value() as one, self.key_value() as two:
            yield one, two


PAIRS = {"sqlite-valkey": Pair("sqlite", "valkey"), "postgresql-redis": Pair("postgresql", "redis")}
