"""A part of the house fails while somebody signs in or resets: a clear page, nothing lost, nobody let in."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator

import pytest

from broker.demo.sample import Person, fill
from broker.testing.mail_server import MailServer
from broker.testing.mailbox import Mailbox
from tests.crash.processes import gone, kill_nine, like, tree, wait_until
from tests.crash.visitor import Answer, Visitor, signs_in
from tests.servers import BROKER_YAML, TENANT_YAML, Homerealm, answers, free_port, homerealm

pytestmark = pytest.mark.crash

OLD = "tulip-harbour-anvil"
NEW = "copper-meadow-violin-cloud"
ADA = Person("acme", "ada", "ada@people.example", "Ada Lovelace", "")


@pytest.fixture
def server() -> Iterator[Homerealm]:
    with homerealm() as server:
        fill(server.config, (ADA,), os.environ)
        yield server


def below(server: Homerealm) -> dict[int, str]:
    assert server.process is not None
    return tree(server.process.pid)


def is_clear(answer: Answer) -> bool:
    """A page of ours that says "not now", with a reference to find it by in the log."""
    return (answer.page, answer.status) == ("error", 503) and bool(answer.reference) and "Traceback" not in answer.text


def test_a_killed_key_value_store_lets_nobody_in_and_a_login_goes_on_when_it_is_back(server: Homerealm) -> None:
    with server.serving("--workers", "1"):
        assert server.process is not None
        visitor = Visitor(server.origin)
        asked = visitor.send(visitor.get("/t/acme/login"), "/login", username=ADA.email)
        assert asked.page == "password"
        (store,) = like(below(server), "valkey-server")
        (keeper,) = like(below(server), "broker store")
        os.kill(keeper, signal.SIGSTOP)  # so that nobody starts it again until we have looked
        try:
            kill_nine([store])
            for password in ("not this one, I am afraid", OLD):
                assert is_clear(visitor.send(asked, "/login/password", password=password))
            assert is_clear(Visitor(server.origin).get("/t/acme/login"))
            assert not answers(server.port, "/readyz")
            assert answers(server.port, "/healthz", seconds=20), "alive, but not ready"
        finally:
            os.kill(keeper, signal.SIGCONT)
        wait_until(lambda: answers(server.port, "/readyz"), "the store is back")
        wrong = visitor.send(asked, "/login/password", password="not this one, I am afraid")
        assert (wrong.page, wrong.status) == ("password", 422)
        assert visitor.send(wrong, "/login/password", password=OLD).page == "account", "the login that waited goes on"
        assert gone([store])


def forget(server: Homerealm) -> Answer:
    visitor = Visitor(server.origin)
    return visitor.send(visitor.get("/t/acme/forgot"), "/forgot", username=ADA.email)


def test_a_dead_mail_server_changes_no_answer_and_loses_no_mail() -> None:
    mail = MailServer(port=free_port())  # nobody listens there yet
    with homerealm() as server:
        transport = f"smtp://127.0.0.1:{mail.port}?tls=none"
        server.configure({"acme": TENANT_YAML}, BROKER_YAML.replace("maildir:var/mail", transport))
        fill(server.config, (ADA,), os.environ)
        with server.serving("--workers", "1"):
            answer = forget(server)
            assert (answer.page, answer.status) == ("login", 200)
            assert "to reset your password" in answer.text
            wait_until(lambda: "job.retried" in server.log.read_text(), "the worker tried")
            assert mail.received == []
            with mail.running():
                wait_until(lambda: len(mail.received) == 1, "the mail")
                (received,) = mail.received
                assert received.recipients == [ADA.email]
                assert received.message["X-Homerealm-Mail"] == "reset"


def test_a_full_disk_is_a_clear_answer_and_loses_nothing(server: Homerealm) -> None:
    """No file of any process of ours can grow: neither the database, nor the maildir, nor the log."""
    with server.serving("--workers", "1"):
        assert "to reset your password" in forget(server).text
        mailbox = Mailbox(server.mail)
        wait_until(lambda: len(mailbox.all()) == 1, "the mail")
        visitor = Visitor(server.origin)
        form = visitor.get(mailbox.last(ADA.email).link("/reset?ticket="))
        ours = [pid for pid, line in below(server).items() if "valkey" not in line]
        for pid in ours:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))

        assert is_clear(forget(server))
        assert is_clear(visitor.send(form, "/reset", password=NEW))
        assert Visitor(server.origin).get("/t/acme/login").status == 200, "what writes nothing works"

        for pid in ours:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert signs_in(server.origin, "acme", ADA.email, OLD), "nothing was changed"
        assert not signs_in(server.origin, "acme", ADA.email, NEW)
        assert visitor.send(form, "/reset", password=NEW).page in ("reset-done", "login"), "the link still works"
        assert signs_in(server.origin, "acme", ADA.email, NEW)
        wait_until(lambda: bool(mailbox.to(ADA.email, "password-changed")), "the worker works again")
