"""One delivery in spite of crashes: leases, several workers, and SIGKILL."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.background.schedule import LEASE, Worker
from broker.core.mail import Job, JobKind, MailKind
from broker.core.values import TenantId
from broker.services.mailer import open_transport
from broker.testing.mail_server import MailServer
from tests.mail.house import House, delivered


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
    for id in ("slow", "next"):
        house.put(Job(id, TenantId("acme"), JobKind.RECOVER, {}, house.clock.now(), house.clock.now()))
        house.clock.advance(timedelta(milliseconds=1))
    house.recovery_mail.then = lambda job: house.clock.advance(timedelta(seconds=30)) and None
    house.worker._batch()
    assert [job.id for job in house.recovery_mail.jobs] == ["slow"]
    house.worker._batch()
    assert [(job.id, job.attempts) for job in house.recovery_mail.jobs] == [("slow", 0), ("next", 0)]


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
from tests.mail.house import House, settings

folder, place, port, elapsed = Path(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
house = House(folder, "", place)
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
                [sys.executable, "-c", CRASHING, str(house.folder), house.place, str(server.port), str(elapsed)],
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parents[2],
            )
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
            server.victim = worker if elapsed < 5 * LEASE.total_seconds() else None
            worker.wait()
            worker.stdout.close()
            done = {received.message["Message-ID"] for received in server.received[:before]}
            again = [r.message["Message-ID"] for r in server.received[before:] if r.message["Message-ID"] in done]
            # Only the one that was under way when the worker died may come again, with the same Message-ID.
            assert len(again) <= 1
            assert house.depth[1] >= recorded
            elapsed += LEASE.total_seconds()
            assert elapsed < 100 * LEASE.total_seconds(), "nothing gets done"
        assert {r.message["Message-ID"] for r in server.received} == {f"<job-{n}@acme.example>" for n in range(mails)}
    assert house.depth == (0, mails, 0)
