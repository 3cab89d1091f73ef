"""Several mails at once, over few connections; and a server that hangs holds up nobody else."""

from __future__ import annotations

import dataclasses
import socket
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

from broker.background.lanes import Lanes
from broker.background.schedule import BATCH, BUSY, EACH
from broker.core.mail import Job, JobKind
from broker.core.tenant import Tenant
from broker.core.values import TenantId
from broker.testing.mail_server import MailServer
from tests.mail.house import House, delivered


class Counting(MailServer):
    """Counts who connects, and hangs up on whom it is told to."""

    greeted = 0
    hang_up_at: int = 0

    async def handle_EHLO(self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]) -> Any:
        self.greeted += 1
        session.host_name = hostname
        return responses

    async def handle_RSET(self, server: Any, session: Any, envelope: Any) -> str:
        if len(self.received) == self.hang_up_at:
            self.hang_up_at = 0
            return "421 too much of it"
        return "250 OK"


def with_transport(house: House, tenant: str, address: str) -> None:
    old: Tenant = house.settings.tenants[TenantId(tenant)]
    new = dataclasses.replace(old, mail=dataclasses.replace(old.mail, transport=address))
    house.settings = dataclasses.replace(house.settings, tenants={**house.settings.tenants, TenantId(tenant): new})


def test_mails_of_one_batch_share_a_connection(house: House) -> None:
    for number in range(BATCH):
        house.mail(f"job-{number}")
    with Counting().running() as server:
        assert isinstance(server, Counting)
        with_transport(house, "acme", f"smtp://localhost:{server.port}")
        house.worker.tick()
        assert len(server.received) == BATCH
        assert server.greeted == 1
    assert house.depth == (0, BATCH, 0)


def test_a_server_that_has_enough_of_a_connection_gets_the_next_mail_over_another(house: House) -> None:
    for number in range(6):
        house.mail(f"job-{number}")
    with Counting().running() as server:
        assert isinstance(server, Counting)
        server.hang_up_at = 3
        with_transport(house, "acme", f"smtp://localhost:{server.port}")
        house.worker.tick()
        assert len(server.received) == 6
        assert server.greeted == 2
    assert house.depth == (0, 6, 0)


def test_a_recipient_who_is_refused_in_the_middle_costs_the_others_nothing(house: House) -> None:
    for number, to in enumerate(("ada", "gone", "bob", "later", "eve")):
        house.mail(f"job-{number}", to=f"{to}@acme.example")
    with Counting().running() as server:
        with_transport(house, "acme", f"smtp://localhost:{server.port}")
        house.worker.tick()
        assert sorted(one.recipients[0] for one in server.received) == [
            "ada@acme.example", "bob@acme.example", "eve@acme.example",
        ]  # fmt: skip
    assert house.depth == (1, 3, 1)


def test_a_frozen_mail_server_holds_up_no_other_tenant_and_no_other_kind_of_job(house: House) -> None:
    frozen = socket.create_server(("127.0.0.1", 0))
    with_transport(house, "acme", f"smtp://127.0.0.1:{frozen.getsockname()[1]}")
    for number in range(BATCH * (EACH + 2)):
        house.mail(f"a{number:03}")
    house.clock.advance(timedelta(milliseconds=1))
    house.mail("g", tenant="globex", to="gil@globex.example")
    house.put(Job("asked", TenantId("acme"), JobKind.RECOVER, {}, house.clock.now(), house.clock.now()))
    came = threading.Event()
    house.recovery_mail.then = lambda job: came.set() and None
    stop = threading.Event()
    loop = threading.Thread(target=house.worker.run, args=(stop,))
    loop.start()
    try:
        assert came.wait(20)
        mailbox = Path(house.folder) / "mail" / "new"
        for _ in range(200):
            if mailbox.exists() and any(mailbox.iterdir()):
                break
            threading.Event().wait(0.05)
        assert delivered(house) == ["g@globex.example"]
    finally:
        stop.set()
        frozen.close()
        loop.join()
    with house.database.reading() as work:
        assert work.outbox.depth()["new"] == BATCH * (EACH + 2)


def test_mails_that_found_no_room_come_again_as_if_they_had_not_been_touched(house: House) -> None:
    for number in range(BATCH):
        house.mail(f"a{number:03}")
    release = threading.Event()
    for _ in range(EACH):
        assert house.worker._lanes.begin(
            house.settings.tenants[TenantId("acme")].mail.transport, lambda: release.wait() and None
        )
    assert house.worker._batch() == 0
    release.set()
    house.worker._lanes.wait()
    assert house.worker.tick() == 0
    house.clock.advance(BUSY)
    with house.database.writing() as work:
        claimed = work.outbox.claim(house.clock.now(), timedelta(seconds=1), BATCH)
    assert {job.attempts for job in claimed} == {0}
    assert len(claimed) == BATCH


def test_a_lane_has_room_again_when_its_work_has_ended() -> None:
    lanes, release = Lanes(4, 1), threading.Event()
    assert lanes.begin("a", lambda: release.wait() and None)
    assert not lanes.begin("a", lambda: None)
    assert lanes.begin("b", lambda: None)
    release.set()
    lanes.wait()
    assert lanes.begin("a", lambda: None)
    lanes.close()
