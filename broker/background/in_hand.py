"""The jobs that a worker has in hand, and until when they are its own.

A lease is short, so that the jobs of a worker that was killed are soon somebody else's, and it is renewed while its
worker lives: a mail server may take longer than a lease. One statement renews all of them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from broker.core.mail import Job
from broker.core.ports import Clock, Database

LEASE = timedelta(seconds=6)
"""After a kill the jobs wait so long at most."""
RENEW = timedelta(seconds=1.5)
SURE = LEASE / 2
"""With less than this left, two renewals did not come about: nothing is begun any more."""


class Batch:
    """Jobs that were claimed together and are done one after the other, by one thread."""

    def __init__(self, jobs: Sequence[Job], until: datetime) -> None:
        self.jobs = {job.id: job for job in jobs}
        self.until = until

    def is_ours(self, job: Job, now: datetime) -> bool:
        """Whether it can be begun: its lease was renewed lately."""
        return job.id in self.jobs and now < self.until - SURE

    def put_away(self, job: Job) -> None:
        """It was done, or is not ours any more."""
        self.jobs.pop(job.id, None)


class InHand:
    """All batches of a worker. May be used by many threads."""

    def __init__(self) -> None:
        self._batches: set[Batch] = set()
        self._lock = threading.Lock()

    @contextmanager
    def holding(self, jobs: Sequence[Job], until: datetime) -> Iterator[Batch]:
        """Their leases, which end at `until`, are renewed until the block ends."""
        batch = Batch(jobs, until)
        with self._lock:
            self._batches.add(batch)
        try:
            yield batch
        finally:
            with self._lock:
                self._batches.discard(batch)

    def renew(self, database: Database, clock: Clock) -> None:
        """Once, all of them. Those that somebody else has taken are put away. Raises `Unavailable`."""
        now = clock.now()
        with self._lock:
            held = [(batch, list(batch.jobs.values())) for batch in self._batches]
        jobs = [job for _, mine in held for job in mine]
        if not jobs:
            return
        with database.writing() as work:
            kept = {(job.id, job.attempts) for job in work.outbox.renew(jobs, now + LEASE)}
        for batch, mine in held:
            for job in mine:
                if (job.id, job.attempts) not in kept:
                    batch.put_away(job)
            batch.until = now + LEASE

    def catch_up(self, database: Database, clock: Clock) -> None:
        """Before more is claimed: what is still in hand, and was not renewed while the database was away, would be
        among it. Raises `Unavailable`."""
        with self._lock:
            late = any(batch.until - clock.now() < SURE for batch in self._batches)
        if late:
            self.renew(database, clock)
