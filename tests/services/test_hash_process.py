"""Hashing in a process of its own: what happens to it, and to whoever waits for it. Real processes."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from broker.core.errors import Busy
from broker.services import hash_process
from broker.services.argon2id import Sodium
from broker.services.hash_process import HashFailed, HashProcess
from broker.services.hashing import Argon2Hasher

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")

LONG = "$argon2id$v=19$m=65536,t=16,p=1$c29tZXNhbHQ$" + "A" * 43
"""Takes about a second."""


@pytest.fixture
def hasher() -> Iterator[Argon2Hasher]:
    made = Argon2Hasher(workers=2, memory_kib=8, time_cost=1, apart=True)
    yield made
    made.close()


def child_of(hasher: Argon2Hasher) -> int:
    pool = hasher._pool
    assert pool is not None
    assert isinstance(pool.engine, HashProcess)
    assert pool.engine.pid is not None
    return pool.engine.pid


def memory(pid: int) -> int:
    """In bytes, what it has of its own and in use."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        pass


def ended(pid: int) -> bool:
    """Wait until nobody has this number any more, or only as a zombie of somebody who does not look."""
    with contextlib.suppress(ProcessLookupError):
        return bool(select.select([os.pidfd_open(pid)], [], [], 20)[0])
    return True


def test_it_does_what_threads_do(hasher: Argon2Hasher) -> None:
    stored = hasher.hash("käse")
    assert stored.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert hasher.verify("käse", stored)
    assert not hasher.verify("kase", stored)
    assert not hasher.verify("käse", None)
    assert Argon2Hasher(memory_kib=8, time_cost=1).verify("käse", stored)
    longest = "\U0001f511" * 4096
    assert hasher.verify(longest, hasher.hash(longest))


def test_many_at_a_time_get_each_their_own_answer(hasher: Argon2Hasher) -> None:
    stored = [hasher.hash(f"password {n}") for n in range(8)]
    with ThreadPoolExecutor(8) as callers:
        for _ in range(5):
            asked = [(n, m) for n in range(8) for m in range(8)]
            found = callers.map(lambda pair: hasher.verify(f"password {pair[0]}", stored[pair[1]]), asked)
            assert list(found) == [n == m for n, m in asked]


def test_killed_in_the_middle_of_a_hash_it_lets_nobody_in_says_so_and_is_there_again(
    hasher: Argon2Hasher,
) -> None:
    stored = hasher.hash("right")
    child = child_of(hasher)
    before = memory(child)
    with capture_logs() as said, ThreadPoolExecutor(1) as callers:
        attempt = callers.submit(hasher.verify, "right", LONG)
        until(lambda: memory(child) > before + 32 * 1024 * 1024)
        os.kill(child, signal.SIGKILL)
        with pytest.raises(Busy) as busy:
            attempt.result()
    assert busy.value.status == 503
    assert busy.value.retry_after > 0
    assert hasher.verify("right", stored)
    assert child_of(hasher) != child
    assert [(one["event"], one["status"], one["log_level"]) for one in said] == [("hashing.ended", -9, "error")]


def test_one_that_died_while_it_rested_is_nobody_s_trouble(hasher: Argon2Hasher) -> None:
    stored = hasher.hash("right")
    child = child_of(hasher)
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert hasher.verify("right", stored)
    assert child_of(hasher) != child


def test_signals_to_a_whole_group_are_for_the_others(hasher: Argon2Hasher) -> None:
    """Ctrl-C, and an end that is asked for: what has begun is finished first."""
    stored = hasher.hash("right")
    child = child_of(hasher)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(child, number)
    assert hasher.verify("right", stored)
    assert child_of(hasher) == child


def test_it_has_a_low_priority_among_those_of_our_session(hasher: Argon2Hasher) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    hasher.hash("x")
    child = child_of(hasher)
    assert os.getpriority(os.PRIO_PROCESS, child) == 19
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
    assert os.getsid(child) == os.getsid(0)


def test_it_gets_neither_passwords_nor_our_environment_from_outside_its_sockets(
    hasher: Argon2Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_PROCESS", "s3cret")
    hasher.hash("a password of somebody")
    for place in ("cmdline", "environ"):
        seen = Path(f"/proc/{child_of(hasher)}/{place}").read_bytes()
        assert b"s3cret" not in seen
        assert b"password of" not in seen


def test_what_a_library_cannot_do_is_raised_and_ends_nothing() -> None:
    process = HashProcess(Sodium.name, 1, 0)
    try:
        stored = process.hash(b"x", 8, 1)
        child = process.pid
        with pytest.raises(HashFailed, match="Error"):
            process.hash(b"x", 0, 0)
        assert process.verify(stored, b"x")
        assert process.pid == child
    finally:
        process.close()


def test_where_it_cannot_be_started_the_answer_is_busy(hasher: Argon2Hasher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(Busy):
        hasher.hash("x")
    monkeypatch.undo()
    assert hasher.verify("x", hasher.hash("x"))


def test_what_cannot_live_is_not_started_again_for_every_caller(
    hasher: Argon2Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hash_process, "PAUSE_SECONDS", 3600)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with capture_logs() as said:
        for _ in range(5):
            with pytest.raises(Busy):
                hasher.hash("x")
    assert [one["event"] for one in said] == ["hashing.ended"] * 2


def test_closing_ends_it_and_using_it_starts_it_again(hasher: Argon2Hasher) -> None:
    stored = hasher.hash("x")
    child = child_of(hasher)
    hasher.close()
    assert ended(child)
    assert hasher.verify("x", stored)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_starts_one_of_its_own_and_leaves_ours_alone(hasher: Argon2Hasher) -> None:
    stored = hasher.hash("x")
    child = child_of(hasher)
    fork = os.fork()
    if fork == 0:
        os._exit(0 if hasher.verify("x", stored) and child_of(hasher) != child else 1)
    assert os.waitpid(fork, 0)[1] == 0
    assert hasher.verify("x", stored)
    assert child_of(hasher) == child


PARENT = """
import os, sys
from broker.services.hashing import Argon2Hasher
hasher = Argon2Hasher(workers=1, memory_kib=8, time_cost=1, apart=True)
hasher.hash("x")
fork = os.fork() if sys.argv[1] == "forked" else 0
if sys.argv[1] == "forked" and not fork:
    sys.stdin.read()
    os._exit(0)
print(hasher._pool.engine.pid, flush=True)
if sys.argv[1] == "hashing":
    hasher.verify("x", sys.argv[2])
sys.stdin.read()
"""


@pytest.mark.parametrize("when", ["resting", "hashing", "forked"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_the_process_that_it_is_for(when: str, how: signal.Signals) -> None:
    """Also while it works, and while a fork of that process holds the same sockets."""
    command = [sys.executable, "-W", "ignore", "-c", PARENT, when, LONG]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(how)
        assert ended(child)


def test_there_is_little_in_it() -> None:
    program = [sys.executable, "-S", "-P", "-c", "import sys, broker.services.hash_child; print(*sys.modules)"]
    path = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    found = subprocess.run(program, env=path, capture_output=True, text=True, check=True).stdout.split()
    assert not {"redis", "sqlalchemy", "structlog", "flask", "threading", "asyncio"} & set(found)
