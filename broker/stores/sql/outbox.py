"""The queue of mails and jobs, written in the transaction of their cause (SECURITY 7)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, Update, bindparam, case, delete, func, insert, or_, select, tuple_, update

from broker.core.errors import JobLost
from broker.core.mail import Job, JobKind
from broker.core.ports import Vault
from broker.core.values import TenantId
from broker.stores.sql.identities import dump
from broker.stores.sql.statements import Statements
from broker.stores.sql.tables import mail_log, outbox

NEW, DONE, DEAD = "new", "done", "dead"
LONGEST_LEASE = timedelta(minutes=2)
"""A lease that ends later was made before the clock was set back."""

_ID = outbox.c.id == bindparam("p_id")
_ADD = insert(outbox)
_DUE = (
    select(
        outbox.c.id,
        outbox.c.tenant,
        outbox.c.kind,
        outbox.c.payload,
        outbox.c.queued_at,
        outbox.c.due_at,
        outbox.c.attempts,
    )
    .where(
        outbox.c.state == NEW,
        outbox.c.due_at <= bindparam("p_now"),
        outbox.c.kind.in_([kind.value for kind in JobKind]),  # those of a newer release beside us are not ours to do
        or_(
            outbox.c.leased_until.is_(None),
            outbox.c.leased_until <= bindparam("p_now"),
            outbox.c.leased_until > bindparam("p_impossible"),
        ),
    )
    .order_by(outbox.c.due_at, outbox.c.id)
    .limit(bindparam("p_limit"))
    # Where the engine can, workers do not wait for each other; SQLite has one writer at a time anyway.
    .with_for_update(skip_locked=True)
)
_ONE = update(outbox).where(_ID, outbox.c.state == NEW)
_LEASE = _ONE.values(leased_until=bindparam("p_until"), attempts=outbox.c.attempts + 1)
_FINISHED: dict[str, Any] = {
    "state": bindparam("p_state"),
    "error": bindparam("p_error"),
    "finished_at": bindparam("p_now"),
    "payload": None,
    "leased_until": None,
}
_BURY = _ONE.values(_FINISHED)
# Whoever claimed a job last knows how often it was claimed.
_MINE = _ONE.where(outbox.c.attempts == bindparam("p_attempts"))
_RETRY = _MINE.values(due_at=bindparam("p_due"), error=bindparam("p_error"), leased_until=None)
_FINISH = _MINE.values(_FINISHED)
_ALL_MINE = update(outbox).where(
    tuple_(outbox.c.id, outbox.c.attempts).in_(bindparam("p_mine", expanding=True)), outbox.c.state == NEW
)
_GIVE_BACK = _ALL_MINE.values(due_at=bindparam("p_due"), leased_until=None, attempts=outbox.c.attempts - 1)
_RENEW = _ALL_MINE.values(leased_until=bindparam("p_until")).returning(outbox.c.id, outbox.c.attempts)
_DEPTH = select(outbox.c.state, func.count().label("many")).group_by(outbox.c.state)
# Not by group: the jobs that are done are many, and need not be counted.
_BACKLOG = select(
    func.count(case((outbox.c.state == NEW, 1))).label("new"),
    func.count(case((outbox.c.state == DEAD, 1))).label("dead"),
    func.min(case((outbox.c.state == NEW, outbox.c.due_at))).label("oldest"),
).where(or_(outbox.c.state == NEW, outbox.c.state == DEAD))
_NOTE = insert(mail_log)
_RECENT = select(func.count().label("many")).where(
    mail_log.c.tenant == bindparam("p_tenant"),
    mail_log.c.kind == bindparam("p_kind"),
    mail_log.c.key == bindparam("p_key"),
    mail_log.c.at >= bindparam("p_since"),
)
_SWEEP = delete(outbox).where(outbox.c.state == DONE, outbox.c.finished_at < bindparam("p_before"))
_SWEEP_LOG = delete(mail_log).where(mail_log.c.at < bindparam("p_before"))


class SqlOutbox:
    """Implements `broker.core.ports.Outbox`."""

    def __init__(self, statements: Statements, vault: Vault) -> None:
        self._statements = statements
        self._vault = vault

    def put(self, *jobs: Job) -> None:
        self._statements.change(_ADD, [self._row(job) for job in jobs])

    def _row(self, job: Job) -> dict[str, Any]:
        return {
            "id": job.id,
            "tenant": job.tenant,
            "kind": job.kind.value,
            "payload": self._vault.seal(dump(job.payload).encode(), place(job.id)),
            "state": NEW,
            "queued_at": job.queued_at,
            "due_at": job.due_at,
            "attempts": job.attempts,
            "error": "",
        }

    def recent(self, tenant: str, kind: str, key: str, since: datetime) -> int:
        row = self._statements.one(_RECENT, {"p_tenant": tenant, "p_kind": kind, "p_key": key, "p_since": since})
        return 0 if row is None else int(row.many)

    def note(self, tenant: str, kind: str, key: str, at: datetime) -> None:
        self._statements.change(_NOTE, {"tenant": tenant, "kind": kind, "key": key, "at": at})

    def claim(self, now: datetime, lease: timedelta, limit: int = 20) -> list[Job]:
        """Longest due first; `attempts` counts the earlier claims, also those that ended in a crash.

        A job that does not open with this installation's key is given up, not handed out.
        """
        self._statements.must_write()
        jobs = []
        for row in self._statements.all(_DUE, {"p_now": now, "p_impossible": now + LONGEST_LEASE, "p_limit": limit}):
            try:
                payload = json.loads(self._vault.open(row.payload, place(row.id)))
            except ValueError:
                unreadable = "its payload was sealed with another key"
                self._statements.change(_BURY, {"p_id": row.id, "p_state": DEAD, "p_error": unreadable, "p_now": now})
                continue
            if self._statements.change(_LEASE, {"p_id": row.id, "p_until": now + lease}) == 1:
                jobs.append(_job(row, payload))
        return jobs

    def renew(self, jobs: Sequence[Job], until: datetime) -> list[Job]:
        self._statements.must_write()
        rows = self._statements.all(_RENEW, {"p_mine": _claimed(jobs), "p_until": until})
        kept = {(row.id, row.attempts) for row in rows}
        return [job for job, mine in zip(jobs, _claimed(jobs), strict=True) if mine in kept]

    def put_right(self, now: datetime, longest: Sequence[timedelta]) -> int:
        *known, rest = (now + delay for delay in longest)
        possible = case(dict(enumerate(known)), value=outbox.c.attempts, else_=rest) if known else rest
        wrong = outbox.c.state == NEW, outbox.c.due_at > now + min(longest), outbox.c.due_at > possible
        return self._statements.change(update(outbox).where(*wrong).values(due_at=bindparam("p_now")), {"p_now": now})

    def give_back(self, jobs: Sequence[Job], due: datetime) -> None:
        self._statements.change(_GIVE_BACK, {"p_mine": _claimed(jobs), "p_due": due})

    def done(self, job: Job, now: datetime) -> None:
        self._end(_FINISH, job, {"p_state": DONE, "p_error": "", "p_now": now})

    def retry(self, job: Job, due: datetime, error: str) -> None:
        self._end(_RETRY, job, {"p_due": due, "p_error": error})

    def dead(self, job: Job, error: str, now: datetime) -> None:
        self._end(_FINISH, job, {"p_state": DEAD, "p_error": error, "p_now": now})

    def _end(self, how: Update, job: Job, values: Mapping[str, Any]) -> None:
        if not self._statements.change(how, {"p_id": job.id, "p_attempts": job.attempts + 1, **values}):
            raise JobLost(f"job {job.id} is somebody else's now")

    def depth(self) -> Mapping[str, int]:
        counted = {NEW: 0, DONE: 0, DEAD: 0}
        counted.update((str(row.state), int(row.many)) for row in self._statements.all(_DEPTH))
        return counted

    def backlog(self) -> tuple[int, int, datetime | None]:
        row = self._statements.one(_BACKLOG)
        return (0, 0, None) if row is None else (int(row.new), int(row.dead), row.oldest)

    def sweep(self, before: datetime) -> int:
        return self._statements.change(_SWEEP, {"p_before": before}) + self._statements.change(
            _SWEEP_LOG, {"p_before": before}
        )


def _claimed(jobs: Sequence[Job]) -> list[tuple[str, int]]:
    return [(job.id, job.attempts + 1) for job in jobs]


def place(id: str) -> str:
    return f"outbox:payload:{id}"


def _job(row: Row[Any], payload: Mapping[str, str]) -> Job:
    return Job(
        id=row.id,
        tenant=TenantId(row.tenant),
        kind=JobKind(row.kind),
        payload=payload,
        queued_at=row.queued_at,
        due_at=row.due_at,
        attempts=row.attempts,
    )
