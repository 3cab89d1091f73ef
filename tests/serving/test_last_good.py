"""What a process that dies hands down to the one in its place."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from broker.core.values import Secret
from broker.processes import last_good
from broker.processes.environment import LAST_GOOD
from broker.processes.handed_down import inherited
from broker.testing.race import race


@pytest.fixture
def descriptor(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    environment: dict[str, str] = {}
    last_good.make(environment)
    monkeypatch.setenv(LAST_GOOD, environment[LAST_GOOD])
    (found,) = inherited(environment)
    yield found
    os.close(found)


def test_what_was_kept_last_is_there_for_who_inherits_it(descriptor: int) -> None:
    assert last_good.kept() is None
    for version in ("one", "two"):
        last_good.keep(version, Secret(version))
    assert last_good.kept() == Secret("two")
    child = os.fork()
    if child == 0:
        last_good.keep("three", Secret("three"))
        os._exit(0)
    os.waitpid(child, 0)
    assert last_good.kept() == Secret("three")


def test_a_version_is_written_once(descriptor: int) -> None:
    last_good.keep("one", Secret("first"))
    last_good.keep("one", Secret("second"))
    assert last_good.kept() == Secret("first")


@pytest.mark.parametrize("at", [0, 3, 40, -1])
def test_what_is_not_whole_is_nothing(descriptor: int, at: int) -> None:
    last_good.keep("one", Secret("x" * 100))
    length = os.fstat(descriptor).st_size
    whole = os.pread(descriptor, length, 0)
    os.ftruncate(descriptor, at % length)
    assert last_good.kept() is None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, whole, 0)
    os.pwrite(descriptor, b"?", at % length)
    assert last_good.kept() is None


def test_processes_that_keep_at_once_leave_a_whole_one(descriptor: int) -> None:
    def keep(caller: int) -> int:
        child = os.fork()
        if child == 0:
            for number in range(50):
                last_good.keep(f"{caller}-{number}", Secret(f"{caller}" * 1000))
            os._exit(0)
        return os.waitpid(child, 0)[1]

    assert set(race(keep, callers=4)) == {0}
    assert last_good.kept() in [Secret(f"{caller}" * 1000) for caller in range(4)]


@pytest.mark.parametrize("said", ["", "x", "9999:1", "0:1"])
def test_a_process_that_inherited_nothing_keeps_nothing(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv(LAST_GOOD, said)
    last_good.keep("one", Secret("one"))
    assert last_good.kept() is None


def test_those_who_read_at_the_same_time_read_all_of_it(descriptor: int) -> None:
    """They share one open file, and one position in it: several that died together start together."""
    last_good.keep("one", Secret("x" * 300_000))
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            os._exit(0 if all(last_good.kept() is not None for _ in range(300)) else 1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4


def test_what_nobody_can_write_down_is_not_kept(descriptor: int) -> None:
    """Settings of somebody's own connection may hold anything. Another release before it is no substitute."""
    last_good.keep("one", Secret("fine"))
    last_good.keep("two", lambda: None)
    assert last_good.kept() is None
    last_good.keep("three", Secret("fine again"))
    assert last_good.kept() == Secret("fine again")


def test_where_there_can_be_no_such_file_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> int:
        raise PermissionError("by a filter of system calls")

    monkeypatch.setattr(os, "memfd_create", forbidden)
    environment: dict[str, str] = {}
    last_good.make(environment)
    assert environment == {}
