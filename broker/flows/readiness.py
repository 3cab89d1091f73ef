"""Whether this process can serve people, and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from broker.core.errors import BrokerError

WRONG_KEY = "a wrong or missing secret key: put it back, or list it under other_secret_key_files (or other_secret_keys)"
"""Why what is in the database does not open, and what to do."""


class Says(Protocol):
    def __call__(self, event: str, reference: str, **facts: str | int) -> None: ...


@dataclass(frozen=True)
class Readiness:
    """Asks everything that a login needs, each time. Says when something stops to answer, and when it is back."""

    asked: Mapping[str, Callable[[], object]]
    """What is needed by name; each raises `BrokerError` (`Unavailable`, `ConfigurationError`) when it is not there."""
    say: Says
    down: dict[str, str] = field(default_factory=dict)
    """What did not answer when it was last asked, and why. For operators: it may quote an address."""

    def missing(self) -> tuple[str, ...]:
        """The names of what does not answer; these may be told to anybody."""
        for name, ask in self.asked.items():
            try:
                ask()
            except BrokerError as error:
                if name not in self.down:
                    self.say("store.unavailable", "", store=name, code=error.code, detail=error.detail)
                self.down[name] = error.detail
            else:
                if self.down.pop(name, None) is not None:
                    self.say("store.back", "", store=name)
        return tuple(name for name in self.asked if name in self.down)
