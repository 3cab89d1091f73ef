"""The background worker: what is queued in the outbox is done here, and nowhere else.

Jobs are leased. A worker that dies gives its jobs back when the lease ends; more workers share the work. Nothing here
is security-relevant: what has expired is refused where it is used, not where it is swept (SECURITY 3).
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from email.message import EmailMessage
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Protocol

from broker.background.in_hand import LEASE, RENEW, Batch, InHand
from broker.background.lanes import Lanes
from broker.background.turn import Turn, is_due
from broker.core.chain import Mark
from broker.core.errors import BrokerError, ConfigurationError, InvalidIdentifier, JobLost, Unavailable
from broker.core.happenings import EVENTS
from broker.core.identifiers import parse_email
from broker.core.mail import Job, JobKind, MailKind
from broker.core.ports import Clock, Database, Entropy, Leases
from broker.core.tenant import Settings, Tenant
from broker.core.values import Actor
from broker.core.watching import NO_METER, Meter, Spans, count_event
from broker.services import event_log
from broker.services.mail_render import MailRenderer
from broker.services.mailer import Delivery, MailDeferred, MailRefused, ServerDown, Transport

BATCH = 20
LONGEST_BATCH = timedelta(seconds=10)
"""What was not begun by then is given back: others may be faster."""
IDLE = 0.25
"""Seconds between two looks at an empty outbox."""
FIRST_RETRY = timedelta(seconds=2)
LONGEST_RETRY = timedelta(hours=1)
GIVE_UP = timedelta(days=2)
BUSY = timedelta(seconds=5)
"""Until mails come again whose transport has enough to do."""
THREADS, EACH = 8, 2
"""Batches of mails on their way at once: altogether, and to one transport."""
MAINTENANCE = timedelta(minutes=1)
RESETS = frozenset({MailKind.RESET, MailKind.RESET_ELSEWHERE})
SEALING = timedelta(seconds=1)
"""How long a row of the audit log waits for its place in the chain."""
MEASURING = SEALING
"""Between two looks at how much waits."""
LOOKING = timedelta(seconds=5)
"""Between two looks for what is missing, while nothing is."""
JUMP = timedelta(seconds=30)
"""A clock that is put right by less than this is no news."""
RIGHTING = timedelta(seconds=3)
"""Between two looks for jobs that a clock has put off which was set back since."""
KEPT = timedelta(days=30)
"""How long what is finished or expired can still be looked up."""

log = event_log.logger("homerealm.worker")


class Works(Protocol):
    """A flow that does one kind of job, in one transaction that also marks it as done."""

    def work(self, job: Job) -> None: ...


class Rotates(Protocol):
    def rotate_due(self, tenants: Iterable[Tenant]) -> int: ...


class Notes(Protocol):
    def seal(self) -> Mark | None: ...

    def note_configuration(self, by: Actor, version: str) -> bool: ...


class Misses(Protocol):
    """broker.flows.readiness"""

    @property
    def asked(self) -> Mapping[str, object]: ...

    def missing(self) -> tuple[str, ...]: ...


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
    def meter(self) -> Meter: ...
    @property
    def ledger(self) -> Notes: ...
    @property
    def leases(self) -> Leases: ...
    @property
    def entropy(self) -> Entropy: ...
    @property
    def readiness(self) -> Misses: ...


class Worker:
    """Does what is due. Take a `runtime` that may be replaced (a reload) as a callable."""

    def __init__(self, runtime: WorkerRuntime | Callable[[], WorkerRuntime], spans: Spans | None = None) -> None:
        self._runtime = runtime
        self._spans = spans
        self._lanes = Lanes(THREADS, EACH)
        self._in_hand = InHand()
        self._turn = Turn("housekeeping", self.runtime.entropy.token(12))
        self._maintained_at: datetime | None = None
        self._sealed_at: datetime | None = None
        self._measured_at: datetime | None = None
        self._without_mail: set[str] = set()
        """Tenants whose mail server was down when this worker last had a mail for it."""
        self._righted_at: datetime | None = None
        self._noted = ""
        self._fitted_at: datetime | None = None
        self._clocks: tuple[datetime, float] | None = None
        self._missing: tuple[str, ...] = ()
        self._looked_at: datetime | None = None

    @property
    def runtime(self) -> WorkerRuntime:
        return self._runtime() if callable(self._runtime) else self._runtime

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set; what is being done then is finished. No exception ends the loop."""
        ended = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(ended,), name="leases", daemon=True)
        keeper.start()
        while not stop.is_set():
            try:
                self._look_at_the_tables()
                worked = self._batch(stop)
                self._in_turn()
                self._measure()
                self._watch_the_clock()
                self.runtime.meter.level("worker_round_timestamp_seconds", self.runtime.clock.now().timestamp())
                if self._missing or is_due(self._looked_at, LOOKING, self.runtime.clock.now()):
                    self._look_for_what_is_missing()
            except Exception as error:
                worked = 0
                log.error("worker.failed", error=_short(error), exc_info=not isinstance(error, Unavailable))
                self._look_for_what_is_missing()
                stop.wait(FIRST_RETRY.total_seconds())
            if not worked:
                stop.wait(IDLE)
        self._turn.give_up(self.runtime.leases)
        self._lanes.close()
        ended.set()
        keeper.join()

    def _keep(self, ended: threading.Event) -> None:
        """Renew the leases of what is in hand, beside everything that takes its time."""
        pause = RENEW.total_seconds()
        while not ended.wait(pause):
            pause = RENEW.total_seconds()
            try:
                self._in_hand.renew(self.runtime.database, self.runtime.clock)
            except Exception as error:
                pause = IDLE
                if not isinstance(error, Unavailable):  # that one the loop says
                    log.error("worker.failed", error=_short(error), exc_info=True)

    def tick(self) -> int:
        """Do everything that is due now, also what that leads to. Returns the number of jobs that were tried."""
        total = 0
        while worked := self._batch():
            total += worked
            self._lanes.wait()
        return total

    def _batch(self, stop: threading.Event | None = None) -> int:
        """How many jobs were taken on. Mails go their way beside us: a server that hangs holds up its own."""
        runtime = self.runtime
        self._in_hand.catch_up(runtime.database, runtime.clock)
        started = runtime.clock.now()
        with runtime.database.writing() as work:
            jobs = work.outbox.claim(started, LEASE, BATCH)
        batches: dict[str, list[Job]] = {}
        for job in jobs:
            tenant = runtime.settings.tenants.get(job.tenant)
            if job.kind is JobKind.MAIL and tenant is not None:
                batches.setdefault(tenant.mail.transport, []).append(job)
            else:
                batches.setdefault("", []).append(job)
        worked = 0
        for address, batch in batches.items():
            if not address:
                continue
            if not self._lanes.begin(address, partial(self._mail_all, runtime, address, batch, started, stop)):
                self._give_back(runtime, batch, started + BUSY)
                continue
            worked += len(batch)
        self._do_all(runtime, batches.get("", []), started, stop)
        return worked + len(batches.get("", []))

    def _mail_all(
        self, runtime: WorkerRuntime, address: str, jobs: list[Job], started: datetime, stop: threading.Event | None
    ) -> None:
        """Mails for one transport, over one connection. Raises nothing."""
        try:
            with Delivery(partial(runtime.transports, address)) as delivery:
                self._do_all(runtime, jobs, started, stop, delivery)
        except Exception as error:
            log.error("worker.failed", error=_short(error), exc_info=not isinstance(error, Unavailable))

    def _do_all(
        self, runtime: WorkerRuntime, jobs: list[Job], started: datetime, stop: threading.Event | None,
        delivery: Delivery | None = None,
    ) -> None:  # fmt: skip
        with self._in_hand.holding(jobs, started + LEASE) as batch:
            for place, job in enumerate(jobs):
                now = runtime.clock.now()
                stopping = stop is not None and stop.is_set()
                if stopping or now - started > LONGEST_BATCH or not batch.is_ours(job, now):
                    # Somebody else will have them soon; to begin now could mean to send them twice.
                    self._give_back(runtime, jobs[place:], now)
                    return
                if self._spans is None:
                    self._do(runtime, job, batch, delivery)
                    continue
                with self._spans.span(f"job {job.kind.value}", tenant=job.tenant):
                    self._do(runtime, job, batch, delivery)

    def _give_back(self, runtime: WorkerRuntime, jobs: list[Job], due: datetime) -> None:
        with runtime.database.writing() as work:
            work.outbox.give_back(jobs, due)

    def _do(self, runtime: WorkerRuntime, job: Job, batch: Batch, delivery: Delivery | None) -> None:
        """One job, whatever happens to it."""
        try:
            self._try(runtime, job, delivery)
        except JobLost:
            self._say("job.lost", job=job.id, kind=job.kind.value, tenant=job.tenant, attempt=job.attempts + 1)
        finally:
            batch.put_away(job)

    def _try(self, runtime: WorkerRuntime, job: Job, delivery: Delivery | None) -> None:
        """Raises `JobLost`."""
        try:
            # It is another replica's that has newer files, or this one's that lies in broken ones. Later, it is ours.
            if job.tenant not in runtime.settings.tenants:
                raise ConfigurationError([f"tenant {job.tenant} is not in our configuration"])
            match job.kind:
                case JobKind.RECOVER:
                    runtime.recovery_mail.work(job)
                case JobKind.REGISTER:
                    runtime.accounts.work(job)
                case JobKind.MAIL:
                    self._deliver(runtime, job, delivery)
            self._say("job.done", job=job.id, kind=job.kind.value, tenant=job.tenant, attempt=job.attempts + 1)
        except JobLost:
            raise
        except MailRefused as error:
            self._bury(runtime, job, error)
        except Exception as error:
            self._retry(runtime, job, error)

    def _deliver(self, runtime: WorkerRuntime, job: Job, delivery: Delivery | None) -> None:
        tenant = runtime.settings.tenants.get(job.tenant)
        if tenant is None or delivery is None:  # a reload took it away in this moment
            raise ConfigurationError([f"tenant {job.tenant} is not in our configuration"])
        to = job.payload.get("to", "")
        if not permitted(to, tenant.mail.only_to):
            self._say("mail.held_back", job=job.id, tenant=job.tenant, mail=job.payload.get("kind"))
        else:
            delivery.send(lambda: _compose(runtime, tenant, job, to))
            self._mail_server(job.tenant, down=False)
            if job.payload.get("kind") in RESETS:
                self._say("reset.sent", reference=job.payload.get("reference", ""), tenant=job.tenant,
                         connection=job.payload.get("connection", ""), mail=job.payload["kind"])  # fmt: skip
        with runtime.database.writing() as work:
            work.outbox.done(job, runtime.clock.now())

    def _retry(self, runtime: WorkerRuntime, job: Job, error: Exception) -> None:
        now = runtime.clock.now()
        if isinstance(error, ServerDown):
            self._mail_server(job.tenant, down=True)
        if now - job.queued_at >= GIVE_UP:
            self._bury(runtime, job, error)
            return
        due = now + delay(job)
        with runtime.database.writing() as work:
            work.outbox.retry(job, due, _short(error))
        expected = isinstance(error, MailDeferred | Unavailable | ConfigurationError)
        self._say(
            "job.retried",
            job=job.id,
            kind=job.kind.value,
            tenant=job.tenant,
            attempt=job.attempts + 1,
            due=due.isoformat(),
            error=_short(error),
            exc_info=not expected,
        )

    def _bury(self, runtime: WorkerRuntime, job: Job, error: Exception) -> None:
        with runtime.database.writing() as work:
            work.outbox.dead(job, _short(error), runtime.clock.now())
        self._say("job.dead", job=job.id, kind=job.kind.value, tenant=job.tenant, error=_short(error))

    def _look_at_the_tables(self) -> None:
        """Once a minute: another release may have changed them since we started.

        Raises `ConfigurationError` when this one could do harm, each time until they fit.
        """
        runtime = self.runtime
        now = runtime.clock.now()
        if not is_due(self._fitted_at, MAINTENANCE, now):
            return
        try:
            revision = runtime.database.ping()
        except ConfigurationError:
            self._fitted_at = None
            runtime.meter.level("schema_unfit", 1)
            raise
        self._fitted_at = now
        runtime.meter.level("schema_unfit", 0)
        runtime.meter.level("schema_revision", int(revision))

    def _look_for_what_is_missing(self) -> None:
        """Which stores we cannot use, for the log and the internal listener: a round goes well without the key-value
        store, and people may have no web process here that is asked. Raises nothing."""
        runtime = self.runtime
        self._looked_at = runtime.clock.now()
        try:
            self._missing = runtime.readiness.missing()
        except Exception as error:
            log.error("worker.failed", error=_short(error), exc_info=True)
            return
        for store in runtime.readiness.asked:
            runtime.meter.level("store_missing", store in self._missing, store)

    def _in_turn(self) -> None:
        """What one of all workers does, at its times."""
        if self._turn.mine(self.runtime.leases, self.runtime.clock):
            self._note_configuration()
            self._put_right()
            self._maintain()
            self._seal()
        else:
            self._noted = ""  # somebody else may note another one

    def _note_configuration(self) -> None:
        """A change is one row of the audit log, by the one worker whose turn it is."""
        runtime = self.runtime
        if runtime.settings.version != self._noted:
            runtime.ledger.note_configuration(Actor.worker(), runtime.settings.version)
            self._noted = runtime.settings.version

    def _put_right(self) -> None:
        """No mail waits for the time to come that it was asked for at, by a clock that was wrong."""
        runtime = self.runtime
        now = runtime.clock.now()
        if is_due(self._righted_at, RIGHTING, now):
            self._righted_at = now
            with runtime.database.writing() as work:
                number = work.outbox.put_right(now, LONGEST_DELAYS)
            if number:
                self._say("jobs.put_right", number=number)

    def _watch_the_clock(self) -> None:
        """A clock that jumps explains what else is odd."""
        now, steady = self.runtime.clock.now(), time.monotonic()
        if self._clocks is not None:
            jumped = (now - self._clocks[0]).total_seconds() - (steady - self._clocks[1])
            if abs(jumped) > JUMP.total_seconds():
                self._say("clock.stepped", seconds=round(jumped))
        self._clocks = now, steady

    def _seal(self) -> None:
        """The end of the chain goes into the log as well: elsewhere, nobody who owns the database can change it."""
        runtime = self.runtime
        now = runtime.clock.now()
        if is_due(self._sealed_at, SEALING, now):
            self._sealed_at = now
            if (head := runtime.ledger.seal()) is not None:
                runtime.meter.level("audit_place", head.place)
                self._say("audit.sealed", place=head.place, hash=head.hash)

    def _say(self, event: str, **facts: Any) -> None:
        """One event, and the counter that goes up with it."""
        getattr(log, EVENTS[event].level)(event, **facts)
        count_event(self.runtime.meter, event, facts)

    def _mail_server(self, tenant: str, *, down: bool) -> None:
        """What the last attempt for this tenant says of its mail server. Each retry puts a mail off further, so how
        long one is due says nothing of a server that refuses."""
        if down or tenant in self._without_mail:
            (self._without_mail.add if down else self._without_mail.discard)(tenant)
            self.runtime.meter.level("mail_server_down", int(down), tenant)

    def _measure(self) -> None:
        """The state of the queue. Every worker says it, whoever's turn it is: what one of them said a while ago would
        stand beside what is true now, and Prometheus takes the larger of both."""
        runtime = self.runtime
        now = runtime.clock.now()
        if runtime.meter is NO_METER or not is_due(self._measured_at, MEASURING, now):
            return
        self._measured_at = now
        with runtime.database.reading() as work:
            new, dead, oldest = work.outbox.backlog()
        runtime.meter.level("outbox_jobs", new, "new")
        runtime.meter.level("outbox_jobs", dead, "dead")
        runtime.meter.level("outbox_oldest_seconds", max(0.0, (now - oldest).total_seconds()) if oldest else 0.0)
        for tenant in () if new else tuple(self._without_mail):
            self._mail_server(tenant, down=False)  # another worker's mails were taken, or nobody waits any more

    def _maintain(self) -> None:
        """Once a minute: signing keys that are due to be made, to sign, or to go; and rows that nobody needs."""
        runtime = self.runtime
        now = runtime.clock.now()
        if is_due(self._maintained_at, MAINTENANCE, now):
            self._maintained_at = now
            tenants = runtime.settings.tenants.values()
            runtime.signing.rotate_due(self._turn.while_mine(tenants, runtime.leases, runtime.clock))
            with runtime.database.writing() as work:
                work.outbox.sweep(now - KEPT)
                work.tickets.sweep(now - KEPT)


LONGEST_DELAYS = [max(BUSY, min(FIRST_RETRY * (1 << claims), LONGEST_RETRY)) for claims in range(12)]
"""By how often a job was claimed; the last one for more."""


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
    """Raises `MailRefused` for what will never be a mail, `ConfigurationError` for a kind that another release has."""
    kind = job.payload.get("kind", "")
    if kind and kind not in set(MailKind):
        raise ConfigurationError(["a mail of a kind that this release does not know"])
    try:
        return runtime.mail_renderer.compose(
            MailKind(kind),
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
