"""Work beside each other: a bounded number at a time, and a few of one kind. What hangs holds up its own kind alone."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Lanes:
    def __init__(self, threads: int, each: int) -> None:
        """`threads` at once altogether, `each` at once in one lane."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="lane")
        self._each = each
        self._taken: Counter[str] = Counter()
        self._running: set[Future[None]] = set()
        self._lock = threading.Lock()

    def begin(self, lane: str, work: Callable[[], None]) -> bool:
        """Do it in a thread; False when the lane is full. `work` raises nothing. Raises `RuntimeError` without one."""
        with self._lock:
            if self._taken[lane] >= self._each:
                return False
            future = self._pool.submit(self._run, lane, work)  # may raise `RuntimeError`: no thread to be had
            self._taken[lane] += 1
            self._running.add(future)
        future.add_done_callback(self._forget)
        return True

    def wait(self) -> None:
        """Until everything that was begun has ended."""
        while True:
            with self._lock:
                running = list(self._running)
            if not running:
                return
            for future in running:
                future.result()

    def close(self) -> None:
        """As `wait`, and nothing more can begin."""
        self._pool.shutdown()

    def _run(self, lane: str, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            with self._lock:
                self._taken[lane] -= 1
                if not self._taken[lane]:
                    del self._taken[lane]

    def _forget(self, future: Future[None]) -> None:
        with self._lock:
            self._running.discard(future)
