"""The background worker: what is queued in the outbox is done here, and nowhere else.

Jobs are leased. A worker that dies gives its jobs back when the lease ends; more workers share the work. Nothing here
is security-relevant: what has expired is refused where it is used, not where it is swept (SECURITY 3).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from email.message import EmailMessage
from fnmatch import fnmatchcase
from typing import Protocol

import structlog

from broker.core.chain import Mark
from broker.core.errors import BrokerError, ConfigurationError, InvalidIdentifier, Unavailable
from broker.core.identifiers import parse_email
from broker.core.mail import Job, JobKind, MailKind
from broker.core.ports import Clock, Database
from broker.core.tenant import Settings, Tenant
from broker.services.mail_render import MailRenderer
from broker.services.mailer import MailDeferred, MailRefused, ServerDown, Transport

LEASE = timedelta(seconds=60)
LONGEST_JOB = timedelta(seconds=50)
"""A mail server is given up before that; no job is begun when less than this is left of its lease."""
BATCH = 20
IDLE = 0.25
"""Seconds between two looks at an empty outbox."""
FIRST_RETRY = timedelta(seconds=2)
LONGEST_RETRY = timedelta(hours=1)
GIVE_UP = timedelta(days=2)
MAINTENANCE = timedelta(minutes=1)
RESETS = frozenset({MailKind.RESET, MailKind.RESET_ELSEWHERE})
SEALING = timedelta(seconds=1)
"""How long a row of the audit log waits for its place in the chain."""
KEPT = timedelta(days=30)
"""How long what is finished or expired can still be looked up."""

log = structlog.get_logger("homerealm.worker")


class Works(Protocol):
    """A flow that does one kind of job, in one transaction that also marks it as done."""

    def work(self, job: Job) -> None: ...


class Rotates(Protocol):
    def rotate_due(self, tenants: Iterable[Tenant]) -> int: ...


class Seals(Protocol):
    def seal(self) -> Mark | None: ...


class WorkerRuntime(Protocol):
    """What the worker needs of the Runtime."""

    @property
    def settings(self) -> Settings: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def database(self) -> Database: ...
    @property
    def recovery_mail(self) -> Works: ...
    @property
    def accounts(self) -> Works: ...
    @property
    def mail_renderer(self) -> MailRenderer: ...

    @property
    def transports(self) -> Callable[[str], Transport]: ...
    @property
    def signing(self) -> Rotates: ...
    @property
    def ledger(self) -> Seals: ...


class Worker:
    """Does what is due. Take a `runtime` that may be replaced (a reload) as a callable."""

    def __init__(self, runtime: WorkerRuntime | Callable[[], WorkerRuntime]) -> None:
        self._runtime = runtime
        self._maintained_at: datetime | None = None
        self._sealed_at: datetime | None = None

    @property
    def runtime(self) -> WorkerRuntime:
        return self._runtime() if callable(self._runtime) else self._runtime

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set; what is being done then is finished. No exception ends the loop."""
        while not stop.is_set():
            try:
                worked = self._batch(stop)
                self._maintain()
                self._seal()
            except Exception as error:
                worked = 0
                log.error("worker.failed", error=_short(error), exc_info=not isinstance(error, Unavailable))
                stop.wait(FIRST_RETRY.total_seconds())
            if not worked:
                stop.wait(IDLE)

    def tick(self) -> int:
        """Do everything that is due now, also what that leads to. Returns the number of jobs that were tried."""
        total = 0
        while worked := self._batch():
            total += worked
        return total

    def _batch(self, stop: threading.Event | None = None) -> int:
        runtime = self.runtime
        started = runtime.clock.now()
        with runtime.database.writing() as work:
            jobs = work.outbox.claim(started, LEASE, BATCH)
        down: dict[str, str] = {}
        worked = 0
        for job in jobs:
            now = runtime.clock.now()
            stopping = stop is not None and stop.is_set()
            if stopping or now - started > LEASE - LONGEST_JOB:
                # Somebody else will have it soon; to begin now could mean to send it twice.
                self._give_back(runtime, job, now)
                continue
            worked += 1
            self._do(runtime, job, down)
        return worked

    def _give_back(self, runtime: WorkerRuntime, job: Job, now: datetime) -> None:
        with runtime.database.writing() as work:
            work.outbox.retry(job.id, now, "not begun")

    def _do(self, runtime: WorkerRuntime, job: Job, down: dict[str, str]) -> None:
        """One job, whatever happens to it. `down` are transports that did not answer in this batch."""
        try:
            match job.kind:
                case JobKind.RECOVER:
                    runtime.recovery_mail.work(job)
                case JobKind.REGISTER:
                    runtime.accounts.work(job)
                case JobKind.MAIL:
                    self._deliver(runtime, job, down)
            log.info("job.done", job=job.id, kind=job.kind.value, tenant=job.tenant, attempt=job.attempts + 1)
        except MailRefused as error:
            self._bury(runtime, job, error)
        except Exception as error:
            self._retry(runtime, job, error)

    def _deliver(self, runtime: WorkerRuntime, job: Job, down: dict[str, str]) -> None:
        tenant = runtime.settings.tenants.get(job.tenant)
        if tenant is None:
            raise MailRefused(f"tenant {job.tenant} is gone")
        to = job.payload.get("to", "")
        if not permitted(to, tenant.mail.only_to):
            log.info("mail.held_back", job=job.id, tenant=job.tenant, mail=job.payload.get("kind"))
        else:
            address = tenant.mail.transport
            if address in down:
                raise MailDeferred(down[address])
            message = _compose(runtime, tenant, job, to)
            try:
                runtime.transports(address).send(message)
            except ServerDown as error:
                down[address] = error.detail
                raise
            if job.payload.get("kind") in RESETS:
                log.info("reset.sent", reference=job.payload.get("reference", ""), tenant=job.tenant,
                         connection=job.payload.get("connection", ""), mail=job.payload["kind"])  # fmt: skip
        with runtime.database.writing() as work:
            work.outbox.done(job.id, runtime.clock.now())

    def _retry(self, runtime: WorkerRuntime, job: Job, error: Exception) -> None:
        now = runtime.clock.now()
        if now - job.queued_at >= GIVE_UP:
            self._bury(runtime, job, error)
            return
        due = now + delay(job)
        expected = isinstance(error, MailDeferred | Unavailable | ConfigurationError)
        log.warning(
            "job.retried",
            job=job.id,
            kind=job.kind.value,
            tenant=job.tenant,
            attempt=job.attempts + 1,
            due=due.isoformat(),
            error=_short(error),
            exc_info=not expected,
        )
        with runtime.database.writing() as work:
            work.outbox.retry(job.id, due, _short(error))

    def _bury(self, runtime: WorkerRuntime, job: Job, error: Exception) -> None:
        log.error("job.dead", job=job.id, kind=job.kind.value, tenant=job.tenant, error=_short(error))
        with runtime.database.writing() as work:
            work.outbox.dead(job.id, _short(error), runtime.clock.now())

    def _seal(self) -> None:
        """The end of the chain goes into the log as well: elsewhere, nobody who owns the database can change it."""
        runtime = self.runtime
        now = runtime.clock.now()
        # Also after the clock went back.
        if self._sealed_at is None or not timedelta() <= now - self._sealed_at < SEALING:
            self._sealed_at = now
            if (head := runtime.ledger.seal()) is not None:
                log.info("audit.sealed", place=head.place, hash=head.hash)

    def _maintain(self) -> None:
        """Once a minute: signing keys that are due to be made, to sign, or to go; and rows that nobody needs."""
        runtime = self.runtime
        now = runtime.clock.now()
        if self._maintained_at is None or now - self._maintained_at >= MAINTENANCE:
            self._maintained_at = now
            runtime.signing.rotate_due(runtime.settings.tenants.values())
            with runtime.database.writing() as work:
                work.outbox.sweep(now - KEPT)
                work.tickets.sweep(now - KEPT)


def delay(job: Job) -> timedelta:
    """Before the next attempt: 2 s, doubled each time up to an hour, less up to a quarter.

    The quarter depends on the job, so that many jobs that failed together do not come back together.
    """
    whole = min(FIRST_RETRY * (1 << min(job.attempts, 20)), LONGEST_RETRY)
    spread = int.from_bytes(hashlib.sha256(f"{job.id} {job.attempts}".encode()).digest()[:2]) / 65536
    return whole * (1 - spread / 4)


def permitted(to: str, patterns: tuple[str, ...]) -> bool:
    """Whether a tenant's `mail.only_to` lets a mail out; without patterns every address is let out."""
    if not patterns:
        return True
    try:
        key = parse_email(to).key
    except InvalidIdentifier:
        return False
    return any(fnmatchcase(key, pattern.lower()) for pattern in patterns)


def _compose(runtime: WorkerRuntime, tenant: Tenant, job: Job, to: str) -> EmailMessage:
    """Raises `MailRefused` for what will never be a mail."""
    try:
        return runtime.mail_renderer.compose(
            MailKind(job.payload.get("kind", "")),
            tenant,
            to,
            job.payload.get("language", "en"),
            job.payload,
            message_id=job.id,
            at=job.queued_at,
        )
    except (ValueError, InvalidIdentifier) as error:
        raise MailRefused(f"it cannot be composed: {_short(error)}") from error


def _short(error: Exception) -> str:
    """For the operator's eyes: never the payload."""
    said = error.detail or error.code if isinstance(error, BrokerError) else f"{type(error).__name__}: {error}"
    return " ".join(said.split())[:300]
