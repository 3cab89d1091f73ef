"""`homerealm demo`, from a terminal."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.processes import gone, kill_nine, like, tree, wait_until
from tests.crash.visitor import Visitor, signs_in
from tests.servers import answers, free_ports, listens, program, said, short_folder

PASSWORD = "tulip-harbour-anvil"
NEW = "copper-meadow-violin-cloud"


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as found:
        yield found


class Terminal:
    """The demo in the foreground of a terminal: what it prints, and Ctrl-C."""

    def __init__(self, folder: Path, port: int, *options: str) -> None:
        self.port = port
        self.started = time.monotonic()
        command = [str(program()), "demo", "--folder", str(folder / "demo"), "--port", str(port), *options]
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        self.printed = ""
        self._bytes = b""

    def until(self, text: str, seconds: float = 60) -> None:
        """Read what is printed until this text is there."""
        output = self.process.stdout
        assert output is not None
        deadline = time.monotonic() + seconds
        while text not in self.printed:
            ready, _, _ = select.select([output], [], [], max(0.0, deadline - time.monotonic()))
            more = os.read(output.fileno(), 65536) if ready else b""
            assert more, f"ended without {text!r}: {self.printed}"
            self._bytes += more
            self.printed = self._bytes.decode(errors="replace")  # the last character may have come half

    def ctrl_c(self) -> int:
        """As a terminal does it: to its whole foreground group."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(20)

    def end(self) -> None:
        if self.process.poll() is None:  # else its number may be somebody else's
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


@pytest.fixture
def start(folder: Path) -> Iterator[type[Terminal]]:
    started: list[Terminal] = []

    class Ours(Terminal):
        def __init__(self, *options: str, port: int = 0) -> None:
            super().__init__(folder, port or free_ports(3), *options)
            started.append(self)

    yield Ours
    for one in started:
        one.end()


READY = "Ctrl-C stops everything."


def test_one_table_three_servers_and_ctrl_c_ends_it_all(start: type[Terminal], folder: Path) -> None:
    demo = start()
    demo.until(READY)
    demo.until("login-link")
    for words in (
        f"http://localhost:{demo.port}/dev/mailbox", f"http://localhost:{demo.port + 1}",
        f"http://localhost:{demo.port + 2}", "ada", "grace", "carol@contoso.example", PASSWORD,
    ):  # fmt: skip
        assert words in demo.printed
    assert "Traceback" not in demo.printed
    assert "WARNING" not in demo.printed
    assert '{"' not in demo.printed, "events are for the file"
    kept = folder / "demo" / "events.log"
    assert f"{Path('demo') / 'events.log'}: an event a line" in demo.printed
    wait_until(lambda: {"config.watched", "turn.taken"} <= {event["event"] for event in said(kept)}, "events")

    broker = f"http://localhost:{demo.port}"
    for port, path in (
        (demo.port, "/t/acme/.well-known/openid-configuration"), (demo.port, "/dev/mailbox"), (demo.port + 1, "/"),
        (demo.port + 2, "/t/contoso/.well-known/openid-configuration"),
    ):  # fmt: skip
        assert answers(port, path, seconds=20), path
    assert signs_in(broker, "acme", "ada", PASSWORD)
    assert signs_in(f"http://localhost:{demo.port + 2}", "contoso", "carol@contoso.example", PASSWORD)
    assert Visitor(f"http://localhost:{demo.port + 2}").get("/dev/mailbox").status == 404, "one mailbox, at the broker"

    everything = tree(demo.process.pid)
    assert len(everything) >= 8, everything
    assert demo.ctrl_c() == 0
    assert gone(everything)
    assert not any(listens(demo.port + offset) for offset in range(3))
    demo.until(READY)

    again = start(port=demo.port)
    again.until(READY)
    wait_until(lambda: answers(again.port, "/t/acme/login"), "the login page")
    print(f"a warm start answers after {time.monotonic() - again.started:.1f} s")
    assert signs_in(broker, "acme", "ada", PASSWORD)


def test_changes_stay_until_reset_and_what_goes_wrong_is_said(start: type[Terminal], folder: Path) -> None:
    demo = start()
    demo.until(READY)
    config = folder / "demo" / "broker" / "config" / "tenants" / "acme.yaml"
    config.write_text(config.read_text() + "# mine\n")
    add(folder, "zoe")
    assert signs_in(f"http://localhost:{demo.port}", "acme", "zoe", NEW)
    demo.ctrl_c()

    demo = start(port=demo.port)
    demo.until(READY)
    assert config.read_text().endswith("# mine\n")
    assert signs_in(f"http://localhost:{demo.port}", "acme", "zoe", NEW)
    kill_nine(like(tree(demo.process.pid), "broker.demo.relying_party"))
    demo.until("the demo app ended (SIGKILL) and is started again")
    wait_until(lambda: answers(demo.port + 1, "/"), "the app, again")
    config.write_text("id: [\n")
    demo.until('"config.refused"')
    said = (folder / "demo" / "events.log").read_text()
    assert '"process.ended"' in said
    assert '"config.refused"' in said
    demo.ctrl_c()

    demo = start("--reset", port=demo.port)
    demo.until(READY)
    assert not config.read_text().endswith("# mine\n")
    assert not signs_in(f"http://localhost:{demo.port}", "acme", "zoe", NEW)
    assert signs_in(f"http://localhost:{demo.port}", "acme", "ada", PASSWORD)


def add(folder: Path, username: str) -> None:
    command = [
        program(), "user", "add", "--tenant", "acme", "--username", username, "--email", f"{username}@acme.example",
        "--config", folder / "demo" / "broker" / "config",
    ]  # fmt: skip
    subprocess.run(command, input=NEW.encode() + b"\n", check=True, capture_output=True)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_taken_port_is_named_and_nothing_is_started(start: type[Terminal], folder: Path, which: int) -> None:
    port = free_ports(3)
    with socket.create_server(("127.0.0.1", port + which)):
        demo = start(port=port)
        assert demo.process.wait(20) == 1
        assert demo.process.stdout is not None
        said = demo.process.stdout.read().decode()
    assert f"port {port + which} is taken" in said
    assert "--port" in said
    assert "Traceback" not in said
    assert not (folder / "demo").exists()
