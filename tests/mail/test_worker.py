"""The background worker, on a real database and a real mail server."""

from __future__ import annotations

import dataclasses
import json
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import text

from broker.background.schedule import GIVE_UP, Worker, delay, permitted
from broker.core.errors import Unavailable
from broker.core.mail import Job, JobKind, MailKind
from broker.core.values import TenantId
from broker.services.mail_facts import FACTS
from broker.services.mailer import MailDeferred, ServerDown, open_transport
from broker.services.tally import Tally, total
from broker.stores.sql.schema import HEAD, WORKS_WITH
from broker.testing.mail_server import MailServer
from tests.crash.processes import wait_until
from tests.mail.house import House, by_smtp, delivered, settings


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


def test_a_mail_server_that_refuses_is_a_number_until_it_takes_a_mail(house: House, tmp_path: Path) -> None:
    """How long a mail is due says nothing of it: each retry puts it off."""
    house.meter = meter = Tally(tmp_path / "metrics", "worker")

    def down() -> float | None:
        return total(tmp_path / "metrics")[0].get(("mail_server_down", "acme"))

    server = MailServer()
    with server.running():
        by_smtp(house, server)
    house.mail("first")
    house.mail("second")
    house.mail("other", tenant="globex", to="gil@globex.example")
    house.worker.tick()
    said = total(tmp_path / "metrics")[0]
    assert (said["mail_server_down", "acme"], said["mail_server_down", "globex"]) == (1, 1), "they have one in common"
    with server.running():
        house.clock.advance(timedelta(seconds=10))
        house.worker.tick()
    assert house.depth == (0, 3, 0)
    assert down() == 0
    meter.level("mail_server_down", 0, "acme")


def test_a_worker_whose_turn_it_is_not_says_how_much_waits_now(house: House, tmp_path: Path) -> None:
    """What it said while it had the turn would stand beside what is true now, and the larger one would count."""
    house.leases = Never()  # type: ignore[assignment]
    house.meter = meter = Tally(tmp_path / "metrics", "worker")

    def said(*key: str) -> float | None:
        return total(tmp_path / "metrics")[0].get(key)

    server = MailServer()
    with server.running():
        by_smtp(house, server)
    house.mail()
    stop = threading.Event()
    loop = threading.Thread(target=house.worker.run, args=(stop,))
    loop.start()
    try:
        wait_until(lambda: said("mail_server_down", "acme") == 1, "the mail was refused")
        house.clock.advance(timedelta(seconds=1))
        wait_until(lambda: said("outbox_jobs", "new") == 1, "it waits")
        with house.database._engines.writer.begin() as other_worker:
            other_worker.execute(text("UPDATE outbox SET state = 'done'"))
        house.clock.advance(timedelta(seconds=1))
        wait_until(lambda: said("outbox_jobs", "new") == 0, "it waits no more")
        assert said("outbox_oldest_seconds") == 0
        wait_until(lambda: said("mail_server_down", "acme") == 0, "nobody waits for the server")
    finally:
        stop.set()
        loop.join()
        meter.level("outbox_jobs", 0, "new")  # it lives until here


class Never:
    """It is another worker's turn, always."""

    def hold(self, name: str, holder: str, ttl: object) -> bool:
        return False

    def release(self, name: str, holder: str) -> None:
        """It was never ours."""


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
            waited = (house.clock.now() - started).total_seconds()
            house.clock.advance(timedelta(seconds=1 if waited < 10 else 10 if waited < 120 else 300))
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
    [{"kind": ""}, {"to": ""}, {"to": "a@x.example, b@x.example"}, {"link": "javascript:1"},
     {"expires_at": "soon"}],
)  # fmt: skip
def test_what_can_never_be_a_mail_is_given_up_and_stops_nobody(house: House, changed: dict[str, str]) -> None:
    house.mail("bad", **changed)
    house.mail("good")
    house.worker.tick()
    assert house.depth == (0, 1, 1)
    assert delivered(house) == ["good@acme.example"]


def test_jobs_of_a_tenant_that_only_another_replica_knows_wait_for_it(house: House) -> None:
    """Its files are newer, or ours are wrong. Somebody was told that a mail comes."""
    now, known = house.clock.now(), house.settings
    newer = TenantId("newer")
    house.put(Job("a", newer, JobKind.RECOVER, {"identifier": "ada"}, now, now))
    house.mail("b", tenant=newer, to="ada@newer.example")
    house.worker.tick()
    assert house.depth == (2, 0, 0)
    assert house.recovery_mail.jobs == []
    acme = known.tenants[TenantId("acme")]
    both = {**known.tenants, newer: dataclasses.replace(acme, id=newer)}
    house.settings = dataclasses.replace(known, tenants=both)
    house.clock.advance(timedelta(seconds=3))
    house.worker.tick()
    assert house.depth == (0, 2, 0)
    assert delivered(house) == ["b@acme.example"]


def test_a_tenant_that_is_gone_for_good_gets_no_mail(house: House) -> None:
    house.mail(tenant="former")
    house.worker.tick()
    house.clock.advance(GIVE_UP)
    house.worker.tick()
    assert house.depth == (0, 0, 1)


def test_what_a_newer_release_asks_for_is_left_to_it(house: House) -> None:
    """Two releases side by side, or after going back: nothing of ours waits for it."""
    house.mail("ours")
    house.mail("theirs", kind="a mail of tomorrow")
    engines = house.database._engines
    with engines.begun(writable=True) as connection:
        connection.exec_driver_sql(
            "INSERT INTO outbox (id, tenant, kind, payload, state, queued_at, due_at, attempts, error)"
            " SELECT 'job', tenant, 'a job of tomorrow', payload, state, queued_at, due_at, 0, '' FROM outbox LIMIT 1"
        )
        connection.commit()
    house.worker.tick()
    assert house.depth == (2, 1, 0)
    assert len(delivered(house)) == 1


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
    house.mail("c", kind="", link="https://login.test/reset?ticket=hush")
    with structlog.testing.capture_logs() as lines:
        house.worker.tick()
    assert [(line["event"], line["job"]) for line in lines] == [
        ("job.dead", "a"), ("job.retried", "b"), ("job.dead", "c"),
    ]  # fmt: skip
    assert "550" in lines[0]["error"]
    assert "451" in lines[1]["error"]
    assert "ticket=" not in json.dumps(lines, default=str)


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

        def ping(self) -> str:
            return real.ping()

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


def test_a_worker_rests_while_the_tables_are_not_those_of_its_release(house: House, tmp_path: Path) -> None:
    house.meter = meter = Tally(tmp_path / "metrics", "worker")
    house.database.ping()

    def tables_are(revision: str, unfit: int) -> None:
        with house.database._engines.writer.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
        wait_until(lambda: total(tmp_path / "metrics")[0].get(("schema_unfit",)) == unfit, "the worker has looked")

    stop = threading.Event()
    with house.database._engines.writer.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '7777'"))
        connection.execute(text("DELETE FROM meta WHERE name = :name"), {"name": WORKS_WITH})
    loop = threading.Thread(target=house.worker.run, args=(stop,))
    loop.start()
    tables_are("7777", unfit=1)
    house.mail()
    assert house.depth == (1, 0, 0)
    assert ("worker_round_timestamp_seconds",) not in total(tmp_path / "metrics")[0]
    tables_are(HEAD, unfit=0)
    wait_until(lambda: house.depth == (0, 1, 0), "the mail went out")
    assert total(tmp_path / "metrics")[0]["schema_revision",] == int(HEAD)
    stop.set()
    loop.join()
    meter.level("schema_unfit", 0)


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


def test_a_mail_server_error_is_never_a_success(house: House) -> None:
    house.transports = lambda url: Down()  # type: ignore[method-assign,assignment,return-value]
    house.mail()
    house.worker.tick()
    assert house.depth == (1, 0, 0)
    assert issubclass(ServerDown, MailDeferred)


def test_old_rows_are_swept_and_the_dead_stay(house: House) -> None:
    house.mail("good")
    house.mail("bad", kind="")
    house.worker.tick()
    house.clock.advance(timedelta(days=31))
    house.worker._maintain()
    assert house.depth == (0, 0, 1)
