"""Group commit: jobs that several requests queue at the same time are written in one transaction.

What a durable write costs is its sync, however much is in it. So whoever comes while one transaction is being written
waits for its end, and then one of those who wait writes for all of them. Nobody is answered before the own job is
durable, and an error reaches each of those who were in it (docs/decisions/group-commit.md).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from broker.core.errors import Unavailable
from broker.core.mail import Job

MOST = 100
"""Jobs in one transaction: other writers wait for it."""


class _Place:
    """Somebody's place in the queue."""

    __slots__ = ("done", "job", "problem", "turn")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.turn = threading.Lock()
        self.turn.acquire()
        self.done = False
        """Written, or refused with `problem`. Where it is false when the turn comes, this thread writes."""
        self.problem: str | None = None


class Together:
    def __init__(self, write: Callable[[Sequence[Job]], None]) -> None:
        """`write` is one transaction; it raises `Unavailable` when nothing of it was written."""
        self._write = write
        self._lock = threading.Lock()
        self._busy = False
        self._waiting: list[_Place] = []

    def put(self, job: Job) -> None:
        """Returns when the job is durable. Raises `Unavailable`."""
        with self._lock:
            alone = not self._busy
            self._busy = True
            if not alone:
                mine = _Place(job)
                self._waiting.append(mine)
        if alone:
            self._lead([job])
            return
        mine.turn.acquire()  # whoever writes ends, in `patience` at the latest, and gives everybody their turn
        if not mine.done:
            self._lead([job])
        elif mine.problem is not None:
            raise Unavailable(mine.problem, code="database.unavailable")

    def _lead(self, jobs: list[Job]) -> None:
        """Write these and what waits; then the next one who came meanwhile leads."""
        with self._lock:
            others, self._waiting = self._waiting[: MOST - 1], self._waiting[MOST - 1 :]
        problem: str | None = "database: the transaction was given up"
        try:
            self._write([*jobs, *(one.job for one in others)])
            problem = None
        except Unavailable as error:
            problem = error.detail
            raise
        finally:
            with self._lock:
                following = self._waiting.pop(0) if self._waiting else None
                self._busy = following is not None
            for one in others:
                one.done, one.problem = True, problem
                one.turn.release()
            if following is not None:
                following.turn.release()
