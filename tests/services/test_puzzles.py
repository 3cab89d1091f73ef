"""Challenges: what meets one, and what only looks like it."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.attempts import Puzzle
from broker.services.puzzles import AltchaPuzzles
from broker.services.secrets import SecretVault
from broker.testing.clock import FixedClock
from broker.testing.entropy import SeededEntropy

BOUND = ("acme", "tx-1", "browser", "password")
CLOCK = FixedClock()


def maker(clock: FixedClock = CLOCK) -> AltchaPuzzles:
    return AltchaPuzzles(SecretVault(b"k" * 32), clock, SeededEntropy("puzzles"))


def encoded(**fields: Any) -> str:
    return base64.b64encode(json.dumps(fields).encode()).decode()


def solution(puzzle: Puzzle, **changes: Any) -> str:
    """As the page's script finds it."""
    number = next(
        n for n in range(puzzle.most + 1) if hashlib.sha256(f"{puzzle.salt}{n}".encode()).hexdigest() == puzzle.target
    )
    known = {"algorithm": "SHA-256", "challenge": puzzle.target, "number": number, "salt": puzzle.salt}
    return encoded(**(known | {"signature": puzzle.signature} | changes))


def test_a_solution_meets_its_challenge_and_is_known_again() -> None:
    puzzles = maker()
    puzzle = puzzles.make(*BOUND)
    first, again = puzzles.met(solution(puzzle), "", *BOUND), puzzles.met(solution(puzzle), "", *BOUND)
    assert first is not None
    assert again is not None
    assert first.id == again.id, "so that the store can refuse it the second time"
    assert not first.patient
    other = puzzles.met(solution(puzzles.make(*BOUND)), "", *BOUND)
    assert other is not None
    assert other.id != first.id


@pytest.mark.parametrize("place", range(4))
def test_it_is_good_for_one_tenant_login_browser_and_form(place: int) -> None:
    puzzles = maker()
    puzzle = puzzles.make(*BOUND)
    elsewhere = tuple("other" if at == place else part for at, part in enumerate(BOUND))
    assert puzzles.met(solution(puzzle), "", *elsewhere) is None
    assert puzzles.met("", puzzle.waited, *elsewhere) is None


def test_it_ends_after_ten_minutes() -> None:
    clock = FixedClock()
    puzzles = maker(clock)
    puzzle = puzzles.make(*BOUND)
    clock.advance(timedelta(minutes=9, seconds=59))
    assert puzzles.met(solution(puzzle), "", *BOUND)
    assert puzzles.met("", puzzle.waited, *BOUND)
    clock.advance(timedelta(seconds=2))
    assert puzzles.met(solution(puzzle), "", *BOUND) is None
    assert puzzles.met("", puzzle.waited, *BOUND) is None


def test_the_end_cannot_be_put_off() -> None:
    """The number's digits can be moved behind the time in the salt (ALTCHA before 1.0)."""
    clock = FixedClock()
    puzzles = maker(clock)
    puzzle = puzzles.make(*BOUND)
    number = json.loads(base64.b64decode(solution(puzzle)))["number"]
    clock.advance(timedelta(minutes=11))
    spliced = puzzle.salt.rstrip("&") + str(number)[:1]
    rest = int(str(number)[1:] or "0")
    for salt in (spliced, spliced + "&", puzzle.salt + "expires=9999999999&"):
        assert puzzles.met(solution(puzzle, salt=salt, number=rest), "", *BOUND) is None


def test_waiting_a_minute_meets_it_as_well() -> None:
    clock = FixedClock()
    puzzles = maker(clock)
    puzzle = puzzles.make(*BOUND)
    clock.advance(timedelta(seconds=59))
    assert puzzles.met("", puzzle.waited, *BOUND) is None
    clock.advance(timedelta(seconds=2))
    met = puzzles.met("", puzzle.waited, *BOUND)
    assert met is not None
    assert met.patient
    shown, nonce, mark = puzzle.waited.split(".")
    assert puzzles.met("", f"{int(shown) - 60}.{nonce}.{mark}", *BOUND) is None


@pytest.mark.parametrize(
    "answer",
    [
        "x", "{}", "AAAA", encoded(), base64.b64encode(b"[1]").decode(), base64.b64encode(b"null").decode(),
        encoded(algorithm="SHA-256", challenge=1, number="x", salt=None, signature=[]),
        encoded(algorithm="MD5", challenge="0" * 64, number=1, salt="a?expires=9999999999&", signature="0" * 64),
        encoded(algorithm="SHA-256", challenge="0" * 64, number=1, salt="a?expires=x&", signature="\u00e9"),
        base64.b64encode(b"[" * 700).decode(), "A" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_solution_is_none_and_no_crash(answer: str) -> None:
    assert maker().met(answer, "", *BOUND) is None


@settings(max_examples=200)
@given(answer=st.text(max_size=60), waited=st.text(max_size=60))
def test_whatever_is_sent_meets_nothing(answer: str, waited: str) -> None:
    assert maker().met(answer, waited, *BOUND) is None


@settings(max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from(["algorithm", "challenge", "number", "salt", "signature"]),
        st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.lists(st.integers(), max_size=2),
    )
)
def test_whatever_shape_it_has_meets_nothing(fields: dict[str, Any]) -> None:
    assert maker().met(encoded(**fields), "", *BOUND) is None
