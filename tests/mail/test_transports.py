"""Delivery against a real SMTP server, and into a maildir."""

from __future__ import annotations

import dataclasses
import mailbox
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from pathlib import Path

import pytest

from broker.core.errors import ConfigurationError
from broker.services.mailer import (
    Console,
    MailDeferred,
    Maildir,
    MailRefused,
    ServerDown,
    SmtpTransport,
    _until,
    open_transport,
)
from broker.testing.authority import Authority
from broker.testing.mail_server import MailServer, free_port


def mail(to: str = "ada@acme.example", id: str = "job-1", policy: object = SMTP) -> EmailMessage:
    message = EmailMessage(policy=policy)  # type: ignore[arg-type]
    message["From"] = "Acme <no-reply@acme.example>"
    message["To"] = to
    message["Subject"] = "Reset your Acme password"
    message["Message-ID"] = f"<{id}@acme.example>"
    message.set_content("Hello ada,\n.\nthe link: https://login.acme.example/\n")
    return message


def smtp(server: MailServer, options: str = "", user: str = "", scheme: str = "smtp") -> str:
    return f"{scheme}://{user}localhost:{server.port}{options}"


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer().running() as running:
        yield running


def test_a_mail_arrives_at_its_one_recipient(server: MailServer, tmp_path: Path) -> None:
    open_transport(smtp(server), tmp_path).send(mail())
    [received] = server.received
    assert (received.sender, received.recipients) == ("no-reply@acme.example", ["ada@acme.example"])
    assert received.message["Message-ID"] == "<job-1@acme.example>"
    assert received.message.get_content().splitlines()[1] == "."


@pytest.mark.parametrize(
    ("name", "value"), [("Cc", "eve@evil.example"), ("Bcc", "eve@evil.example"), ("To", "a@x.example, b@x.example")]
)
def test_a_mail_with_more_recipients_is_refused_before_anything_is_sent(
    server: MailServer, tmp_path: Path, name: str, value: str
) -> None:
    message = mail()
    del message[name]
    message[name] = value
    for transport in (open_transport(smtp(server), tmp_path), Maildir(tmp_path / "mail"), Console()):
        with pytest.raises(MailRefused):
            transport.send(message)
    assert server.attempts == 0
    assert not (tmp_path / "mail").exists()


def test_a_recipient_who_is_gone_is_refused_for_good(server: MailServer, tmp_path: Path) -> None:
    with pytest.raises(MailRefused, match="550"):
        open_transport(smtp(server), tmp_path).send(mail("gone@acme.example"))


def test_a_greylisted_recipient_is_deferred_and_the_server_is_not_down(server: MailServer, tmp_path: Path) -> None:
    with pytest.raises(MailDeferred, match="451") as failed:
        open_transport(smtp(server), tmp_path).send(mail("later@acme.example"))
    assert not isinstance(failed.value, ServerDown)


def test_content_that_is_refused_is_refused_for_good(server: MailServer, tmp_path: Path) -> None:
    with pytest.raises(MailRefused, match="554"):
        open_transport(smtp(server), tmp_path).send(mail("spam@acme.example"))


@pytest.mark.parametrize(
    ("answer", "error"),
    [("452 4.3.1 disk full", MailDeferred), ("421 going down", ServerDown), ("554 no", MailRefused)],
)
def test_what_the_server_says_after_the_content_counts(
    server: MailServer, tmp_path: Path, answer: str, error: type[Exception]
) -> None:
    server.refuse_data = answer
    with pytest.raises(error) as failed:
        open_transport(smtp(server), tmp_path).send(mail())
    assert type(failed.value) is error
    assert server.received == []


def test_a_dead_server_is_down(tmp_path: Path) -> None:
    with pytest.raises(ServerDown, match=r"smtp://localhost:\d+"):
        open_transport(f"smtp://localhost:{free_port()}", tmp_path).send(mail())


@contextmanager
def talking(*lines: bytes, drip: bytes = b"") -> Iterator[int]:
    """A server that says one line for each that it hears, and then nothing, or one drop after another."""
    listening = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve() -> None:
        try:
            connection, _ = listening.accept()
        except OSError:  # nobody came
            return
        with connection:
            connection.settimeout(0.02)
            try:
                for line in lines:
                    connection.sendall(line)
                    hear(connection)
                while not stop.wait(0.02):
                    connection.sendall(drip)
            except OSError:
                pass

    def hear(connection: socket.socket) -> None:
        while not stop.is_set():
            try:
                connection.recv(65536)
            except TimeoutError:
                continue
            return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        stop.set()
        listening.shutdown(socket.SHUT_RDWR)  # `close` does not wake who waits in `accept`
        thread.join()
        listening.close()


@pytest.mark.parametrize(
    "said",
    [(), (b"220 hello\r\n",), (b"220 hello\r\n", b"250 mail.test\r\n", b"250 ok\r\n")],
    ids=["at once", "after its greeting", "in the middle"],
)
def test_a_frozen_server_is_given_up(said: tuple[bytes, ...]) -> None:
    with talking(*said) as port, pytest.raises(ServerDown):
        SmtpTransport("127.0.0.1", port, "none", timeout=0.2).send(mail())


def test_a_server_that_drips_its_answers_is_given_up_at_the_deadline() -> None:
    with talking(b"220 hello\r\n", drip=b"250-more\r\n") as port, pytest.raises(ServerDown):
        SmtpTransport("127.0.0.1", port, "none", deadline=0.3).send(mail())


def test_a_server_that_is_left_in_the_moment_of_the_deadline_is_no_mistake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`smtplib` sets its `sock` to None when it closes; the deadline comes in a thread of its own."""
    mistakes: list[object] = []
    monkeypatch.setattr("threading.excepthook", mistakes.append)
    left = threading.Event()

    class Server:
        @property
        def sock(self) -> socket.socket | None:
            if left.is_set():
                return None
            left.set()
            return connection

    with socket.socket() as connection, _until(Server(), 0.0):  # type: ignore[arg-type]
        assert left.wait(10)
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer):
                thread.join()
    assert mistakes == []


@pytest.mark.parametrize("greeting", [b"554 no service\r\n", b"421 busy\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_server_that_serves_nobody_is_down(greeting: bytes) -> None:
    with talking(greeting) as port, pytest.raises(ServerDown):
        SmtpTransport("127.0.0.1", port, "none", timeout=0.2).send(mail())


@pytest.mark.parametrize("farewell", [b"500 what?\r\n", b""])
def test_a_mail_that_was_taken_is_sent_however_the_server_says_good_bye(farewell: bytes) -> None:
    """Otherwise the same mail would be sent again."""
    steps = (
        b"220 hi\r\n",
        b"250 mail.test\r\n",
        b"250 ok\r\n",
        b"250 ok\r\n",
        b"354 go\r\n",
        b"250 taken\r\n",
        farewell,
    )
    with talking(*steps) as port:
        SmtpTransport("127.0.0.1", port, "none", timeout=1).send(mail())


def test_starttls_is_used_and_the_certificate_verified(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with MailServer().running(starttls=authority.serve("localhost")) as server:
        open_transport(smtp(server, "?tls=starttls&ca_bundle=authority.pem"), tmp_path).send(mail())
        assert server.received[0].secured
        with pytest.raises(ServerDown, match=r"(?i)certificate"):
            open_transport(smtp(server, "?tls=starttls"), tmp_path).send(mail())
    with MailServer().running(starttls=authority.serve("other.example")) as server:
        with pytest.raises(ServerDown, match=r"(?i)certificate"):
            open_transport(smtp(server, "?tls=starttls&ca_bundle=authority.pem"), tmp_path).send(mail())
        assert server.received == []


def test_starttls_that_was_asked_for_is_never_done_without(server: MailServer, tmp_path: Path) -> None:
    """A server, or somebody between, that does not offer it gets nothing (STRIPTLS)."""
    with pytest.raises(ServerDown, match="STARTTLS"):
        open_transport(smtp(server, "?tls=starttls"), tmp_path).send(mail())
    assert server.attempts == 0


def test_tls_from_the_first_byte(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with MailServer().running(tls=authority.serve("localhost")) as server:
        open_transport(smtp(server, "?ca_bundle=authority.pem", scheme="smtps"), tmp_path).send(mail())
        assert len(server.received) == 1
        with pytest.raises(ServerDown, match=r"(?i)certificate"):
            open_transport(smtp(server, scheme="smtps"), tmp_path).send(mail())


def test_user_and_password_are_decoded_and_given(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    options = "?tls=starttls&ca_bundle=authority.pem"
    with MailServer(user="no-reply@acme", password="c/r:st@l").running(
        starttls=authority.serve("localhost"), login=True
    ) as server:
        open_transport(smtp(server, options, "no-reply%40acme:c%2Fr%3Ast%40l@"), tmp_path).send(mail())
        assert server.logins == [("no-reply@acme", "c/r:st@l")]
        assert len(server.received) == 1


@pytest.mark.parametrize("user", ["homerealm:wrong@", "homerealm:p%C3%A4ss@", ""])
def test_a_login_that_fails_keeps_the_mail(tmp_path: Path, user: str) -> None:
    """The operator's mistake, not the recipient's: nothing is thrown away."""
    authority = Authority(tmp_path)
    with MailServer().running(starttls=authority.serve("localhost"), login=True) as server:
        transport = open_transport(smtp(server, "?tls=starttls&ca_bundle=authority.pem", user), tmp_path)
        with pytest.raises(MailDeferred) as failed:
            transport.send(mail())
    assert "wrong" not in f"{failed.value} {failed.value.detail} {transport!r} {transport}"


def test_a_server_can_be_checked_without_a_mail(server: MailServer, tmp_path: Path) -> None:
    transport = open_transport(smtp(server), tmp_path)
    assert isinstance(transport, SmtpTransport)
    transport.check()
    assert server.attempts == 0


def test_a_mailbox_beyond_ascii_needs_a_server_that_knows_it(server: MailServer, tmp_path: Path) -> None:
    message = mail("jürgen@acme.example", policy=SMTPUTF8)
    open_transport(smtp(server), tmp_path).send(message)
    assert server.received[0].recipients == ["jürgen@acme.example"]
    with talking(b"220 hi\r\n", b"250 mail.test\r\n") as port, pytest.raises(MailRefused, match="SMTPUTF8"):
        SmtpTransport("127.0.0.1", port, "none").send(message)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "is not one"),
        ("http://localhost", "http is not one"),
        ("sendmail:", "sendmail is not one"),
        ("maildir:", "is not one"),
        ("maildir://host/path", "is not one"),
        ("console:x", "is not one"),
        ("smtp://", "no host"),
        ("smtp://host:99999", "range"),
        ("smtp://host/path", "path"),
        ("smtp://host?tls=maybe", "tls=maybe"),
        ("smtp://host?tls", ""),
        ("smtp://host?verify=no", "verify: unknown"),
        ("smtps://host?tls=none", "tls=none"),
        ("smtp://user:hush@host?tls=none", "without TLS"),
        ("smtp://user:hush@host?ca_bundle=missing.pem", "ca_bundle"),
        ("smtp://[::1", ""),
    ],
)
def test_a_transport_that_cannot_be_is_a_configuration_error(url: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"mail\.transport: ") as failed:
        open_transport(url, tmp_path)
    assert why in str(failed.value)
    assert "hush" not in str(failed.value)


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("smtp://mail.example", "mail.example", 587, "starttls"),
        ("smtp://user:pass@mail.example:25", "mail.example", 25, "starttls"),
        ("smtp://mail.example?tls=none", "mail.example", 587, "none"),
        ("smtp://localhost:1025", "localhost", 1025, "none"),
        ("smtp://127.0.0.1?tls=starttls", "127.0.0.1", 587, "starttls"),
        ("smtps://mail.example", "mail.example", 465, "implicit"),
    ],
)
def test_mail_leaves_the_machine_encrypted_unless_it_says_otherwise(
    url: str, host: str, port: int, tls: str, tmp_path: Path
) -> None:
    transport = open_transport(url, tmp_path)
    assert isinstance(transport, SmtpTransport)
    assert (transport.host, transport.port, transport.tls) == (host, port, tls)


def test_a_maildir_is_one_that_others_can_read(tmp_path: Path) -> None:
    open_transport("maildir:var/mail", tmp_path).send(mail())
    [found] = list(mailbox.Maildir(tmp_path / "var" / "mail", create=False))
    assert found["Subject"] == "Reset your Acme password"
    assert found["To"] == "ada@acme.example"
    assert list((tmp_path / "var" / "mail" / "tmp").iterdir()) == []


def test_only_its_owner_reads_a_maildir(tmp_path: Path) -> None:
    """It holds links that work."""
    open_transport("maildir:mail", tmp_path).send(mail())
    [file] = (tmp_path / "mail" / "new").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "mail" / "new").stat().st_mode) == 0o700


def test_a_mail_that_is_delivered_again_is_there_once(tmp_path: Path) -> None:
    transport = Maildir(tmp_path / "mail")
    for _ in range(3):
        transport.send(mail())
    transport.send(mail(id="job-2"))
    box = mailbox.Maildir(tmp_path / "mail", create=False)
    assert len(box) == 2
    key = next(iter(box.keys()))
    read = box[key]
    read.set_subdir("cur")
    read.add_flag("S")
    box[key] = read
    for id in ("job-1", "job-2"):
        transport.send(mail(id=id))
    assert len(mailbox.Maildir(tmp_path / "mail", create=False)) == 2


def test_a_draft_that_a_crash_left_behind_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "mail" / "tmp").mkdir(parents=True)
    (tmp_path / "mail" / "tmp" / "job-1@acme.example").write_text("half")
    Maildir(tmp_path / "mail").send(mail())
    assert len(mailbox.Maildir(tmp_path / "mail", create=False)) == 1


@pytest.mark.parametrize("id", ["../../../evil", "a/b:2,S", ".hidden", "x\x00y"])
def test_a_message_id_never_leads_out_of_the_maildir(tmp_path: Path, id: str) -> None:
    message = mail()
    del message["Message-ID"]
    message["Message-ID"] = f"<{id}@acme.example>"
    Maildir(tmp_path / "mail").send(message)
    assert {path.name for path in tmp_path.iterdir()} == {"mail"}
    assert len(list((tmp_path / "mail" / "new").iterdir())) == 1


def test_a_mail_without_a_message_id_is_refused(tmp_path: Path) -> None:
    message = mail()
    del message["Message-ID"]
    with pytest.raises(MailRefused, match="Message-ID"):
        Maildir(tmp_path / "mail").send(message)


def test_a_maildir_that_cannot_be_written_keeps_the_mail(tmp_path: Path) -> None:
    (tmp_path / "mail").write_text("a file")
    with pytest.raises(MailDeferred, match="maildir"):
        Maildir(tmp_path / "mail").send(mail())


def test_the_console_shows_the_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    open_transport("console:", tmp_path).send(mail())
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "To: ada@acme.example" in shown.err
    assert "the link: https://login.acme.example/" in shown.err


def test_passwords_are_not_in_a_repr() -> None:
    transport = open_transport("smtp://user:hush@mail.example", Path())
    assert isinstance(transport, SmtpTransport)
    assert "hush" not in repr(transport) + str(transport) + repr(dataclasses.replace(transport, port=1))
