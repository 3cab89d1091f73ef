"""A short queue before few threads: who may wait for a hash, and who goes first (SECURITY 13, 18)."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar, cast

from broker.core.errors import Busy

T = TypeVar("T")


class _Job:
    __slots__ = ("done", "error", "result", "whose", "work")

    def __init__(self, work: Callable[[], Any], whose: tuple[str, bool]) -> None:
        self.work = work
        self.whose = whose
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = threading.Lock()  # held until there is a result: half the price of a Future
        self.done.acquire()


class HashQueue:
    """`threads` at `nice` below the process, and at most `room` callers that wait for them.

    One asker has at most a quarter of the room, so that one address cannot fill it; and the last quarter is for those
    who go first. Threads do not survive a fork: `process` says whose they are.
    """

    def __init__(self, threads: int, room: int, nice: int) -> None:
        self.process = os.getpid()
        self._limit = threads + room
        self._share = threads + max(room // 4, 1)
        self._reserved = room // 4
        self._nice = nice
        self._lock = threading.Lock()
        self._present: Counter[tuple[str, bool]] = Counter()
        self._inside = 0
        self._jobs: tuple[deque[_Job], deque[_Job]] = deque(), deque()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, name=f"hashing-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        return len(self._jobs[0]) + len(self._jobs[1])

    def run(self, work: Callable[[], T], asker: str = "", *, first: bool = False) -> T:
        """What `work` returns or raises, done by one of the threads. Raises `Busy` at once when there is no room."""
        job = _Job(work, (asker, first))
        with self._lock:
            if self._closed:
                raise Busy("password hashing is stopping")
            if self._inside >= self._limit - (0 if first else self._reserved):
                raise Busy("the queue for password hashing is full")
            if asker and self._present[job.whose] >= self._share:
                raise Busy("one address has its share of the queue for password hashing")
            self._inside += 1
            self._present[job.whose] += 1
            self._jobs[0 if first else 1].append(job)
        self._wake.put(None)
        job.done.acquire()
        if job.error is not None:
            raise job.error
        return cast(T, job.result)

    def close(self) -> None:
        """Waits for what is queued."""
        with self._lock:
            self._closed = True
        for _ in self._threads:
            self._wake.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        if sys.platform == "linux":  # elsewhere a priority belongs to the whole process
            thread = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + self._nice)
        while True:
            self._wake.get()
            with self._lock:
                jobs = self._jobs[0] or self._jobs[1]
                if not jobs:
                    return  # woken to end
                job = jobs.popleft()
            try:
                job.result = job.work()
            except BaseException as error:  # the caller's, who raises it
                job.error = error
            with self._lock:
                self._inside -= 1
                self._present[job.whose] -= 1
                if not self._present[job.whose]:
                    del self._present[job.whose]
            job.done.release()
