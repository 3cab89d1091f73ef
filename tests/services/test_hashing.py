"""Argon2id: what is accepted, what is refused, and what happens when there is too much of it."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
import unicodedata
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.errors import BadRequest, Busy
from broker.services.argon2id import Engine, engines
from broker.services.hash_queue import HashQueue
from broker.services.hashing import Argon2Hasher, Parameters, huge_pages, read_parameters

CHEAP = Argon2Hasher(workers=1, memory_kib=8, time_cost=1)


@pytest.fixture(params=engines(), ids=lambda e: e.name)
def hasher(request: pytest.FixtureRequest) -> Argon2Hasher:
    return Argon2Hasher(workers=1, memory_kib=8, time_cost=1, engine=request.param)


def test_the_password_is_recognised_and_no_other(hasher: Argon2Hasher) -> None:
    stored = hasher.hash("correct horse battery staple")
    assert hasher.verify("correct horse battery staple", stored)
    assert not hasher.verify("correct horse battery stapl", stored)
    assert not hasher.verify("", stored)


def test_two_hashes_of_one_password_differ(hasher: Argon2Hasher) -> None:
    assert hasher.hash("the same") != hasher.hash("the same")


def test_every_engine_verifies_what_the_others_made() -> None:
    made = {e.name: Argon2Hasher(memory_kib=8, time_cost=1, engine=e).hash("käse") for e in engines()}
    for engine in engines():
        for stored in made.values():
            assert Argon2Hasher(memory_kib=8, time_cost=1, engine=engine).verify("käse", stored)


def test_the_default_parameters_are_those_of_owasp() -> None:
    hasher = Argon2Hasher()
    stored = hasher.hash("x" * 15)
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert hasher.verify("x" * 15, stored)
    assert not hasher.outdated(stored)


def test_a_published_vector_is_verified(hasher: Argon2Hasher) -> None:
    """From the test suite of the reference implementation (phc-winner-argon2, src/test.c), Argon2id."""
    stored = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
    assert hasher.verify("password", stored)
    assert not hasher.verify("Password", stored)


@pytest.mark.parametrize("stored", [None, "", "x", "$argon2id$", "{SSHA}abc", "$2b$12$" + "a" * 53])
def test_nobody_and_unusable_hashes_are_false(hasher: Argon2Hasher, stored: str | None) -> None:
    assert not hasher.verify("anything", stored)


def test_the_dummy_has_no_password(hasher: Argon2Hasher) -> None:
    assert not hasher.verify("", None)


class Counting:
    """The real thing, with a note of what it was asked to verify."""

    name = "counting"

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.verified: list[str] = []

    def hash(self, raw: bytes, memory_kib: int, time_cost: int) -> str:
        return self.engine.hash(raw, memory_kib, time_cost)

    def verify(self, stored: str, raw: bytes) -> bool:
        self.verified.append(stored)
        return self.engine.verify(stored, raw)


@pytest.mark.parametrize(
    ("password", "stored"),
    [
        ("right", None),
        ("right", "nonsense"),
        ("right", "$argon2id$v=19$m=10485760,t=2,p=1$c29tZXNhbHQ$" + "A" * 43),
        ("\ud800", None),
        ("x" * 1_000_000, None),
    ],
)
def test_every_refusal_costs_one_verification_with_the_parameters_of_now(password: str, stored: str | None) -> None:
    counting = Counting(engines()[0])
    assert not Argon2Hasher(memory_kib=8, time_cost=1, engine=counting).verify(password, stored)
    assert [read_parameters(target) for target in counting.verified] == [Parameters(8, 1, 1)]


@pytest.mark.parametrize(
    "cost",
    ["m=10485760,t=1,p=1", "m=4294967295,t=1,p=1", "m=65536,t=1000000,p=1", "m=65536,t=1,p=255", "m=7,t=1,p=1"],
)
def test_a_stored_hash_that_asks_for_too_much_is_never_computed(cost: str) -> None:
    counting = Counting(engines()[0])
    stored = f"$argon2id$v=19${cost}$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
    assert not Argon2Hasher(memory_kib=8, time_cost=1, engine=counting).verify("password", stored)
    assert stored not in counting.verified


@pytest.mark.parametrize("password", ["\ud800", "a\x00b", "x" * 1_000_000, "\x00"])
def test_what_is_no_password_is_refused_without_a_crash(hasher: Argon2Hasher, password: str) -> None:
    stored = hasher.hash("a real one")
    assert not hasher.verify(password, stored)
    with pytest.raises(BadRequest):
        hasher.hash(password)


def test_nothing_is_truncated(hasher: Argon2Hasher) -> None:
    long = "é" * 1024
    stored = hasher.hash(long)
    assert hasher.verify(long, stored)
    assert not hasher.verify(long[:-1], stored)
    assert not hasher.verify(long + "é", stored)


@given(st.text(max_size=20))
@settings(max_examples=50)
def test_composed_and_decomposed_are_the_same_password(text: str) -> None:
    if "\x00" not in text:
        assert CHEAP.verify(unicodedata.normalize("NFD", text), CHEAP.hash(text))


def test_spaces_are_part_of_a_password(hasher: Argon2Hasher) -> None:
    assert not hasher.verify("pass", hasher.hash(" pass "))


@pytest.mark.parametrize("stored", ["$2b$12$abc", "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$" + "A" * 43, ""])
def test_other_parameters_are_outdated(hasher: Argon2Hasher, stored: str) -> None:
    assert hasher.outdated(stored)
    assert not hasher.outdated(hasher.hash("x"))


class Gate:
    """Holds every verification until it is opened."""

    name = "gate"

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)
        self.priorities: list[int] = []

    def hash(self, raw: bytes, memory_kib: int, time_cost: int) -> str:
        raise NotImplementedError

    def verify(self, stored: str, raw: bytes) -> bool:
        self.priorities.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        self.entered.release()
        self.open.wait()
        return False


def test_a_full_queue_says_busy_at_once_and_decides_nothing() -> None:
    gate = Gate()
    hasher = Argon2Hasher(workers=1, queue=2, engine=gate)
    with ThreadPoolExecutor(8) as callers:
        first = callers.submit(hasher.verify, "x", None)
        gate.entered.acquire()
        others = [callers.submit(hasher.verify, "x", None) for _ in range(6)]
        refused = 0
        while refused < 4:
            refused = sum(isinstance(o.exception(timeout=0), Busy) for o in others if o.done())
        with pytest.raises(Busy) as busy:
            hasher.verify("x", None)
        assert busy.value.status == 503
        assert busy.value.retry_after > 0
        gate.open.set()
        assert first.result() is False
        assert sum(o.exception() is None for o in others) == 2
    assert hasher.verify("x", None) is False
    hasher.close()


class Ledger(Gate):
    """Notes in which order passwords were looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def verify(self, stored: str, raw: bytes) -> bool:
        self.seen.append(raw.decode())
        return super().verify(stored, raw)


def ask(hasher: Argon2Hasher, password: str, asker: str = "", *, first: bool = False) -> bool:
    with hasher.asked_by(asker, first=first):
        return hasher.verify(password, None)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come"


def settled(calls: list[Future[bool]], refused: int) -> None:
    """Wait until so many of them were refused."""
    until(lambda: sum(isinstance(c.exception(timeout=0), Busy) for c in calls if c.done()) == refused)


def test_one_address_cannot_fill_the_queue() -> None:
    ledger = Ledger()
    hasher = Argon2Hasher(workers=1, queue=16, engine=ledger)
    with ThreadPoolExecutor(32) as callers:
        running = callers.submit(ask, hasher, "running", "elsewhere")
        ledger.entered.acquire()
        flood = [callers.submit(ask, hasher, "flood", "203.0.113.1") for _ in range(20)]
        settled(flood, refused=15)
        others = [callers.submit(ask, hasher, "other", f"198.51.100.{n}") for n in range(3)]
        ledger.open.set()
        assert [other.result() for other in (running, *others)] == [False] * 4
        assert sum(call.exception() is None for call in flood) == 5, "a quarter of the queue, and one at work"
    hasher.close()


def test_a_known_device_finds_room_in_a_full_queue_and_goes_first() -> None:
    ledger = Ledger()
    hasher = Argon2Hasher(workers=1, queue=16, engine=ledger)
    with ThreadPoolExecutor(32) as callers:
        callers.submit(ask, hasher, "running")
        ledger.entered.acquire()
        flood = [callers.submit(ask, hasher, "flood", f"203.0.113.{n}") for n in range(20)]
        settled(flood, refused=8)
        assert hasher.strained
        owner = callers.submit(ask, hasher, "owner", "203.0.113.1", first=True)
        until(lambda: hasher.waiting == 13)
        ledger.open.set()
        owner.result()
        for call in flood:
            call.exception()
    assert ledger.seen == ["running", "owner"] + ["flood"] * 12
    assert not hasher.strained
    hasher.close()


def test_what_goes_wrong_with_a_hash_is_raised_to_whoever_asked() -> None:
    class Broken(Gate):
        def verify(self, stored: str, raw: bytes) -> bool:
            raise MemoryError

    hasher = Argon2Hasher(workers=1, engine=Broken())
    for _ in range(3):
        with pytest.raises(MemoryError):
            hasher.verify("x", None)
    hasher.close()


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads are Linux's")
def test_hashing_runs_at_a_lower_priority_and_the_caller_does_not() -> None:
    gate = Gate()
    gate.open.set()
    before = os.getpriority(os.PRIO_PROCESS, 0)
    hasher = Argon2Hasher(workers=1, nice=5, engine=gate)
    hasher.verify("x", None)
    assert gate.priorities == [min(before + 5, 19)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_a_pool_of_its_own() -> None:
    hasher = Argon2Hasher(workers=1, queue=0, memory_kib=8, time_cost=1)
    stored = hasher.hash("x")
    hasher.close()
    child = os.fork()
    if child == 0:
        os._exit(0 if hasher.verify("x", stored) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_closed_pool_starts_again() -> None:
    CHEAP.close()
    assert CHEAP.verify("x", CHEAP.hash("x"))


def test_the_rate_of_this_machine_is_a_figure() -> None:
    assert CHEAP.rate() > 10


def test_huge_pages_are_recommended_where_they_are_not_given_and_libsodium_would_take_them(tmp_path: Path) -> None:
    setting = tmp_path / "enabled"
    setting.write_text("always [madvise] never\n")
    assert not huge_pages(setting)
    setting.write_text("[always] madvise never\n")
    assert huge_pages(setting)
    assert huge_pages(tmp_path / "nothing"), "no such choice, no advice"


class Interrupted(BaseException):
    """As an interrupt, or a timeout of a host's framework."""


def test_who_is_interrupted_while_waiting_leaves_no_place_behind() -> None:
    queue = HashQueue(places=1, room=8)
    gone, began = threading.Event(), threading.Event()

    def waits() -> None:
        began.set()
        with suppress(Interrupted), queue.turn("203.0.113.1"):
            raise AssertionError("it has no place")
        gone.set()

    with queue.turn():
        waiter = threading.Thread(target=waits)
        waiter.start()
        began.wait()
        until(lambda: queue.waiting == 1)
        # Delivered when its wait ends, which we end: nobody handed it the place.
        (turn,) = queue._others
        assert waiter.ident is not None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(waiter.ident), ctypes.py_object(Interrupted))
        turn.release()
        assert gone.wait(10)
        assert queue.waiting == 0
    with queue.turn("203.0.113.1"):
        pass
    queue.close()
