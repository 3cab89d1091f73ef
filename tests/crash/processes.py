"""A process and what it started: to see it, to kill it, to know that it is gone."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

_SAY_WHO = ("cmdline", "comm")


def tree(root: int) -> dict[int, str]:
    """A process and everything below it, with command lines."""
    found, waiting = {}, [root]
    while waiting:
        pid = waiting.pop()
        try:
            # A fork has the command line of its parent, and a name of its own.
            found[pid] = "".join(Path(f"/proc/{pid}/{place}").read_text().replace("\0", " ") for place in _SAY_WHO)
            for thread in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
        except OSError:
            continue
    return found


def like(processes: dict[int, str], *words: str) -> list[int]:
    """Those whose command line has all the words."""
    return [pid for pid, line in processes.items() if all(word in line for word in words)]


def kill_nine(pids: Iterable[int]) -> None:
    """SIGKILL to all of them, at once."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def gone(pids: Iterable[int], seconds: float = 10) -> bool:
    """Whether all of them end, each within that time."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        with os.fdopen(descriptor):
            if not select.select([descriptor], [], [], seconds)[0]:
                return False
    return True


def wait_until(done: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Raises `AssertionError` when it does not happen."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"it did not come: {what}"
        time.sleep(0.02)
