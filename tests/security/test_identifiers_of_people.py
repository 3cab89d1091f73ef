"""The id of a person is typed into commands, so it is never taken for an option of one."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from broker.flows.means import Means


@dataclass
class Drawn:
    """An entropy whose tokens are known beforehand."""

    tokens: list[str] = field(default_factory=lambda: ["-first", "--second", "third"])

    def token(self, bytes: int = 32) -> str:
        return self.tokens.pop(0)


def test_an_id_that_begins_with_a_dash_is_not_given_to_anybody() -> None:
    means: Any = SimpleNamespace(entropy=Drawn())
    assert Means.user_id(means) == "third"
