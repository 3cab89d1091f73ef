"""Real servers for tests: they start on a free port of loopback, and they always end."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, create_engine

from broker.stores.sql.engine import parse_url

if TYPE_CHECKING:
    from tests.engines import Pair

ROOT = Path(__file__).parents[1]


_PORTS = range(20_000, 32_000)
"""Below those that the kernel gives to clients: nobody gets one of these by chance."""


@cache
def _mine() -> Iterator[int]:
    """The ports of this process of tests, in turn; other processes have others."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = len(_PORTS) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    mine = _PORTS[number * share : (number + 1) * share]
    begin = os.getpid() % share
    return itertools.cycle([*mine[begin:], *mine[:begin]])


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    return free_ports(1)


def free_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    for _ in range(100):
        ports = list(itertools.islice(_mine(), count))
        with contextlib.suppress(OSError), contextlib.ExitStack() as held:
            for port in ports:
                held.enter_context(socket.create_server(("127.0.0.1", port)))
            if ports == list(range(ports[0], ports[0] + count)):
                return ports[0]
    raise RuntimeError(f"no {count} free ports in a row")


def listens(port: int) -> bool:
    """Whether somebody accepts connections on this port of loopback."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def answers(port: int, path: str, host: str | None = None, seconds: float = 2) -> bool:
    """Whether an HTTP server answers this path with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("GET", path, headers={"Host": host or f"localhost:{port}"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def said(log: Path, name: str = "", since: int = 0) -> list[dict[str, Any]]:
    """The events of a log, those of one name only; `since`: bytes of it that do not count.

    A reader may see half of the last line, and who is killed in the middle of one leaves it to the next.
    """
    whole, _, _ = (log.read_bytes()[since:] if log.exists() else b"").rpartition(b"\n")
    events = []
    for line in whole.decode(errors="replace").splitlines():
        if line.startswith("{"):
            with contextlib.suppress(ValueError):
                events.append(json.loads(line))
    return [event for event in events if name in ("", event.get("event"))]


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A folder with a short path: those of unix sockets stay under 108 bytes, and pytest's folders are long."""
    folder = Path(tempfile.mkdtemp(prefix="hr-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    ready: Callable[[], bool],
    *,
    log: Path,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    seconds: float = 30,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, from when it is ready until the block ends; then its whole group is gone.

    Raises `RuntimeError` with the end of its log when it does not get ready.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=cwd, env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + seconds
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                state = "does not answer" if process.poll() is None else f"ended with {process.returncode}"
                raise RuntimeError(f"{command[0]} {state}:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes], seconds: float = 10) -> int:
    """End a process as an operator does (TERM), and what is left of its group by force; its exit status."""
    if process.stdin:
        with contextlib.suppress(OSError):
            process.stdin.close()
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


BROKER_YAML = """\
base_url: http://localhost:{port}
database: {database}
key_value: {key_value}
secret_key_file: var/secret.key
mail: {{from: "Homerealm <no-reply@localhost>", transport: "maildir:var/mail"}}
egress: {{allow: [127.0.0.0/8, "::1/128"]}}
"""

TENANT_YAML = """\
tenant: acme
name: Acme
connections:
  - {id: users, type: database, title: "Acme account", identifiers: [email, username]}
clients: []
"""


@dataclass
class Homerealm:
    """`homerealm serve` with a configuration of its own, as a user of the command line would run it."""

    folder: Path
    port: int
    database: str = "sqlite:///var/homerealm.db"
    key_value: str = "embedded"
    process: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def mail(self) -> Path:
        """The maildir that mails are delivered to."""
        return self.folder / "var" / "mail"

    @property
    def log(self) -> Path:
        return self.folder / "serve.log"

    def issuer(self, tenant: str = "acme") -> str:
        return f"{self.origin}/t/{tenant}"

    def configure(self, tenants: Mapping[str, str], broker: str = BROKER_YAML) -> None:
        """Write the configuration: YAML by tenant."""
        (self.config / "tenants").mkdir(parents=True, exist_ok=True)
        (self.config / "broker.yaml").write_text(
            broker.format(port=self.port, database=self.database, key_value=self.key_value)
        )
        for tenant, text in tenants.items():
            (self.config / "tenants" / f"{tenant}.yaml").write_text(text)

    @contextlib.contextmanager
    def tables(self) -> Iterator[Connection]:
        """Its database, past everything of ours."""
        engine = create_engine(parse_url(self.database.replace("sqlite:///", f"sqlite:///{self.folder}/")))
        with engine.begin() as connection:
            yield connection
        engine.dispose()

    def run(self, *arguments: str, typed: str = "") -> str:
        """A command of ours; its standard output. Raises `RuntimeError` with what it said when it fails."""
        done = subprocess.run(
            [str(program()), *arguments],
            cwd=self.folder, env={**os.environ, **self._env()}, input=typed, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"homerealm {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def add_user(self, username: str, password: str, tenant: str = "acme", email: str | None = None) -> None:
        """A user with a password; the address counts as verified."""
        address = email or f"{username}@{tenant}.example"
        self.run(
            "user", "add", "--tenant", tenant, "--username", username, "--email", address, "--name", username.title(),
            typed=password + "\n",
        )  # fmt: skip

    @contextlib.contextmanager
    def serving(self, *options: str) -> Iterator[Homerealm]:
        """Serve until the block ends."""
        command = [
            program(),
            "serve",
            "--config",
            self.config,
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            *options,
        ]
        with running(
            command, lambda: answers(self.port, "/healthz"), log=self.log, cwd=self.folder, env=self._env()
        ) as process:
            self.process = process
            yield self

    def _env(self) -> dict[str, str]:
        return {"HOMEREALM_CONFIG": str(self.config), **self.environment}


def program() -> Path:
    """The `homerealm` command of the environment that runs the tests."""
    return Path(sys.executable).with_name("homerealm")


@contextlib.contextmanager
def homerealm(tenants: Mapping[str, str] | None = None, engines: Pair | None = None) -> Iterator[Homerealm]:
    """A configured Homerealm that does not serve yet. Without `engines` it stands on those that it brings along."""
    with short_folder() as folder, contextlib.ExitStack() as stores:
        server = Homerealm(folder, free_ports(3))
        if engines is not None:
            server.database = engines.database_of_serve(server.database.removeprefix("sqlite:///"))
            server.key_value = stores.enter_context(engines.key_value_of_serve())
        server.configure(tenants or {"acme": TENANT_YAML})
        yield server
