"""Hashing on threads of the own process, at a low priority: for commands, and for a host's Flask app."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.services.argon2id import Engine


class HashThreads:
    """At most `threads`, at `nice` below the process; each begins when it is first needed.

    Implements `argon2id.Engine` by another `engine`. Belongs to the process that made it: a fork has no threads.
    """

    def __init__(self, engine: Engine, threads: int, nice: int) -> None:
        self.name = engine.name
        self._engine = engine
        self._threads = ThreadPoolExecutor(threads, "hashing", _lower, (nice,))

    def hash(self, raw: bytes, memory_kib: int, time_cost: int) -> str:
        return self._threads.submit(self._engine.hash, raw, memory_kib, time_cost).result()

    def verify(self, stored: str, raw: bytes) -> bool:
        return self._threads.submit(self._engine.verify, stored, raw).result()

    def close(self) -> None:
        self._threads.shutdown()


def _lower(nice: int) -> None:
    if sys.platform == "linux":  # elsewhere a priority belongs to the whole process
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + nice)
