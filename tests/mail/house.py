"""A house with a worker in it: a real database, a real renderer, real transports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from broker.background.schedule import Worker
from broker.core.mail import Job, JobKind, MailKind
from broker.core.tenant import MailRules, Settings, Tenant
from broker.core.values import DirectoryId, TenantId
from broker.core.watching import NO_METER
from broker.flows.ledger import Ledger
from broker.flows.readiness import Readiness
from broker.services.mail_facts import FACTS
from broker.services.mail_render import MailRenderer
from broker.services.mailer import Transport, open_transport
from broker.services.secrets import SecretVault
from broker.stores.sql.database import SqlDatabase
from broker.testing.clock import FixedClock
from broker.testing.entropy import SeededEntropy
from broker.testing.mail_server import MailServer

TEMPLATES = Path(__file__).parents[2] / "templates"
VAULT = SecretVault(b"an installation's key, 32 bytes!")


@dataclass
class Flow:
    """A job's flow: does what the test says, and ends the job as the real ones do."""

    database: SqlDatabase
    clock: FixedClock
    jobs: list[Job] = field(default_factory=list)
    failure: Exception | None = None
    then: Callable[[Job], Job | None] = lambda job: None

    def work(self, job: Job) -> None:
        self.jobs.append(job)
        if self.failure is not None:
            raise self.failure
        with self.database.writing() as work:
            if follower := self.then(job):
                work.outbox.put(follower)
            work.outbox.done(job, self.clock.now())


@dataclass
class Rotating:
    calls: int = 0

    def rotate_due(self, tenants: object) -> int:
        self.calls += 1
        return 0


class Alone:
    """The only worker there is."""

    def hold(self, name: str, holder: str, ttl: object) -> bool:
        return True

    def release(self, name: str, holder: str) -> None:
        """Nobody waits for it."""


class House:
    """What the worker needs, all of it real but the two flows and the keys."""

    def __init__(self, folder: Path, transport: str, database: str | None = None) -> None:
        self.folder = folder
        self.clock = FixedClock()
        self.place = database or f"sqlite:///{folder}/db.sqlite"
        """The address of the database, for other processes."""
        self.database = SqlDatabase(self.place, self.clock, SeededEntropy(1), VAULT)
        self.database.upgrade()
        self.ledger = Ledger(self.database, self.clock, VAULT)
        self.settings = settings(folder, transport)
        self.mail_renderer = MailRenderer(TEMPLATES)
        self.recovery_mail = Flow(self.database, self.clock)
        self.accounts = Flow(self.database, self.clock)
        self.signing = Rotating()
        self.leases = Alone()
        self.entropy = SeededEntropy(2)
        self.meter = NO_METER
        self.readiness = Readiness({"database": self.database.ping}, lambda *_, **__: None)
        self.worker = Worker(self)

    def transports(self, url: str) -> Transport:
        return open_transport(url, self.folder)

    def put(self, *jobs: Job) -> None:
        with self.database.writing() as work:
            for job in jobs:
                work.outbox.put(job)

    def mail(self, id: str = "job-1", to: str = "ada@acme.example", tenant: str = "acme", **changed: str) -> Job:
        payload = {"kind": "reset", "to": to, "language": "en", **FACTS[MailKind.RESET].sample(), **changed}
        job = Job(id, TenantId(tenant), JobKind.MAIL, payload, self.clock.now(), self.clock.now())
        self.put(job)
        return job

    @property
    def depth(self) -> tuple[int, int, int]:
        """New, done, dead."""
        with self.database.reading() as work:
            found = work.outbox.depth()
        return found["new"], found["done"], found["dead"]


def settings(folder: Path, transport: str, only_to: tuple[str, ...] = ()) -> Settings:
    tenants = [
        Tenant(
            id=TenantId(id),
            name=id.title(),
            issuer=f"https://login.test/t/{id}",
            directory=DirectoryId(f"{id}/live"),
            environment="live",
            mail=MailRules(f"{id.title()} <no-reply@{id}.example>", transport, only_to),
        )
        for id in ("acme", "globex")
    ]
    return Settings(
        base_url="https://login.test",
        database="",
        key_value="",
        secret_key=b"",
        tenants={tenant.id: tenant for tenant in tenants},
        version="1",
        root=str(folder),
        config_dir=str(folder),
    )


def by_smtp(house: House, server: MailServer, only_to: tuple[str, ...] = ()) -> None:
    house.settings = settings(house.folder, f"smtp://localhost:{server.port}", only_to)


def delivered(house: House) -> list[str]:
    return sorted(path.name for path in house.folder.glob("mail/new/*"))
