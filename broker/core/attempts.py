"""What an attempt at a secret is counted against, and what comes of it (SECURITY 13). `ports.Throttle` counts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `burst` at once, and one more every `period`."""

    key: str
    burst: int
    period: timedelta


@dataclass(frozen=True, slots=True)
class Delay:
    """`free` attempts at once; after the last of them one waits for `first`, and after each further one twice as long
    as before, at most `longest`. All is forgotten `forgotten` after the last wait. Nobody is ever locked out."""

    key: str
    free: int
    first: timedelta
    longest: timedelta
    forgotten: timedelta


@dataclass(frozen=True, slots=True)
class Watch:
    """Counts the failures of many accounts together, so that an attack that spares each of them is noticed.

    On from `threshold` unforgiven attempts a minute, or by `alarm`; off when they stayed below half of it for `hold`.
    """

    key: str
    threshold: int
    hold: timedelta
    alarm: bool = False
    """Something else noticed an attack: the queue of password hashing is long."""


@dataclass(frozen=True, slots=True)
class Demand:
    """A solved challenge that an attempt must bring: always, or only while the `Watch` sees an attack."""

    always: bool
    solved: str | None
    """The identity of the solution that came with the attempt; it is accepted once, and this is what is remembered."""
    lifetime: timedelta
    """How long a solution is remembered: as long as its challenge is valid."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of counting an attempt."""

    wait: timedelta
    """Zero: the attempt was counted, and may be made (unless it is `demanded` that a challenge is solved first)."""
    attacked: bool = False
    demanded: bool = False
    """Nothing was counted: a challenge has to be solved."""
    receipt: tuple[str, ...] = ()
    """For `Throttle.forgive`."""


@dataclass(frozen=True, slots=True)
class Puzzle:
    """A challenge as a form shows it: which number, written behind `salt`, has this SHA-256?"""

    salt: str
    target: str
    """Hexadecimal."""
    most: int
    signature: str
    waited: str
    """What a form without a script sends instead of a solution, when it was shown for a while."""


@dataclass(frozen=True, slots=True)
class Solution:
    """A challenge that was met. Whoever accepts it remembers its `id`: it is to be accepted once."""

    id: str
    patient: bool = False
    """By waiting."""


class Puzzles(Protocol):
    """ChallengeRule that cost the asker more than us. `bound` is what one is good for: tenant, login, browser, form."""

    def make(self, *bound: str) -> Puzzle: ...

    def met(self, answer: str, waited: str, *bound: str) -> Solution | None:
        """None for what is wrong, too old, too early, or of another tenant, login, browser or form."""
