"""The background worker, on a real database and a real mail server."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from broker.core.errors import Unavailable
from broker.core.mail import Job, JobKind, MailKind
from broker.core.tenant import MailRules, Settings, Tenant
from broker.core.values import DirectoryId, TenantId
from broker.schedule import GIVE_UP, LEASE, Worker, delay, permitted
from broker.services.mail_facts import FACTS
from broker.services.mail_render import MailRenderer
from broker.services.mailer import MailDeferred, ServerDown, Transport, open_transport
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
            work.outbox.done(job.id, self.clock.now())


@dataclass
class Rotating:
    calls: int = 0

    def rotate_due(self, tenants: object) -> int:
        self.calls += 1
        return 0


class House:
    """What the worker needs, all of it real but the two flows and the keys."""

    def __init__(self, folder: Path, transport: str) -> None:
        self.folder = folder
        self.clock = FixedClock()
        self.database = SqlDatabase(f"sqlite:///{folder}/db.sqlite", self.clock, SeededEntropy(1), VAULT)
        self.database.upgrade()
        self.settings = settings(folder, transport)
        self.mail_renderer = MailRenderer(TEMPLATES)
        self.recovery_mail = Flow(self.database, self.clock)
        self.accounts = Flow(self.database, self.clock)
        self.signing = Rotating()
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


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path, "maildir:mail")
    yield house
    house.database.close()


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer().running() as running:
        yield running


def by_smtp(house: House, server: MailServer, only_to: tuple[str, ...] = ()) -> None:
    house.settings = settings(house.folder, f"smtp://localhost:{server.port}", only_to)


def delivered(house: House) -> list[str]:
    return sorted(path.name for path in house.folder.glob("mail/new/*"))


def test_a_mail_is_rendered_delivered_and_done(house: House, server: MailServer) -> None:
    by_smtp(house, server)
    house.mail()
    assert house.worker.tick() == 1
    [received] = server.received
    assert received.recipients == ["ada@acme.example"]
    assert received.message["Subject"] == "Reset your Acme password"
    assert received.message["Message-ID"] == "<job-1@acme.example>"
    assert received.message["X-Homerealm-Mail"] == "reset"
    assert house.depth == (0, 1, 0)


def test_what_is_done_is_not_done_again(house: House, server: MailServer) -> None:
    by_smtp(house, server)
    house.mail()
    for _ in range(3):
        house.worker.tick()
        house.clock.advance(timedelta(hours=1))
    assert len(server.received) == 1


def test_one_tick_does_all_that_is_due_and_what_it_leads_to(house: House) -> None:
    for n in range(45):
        house.put(Job(f"r{n}", TenantId("acme"), JobKind.RECOVER, {"n": str(n)}, house.clock.now(), house.clock.now()))
    house.recovery_mail.then = lambda job: Job(
        f"mail-{job.id}", job.tenant, JobKind.MAIL,
        {"kind": "reset", "to": "ada@acme.example", "language": "en", **FACTS[MailKind.RESET].sample()},
        house.clock.now(), house.clock.now(),
    )  # fmt: skip
    assert house.worker.tick() == 90
    assert len(delivered(house)) == 45
    assert house.depth == (0, 90, 0)


def test_each_kind_of_job_goes_to_its_flow(house: House) -> None:
    now = house.clock.now()
    house.put(
        Job("a", TenantId("acme"), JobKind.RECOVER, {"identifier": "ada"}, now, now),
        Job("b", TenantId("acme"), JobKind.REGISTER, {"email": "bob@acme.example"}, now, now),
    )
    house.worker.tick()
    assert [job.payload for job in house.recovery_mail.jobs] == [{"identifier": "ada"}]
    assert [job.payload for job in house.accounts.jobs] == [{"email": "bob@acme.example"}]


def test_a_dead_mail_server_loses_nothing(house: House) -> None:
    server = MailServer()
    with server.running():
        by_smtp(house, server)
    for n in range(5):
        house.mail(f"job-{n}")
    house.worker.tick()
    assert house.depth == (5, 0, 0)
    house.clock.advance(timedelta(seconds=3))
    house.worker.tick()
    assert house.depth == (5, 0, 0)
    with server.running():
        house.clock.advance(timedelta(seconds=10))
        house.worker.tick()
    assert house.depth == (0, 5, 0)
    ids = sorted(received.message["Message-ID"] for received in server.received)
    assert ids == [f"<job-{n}@acme.example>" for n in range(5)]


class Down:
    """A transport whose server is down; counts how often somebody tries."""

    def __init__(self) -> None:
        self.tried = 0

    def send(self, message: object) -> None:
        self.tried += 1
        raise ServerDown("it is down")


def test_a_server_that_is_down_is_tried_once_in_a_batch_and_holds_up_nobody_else(house: House) -> None:
    """Ten seconds of waiting for each of a thousand mails would be a dead worker."""
    down = Down()
    acme = house.settings.tenants[TenantId("acme")]
    slow = dataclasses.replace(acme, mail=dataclasses.replace(acme.mail, transport="down:"))
    house.settings = dataclasses.replace(house.settings, tenants={**house.settings.tenants, TenantId("acme"): slow})
    house.transports = lambda url: down if url == "down:" else open_transport(url, house.folder)  # type: ignore
    for n in range(10):
        house.mail(f"a{n}")
    house.mail("g", tenant="globex", to="gil@globex.example")
    house.worker.tick()
    assert down.tried == 1
    assert delivered(house) == ["g@globex.example"]
    assert house.depth == (10, 1, 0)


def test_attempts_come_later_each_time_and_end_after_two_days(house: House, server: MailServer) -> None:
    by_smtp(house, server)
    job = house.mail(to="later@acme.example")
    waits = []
    while house.depth[0]:
        before = server.attempts
        started = house.clock.now()
        while server.attempts == before and house.depth[0]:
            house.worker.tick()
            house.clock.advance(timedelta(seconds=1) if house.clock.now() - started < timedelta(minutes=2)
                                else timedelta(minutes=5))  # fmt: skip
        waits.append(house.clock.now() - started)
    assert house.depth == (0, 0, 1)
    assert server.received == []
    assert 50 < server.attempts < 80
    assert waits[1] < waits[4] < waits[7]
    assert GIVE_UP <= house.clock.now() - job.queued_at < GIVE_UP + timedelta(hours=2)


def test_the_delays_double_up_to_an_hour_and_differ_from_job_to_job(house: House) -> None:
    job = house.mail()
    found = [delay(dataclasses.replace(job, attempts=n)) for n in range(60)]
    assert timedelta(seconds=1.5) <= found[0] <= timedelta(seconds=2)
    assert timedelta(seconds=12) <= found[3] <= timedelta(seconds=16)
    assert all(timedelta(minutes=45) <= wait <= timedelta(hours=1) for wait in found[11:])
    assert len({delay(dataclasses.replace(job, id=str(n))) for n in range(50)}) > 40
    assert delay(job) == delay(job)


def test_a_recipient_who_is_gone_is_given_up_at_once(house: House, server: MailServer) -> None:
    by_smtp(house, server)
    house.mail(to="gone@acme.example")
    house.mail("job-2")
    house.worker.tick()
    assert house.depth == (0, 1, 1)
    assert len(server.received) == 1


@pytest.mark.parametrize(
    "changed",
    [{"kind": "birthday"}, {"kind": ""}, {"to": ""}, {"to": "a@x.example, b@x.example"}, {"link": "javascript:1"},
     {"expires_at": "soon"}],
)  # fmt: skip
def test_what_can_never_be_a_mail_is_given_up_and_stops_nobody(house: House, changed: dict[str, str]) -> None:
    house.mail("bad", **changed)
    house.mail("good")
    house.worker.tick()
    assert house.depth == (0, 1, 1)
    assert delivered(house) == ["good@acme.example"]


def test_a_tenant_that_is_gone_gets_no_mail(house: House) -> None:
    house.mail(tenant="former")
    house.worker.tick()
    assert house.depth == (0, 0, 1)


def test_an_environment_sends_to_those_it_names_and_holds_back_the_others(house: House, server: MailServer) -> None:
    by_smtp(house, server, ("*@acme.example", "Tester@Elsewhere.example"))
    for n, to in enumerate(["ada@acme.example", "eve@real-customer.example", "tester@elsewhere.example"]):
        house.mail(f"job-{n}", to=to)
    house.worker.tick()
    assert sorted(r.recipients[0] for r in server.received) == ["ada@acme.example", "tester@elsewhere.example"]
    assert house.depth == (0, 3, 0)


@pytest.mark.parametrize(
    ("to", "patterns", "expected"),
    [
        ("ada@acme.example", (), True),
        ("ada@acme.example", ("*@acme.example",), True),
        ("ADA@ACME.example", ("*@acme.example",), True),
        ("ada@käse.example", ("*@xn--kse-qla.example",), True),
        ("ada@evil.example", ("*@acme.example",), False),
        ("ada@acme.example.evil.example", ("*@acme.example",), False),
        ("x@acme.example@evil.example", ("*@acme.example",), False),
        ("ada@acme.example", ("*",), True),
        ("nonsense", ("*",), False),
    ],
)
def test_patterns_match_whole_addresses(to: str, patterns: tuple[str, ...], expected: bool) -> None:
    assert permitted(to, patterns) is expected


@pytest.mark.parametrize("failure", [RuntimeError("a bug"), KeyError("identifier"), Unavailable("the store is away")])
def test_an_exception_in_one_job_stops_no_other_and_the_job_comes_again(house: House, failure: Exception) -> None:
    now = house.clock.now()
    house.recovery_mail.failure = failure
    house.put(Job("r", TenantId("acme"), JobKind.RECOVER, {"identifier": "ada"}, now, now))
    house.mail()
    assert house.worker.tick() == 2
    assert house.depth == (1, 1, 0)
    house.recovery_mail.failure = None
    house.clock.advance(timedelta(seconds=2))
    house.worker.tick()
    assert house.depth == (0, 2, 0)
    assert [job.attempts for job in house.recovery_mail.jobs] == [0, 1]


def test_what_went_wrong_is_logged_without_what_the_mail_says(house: House, server: MailServer) -> None:
    by_smtp(house, server)
    house.mail("a", to="gone@acme.example", link="https://login.test/reset?ticket=canary", name="canary")
    house.mail("b", to="later@acme.example", link="https://login.test/reset?ticket=canary", name="canary")
    house.mail("c", kind="canary", link="https://login.test/reset?ticket=hush")
    with structlog.testing.capture_logs() as lines:
        house.worker.tick()
    assert [(line["event"], line["job"]) for line in lines] == [
        ("job.dead", "a"), ("job.retried", "b"), ("job.dead", "c"),
    ]  # fmt: skip
    assert "550" in lines[0]["error"]
    assert "451" in lines[1]["error"]
    assert "ticket=" not in json.dumps(lines, default=str)


def test_a_job_whose_worker_died_comes_back_when_its_lease_ends(house: House) -> None:
    house.mail()
    with house.database.writing() as work:
        assert len(work.outbox.claim(house.clock.now(), LEASE)) == 1
    assert house.worker.tick() == 0
    house.clock.advance(LEASE)
    assert house.worker.tick() == 1
    assert delivered(house) == ["job-1@acme.example"]


def test_no_job_is_begun_when_its_lease_is_nearly_over(house: House) -> None:
    """Another worker could have it by the time that this one is done: the mail would be sent twice."""
    house.put(Job("slow", TenantId("acme"), JobKind.RECOVER, {}, house.clock.now(), house.clock.now()))
    house.clock.advance(timedelta(milliseconds=1))
    house.mail()
    house.recovery_mail.then = lambda job: house.clock.advance(timedelta(seconds=30)) and None
    assert house.worker._batch() == 1
    assert delivered(house) == []
    assert house.worker._batch() == 1
    assert delivered(house) == ["job-1@acme.example"]


def test_two_workers_share_the_work(house: House) -> None:
    for n in range(60):
        house.mail(f"job-{n}")
    workers = [threading.Thread(target=Worker(house).tick) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(delivered(house)) == 60
    assert house.depth == (0, 60, 0)


class Telling:
    """A transport that says when it was used."""

    def __init__(self) -> None:
        self.used = threading.Semaphore(0)

    def send(self, message: object) -> None:
        self.used.release()


def test_the_loop_works_until_it_is_told_to_stop(house: House) -> None:
    telling = Telling()
    house.transports = lambda url: telling  # type: ignore[method-assign,assignment,return-value]
    stop = threading.Event()
    loop = threading.Thread(target=house.worker.run, args=(stop,))
    loop.start()
    for n in range(3):
        house.mail(f"job-{n}")
        assert telling.used.acquire(timeout=20)
    stop.set()
    loop.join()
    assert house.signing.calls == 1


def test_a_store_that_fails_does_not_end_the_loop(house: House) -> None:
    telling = Telling()
    house.transports = lambda url: telling  # type: ignore[method-assign,assignment,return-value]
    failing = threading.Event()
    real = house.database

    class Flaky:
        def writing(self) -> Any:
            if not failing.is_set():
                failing.set()
                raise Unavailable("for a moment")
            return real.writing()

    house.database = Flaky()  # type: ignore[assignment]
    stop = threading.Event()
    loop = threading.Thread(target=house.worker.run, args=(stop,))
    loop.start()
    assert failing.wait(20)
    with real.writing() as work:
        now = house.clock.now()
        payload = {"kind": "reset", "to": "ada@acme.example", "language": "en", **FACTS[MailKind.RESET].sample()}
        work.outbox.put(Job("job-1", TenantId("acme"), JobKind.MAIL, payload, now, now))
    assert telling.used.acquire(timeout=20)
    stop.set()
    loop.join()
    house.database = real


def test_a_reload_is_seen_by_the_next_batch(house: House, tmp_path: Path) -> None:
    current = house
    worker = Worker(lambda: current)
    house.mail()
    house.settings = settings(tmp_path, "maildir:other")
    worker.tick()
    assert len(list(tmp_path.glob("other/new/*"))) == 1


def test_a_transport_that_cannot_be_opened_keeps_the_mail(house: House) -> None:
    house.settings = settings(house.folder, "pigeon:")
    house.mail()
    house.worker.tick()
    assert house.depth == (1, 0, 0)


def test_a_maildir_gets_a_mail_once_although_its_delivery_was_not_recorded(house: House) -> None:
    """A crash between the delivery and its record."""
    house.mail()
    with house.database.writing() as work:
        [job] = work.outbox.claim(house.clock.now(), LEASE)
    message = house.mail_renderer.compose(
        MailKind.RESET, house.settings.tenants[TenantId("acme")], job.payload["to"], "en", job.payload,
        message_id=job.id, at=job.queued_at,
    )  # fmt: skip
    open_transport("maildir:mail", house.folder).send(message)
    house.clock.advance(LEASE)
    house.worker.tick()
    assert delivered(house) == ["job-1@acme.example"]
    assert house.depth == (0, 1, 0)


CRASHING = """
import sys
from datetime import timedelta
from pathlib import Path
from tests.mail.test_worker import House, settings

folder, port, elapsed = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
house = House(folder, "")
house.settings = settings(folder, f"smtp://localhost:{port}")
house.clock.advance(timedelta(seconds=elapsed))
print("ready", flush=True)
house.worker.tick()
"""


class Killing(MailServer):
    """Kills the worker in the middle of a delivery: before its content was taken, or right after."""

    victim: subprocess.Popen[str] | None = None
    when: str = ""

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if self.when == "before":
            self._kill()
        return await super().handle_RCPT(server, session, envelope, address, options)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        answer = await super().handle_DATA(server, session, envelope)
        if self.when == "after" and len(self.received) % 3 == 0:
            self._kill()
        return answer

    def _kill(self) -> None:
        if self.victim is not None:
            self.victim.kill()
            self.victim = None


@pytest.mark.crash
@pytest.mark.parametrize("when", ["before", "after"])
def test_after_a_kill_every_mail_is_delivered_and_none_again_once_its_delivery_was_recorded(
    house: House, when: str
) -> None:
    mails = 8
    for n in range(mails):
        house.mail(f"job-{n}")
    with Killing().running() as server:
        assert isinstance(server, Killing)
        server.when = when
        elapsed = 0.0
        while house.depth[0]:
            recorded = house.depth[1]
            before = len(server.received)
            worker = subprocess.Popen(
                [sys.executable, "-c", CRASHING, str(house.folder), str(server.port), str(elapsed)],
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parents[2],
            )
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
            server.victim = worker if elapsed < 300 else None
            worker.wait()
            worker.stdout.close()
            done = {received.message["Message-ID"] for received in server.received[:before]}
            again = [r.message["Message-ID"] for r in server.received[before:] if r.message["Message-ID"] in done]
            # Only the one that was under way when the worker died may come again, with the same Message-ID.
            assert len(again) <= 1
            assert house.depth[1] >= recorded
            elapsed += LEASE.total_seconds()
        assert {r.message["Message-ID"] for r in server.received} == {f"<job-{n}@acme.example>" for n in range(mails)}
    assert house.depth == (0, mails, 0)


def test_a_mail_server_error_is_never_a_success(house: House) -> None:
    house.transports = lambda url: Down()  # type: ignore[method-assign,assignment,return-value]
    house.mail()
    house.worker.tick()
    assert house.depth == (1, 0, 0)
    assert issubclass(ServerDown, MailDeferred)


def test_old_rows_are_swept_and_the_dead_stay(house: House) -> None:
    house.mail("good")
    house.mail("bad", kind="nonsense")
    house.worker.tick()
    house.clock.advance(timedelta(days=31))
    house.worker._maintain()
    assert house.depth == (0, 0, 1)
