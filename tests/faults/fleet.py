"""Two replicas on one PostgreSQL and one Redis, as real processes on loopback, and a proxy's way to share requests."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from broker.core.attempts import Limit
from broker.demo.sample import Person, fill
from broker.stores.kv.redis import RedisKeyValue
from broker.stores.kv.throttle import KvThrottle
from broker.testing.clock import FixedClock
from broker.testing.mailbox import Mailbox
from tests.crash.processes import like, tree
from tests.kv_servers import Process, processes, until, watched
from tests.postgresql import Postgres, as_root
from tests.servers import Homerealm, answers, free_port, listens, program, running, said, short_folder

BROKER = """\
base_url: http://localhost:{port}
database: {database}
key_value: {key_value}
secret_key_file: SHARED/secret.key
mail: {{from: "Homerealm <no-reply@localhost>", transport: "TRANSPORT"}}
egress: {{allow: [127.0.0.0/8, "::1/128"]}}
"""
CALLBACK = "http://localhost:1/callback"
TENANT = f"""\
tenant: acme
name: Acme
connections:
  - {{id: users, type: database, title: "Acme account", identifiers: [email, username]}}
clients:
  - client_id: app
    client_name: The app
    token_endpoint_auth_method: none
    redirect_uris: ["{CALLBACK}"]
    grant_types: [authorization_code, refresh_token]
"""
PEOPLE = 60
AGE = 2 * 60 * 60
FAKETIME = Path(f"/usr/lib/{platform.machine()}-linux-gnu/faketime/libfaketime.so.1")


@dataclass
class Replica(Homerealm):
    """One of several: it listens on a port of its own and answers for the address of all."""

    listens_on: int = 0
    read: int = 0
    """Bytes of its log that are about what was before."""

    @contextlib.contextmanager
    def serving(self, *options: str) -> Iterator[Replica]:
        where = ("--host", "127.0.0.1", "--port", str(self.listens_on))
        command = [program(), "serve", "--config", self.config, *where, *options]
        with running(command, self.well, log=self.log, cwd=self.folder, env=self.environment) as process:
            self.process = process
            yield self

    def well(self) -> bool:
        return answers(self.listens_on, "/readyz", f"localhost:{self.port}")

    @property
    def pid(self) -> int:
        if self.process is None:
            raise RuntimeError("not running")
        return self.process.pid

    def parts(self, *words: str) -> list[int]:
        """Its processes whose names have all the words."""
        return like(tree(self.pid), *words)

    def events(self, name: str = "", *, ever: bool = False) -> list[dict[str, str]]:
        """What it said since the page was turned, or ever; of that name only."""
        return said(self.log, name, 0 if ever else self.read)


@dataclass
class Fleet:
    """The replicas, what they stand on, and the mails that they sent."""

    folder: Path
    port: int
    replicas: list[Replica]
    postgres: Postgres
    redis: Process | None
    others: dict[str, int] = field(default_factory=dict)
    """Processes that it talks to besides."""
    transport: str = ""
    """Where mails go; empty: into a folder."""
    disk: Path | None = None
    """Of a single node on SQLite: what its database lies on, and nothing else."""
    turns: Iterator[int] = field(default_factory=itertools.count)
    struck: float = 0.0
    """When the last blow fell, or ended (`time.monotonic`): it is well again so long after that."""
    cut_off: list[tuple[float, float]] = field(default_factory=list)
    """From when to when (`time.time`) the answer of a mail server may have been lost. The mailbox is never emptied: a
    mail that came again in one story is still there in the next."""

    @property
    def origin(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def mailbox(self) -> Mailbox:
        return Mailbox(self.folder / "mail")

    def connect(self, _port: int) -> http.client.HTTPConnection:
        """To the next replica that takes a connection, as a proxy does. Raises `OSError` when none does."""
        first = next(self.turns)
        refused = OSError()
        for step in range(len(self.replicas)):
            replica = self.replicas[(first + step) % len(self.replicas)]
            connection = http.client.HTTPConnection("127.0.0.1", replica.listens_on, timeout=20)
            try:
                connection.connect()
            except OSError as error:
                refused = error
                continue
            return connection
        raise refused

    def events(self, name: str) -> list[dict[str, str]]:
        return [event for replica in self.replicas for event in replica.events(name)]

    def turn_the_page(self) -> None:
        """What was said until now is about what was before."""
        for replica in self.replicas:
            replica.read = replica.log.stat().st_size

    def has_a_holder(self) -> bool:
        return any(replica.events("turn.taken", ever=True) for replica in self.replicas)

    def holder(self) -> Replica:
        """Whose background worker does what only one does. Raises `LookupError`."""
        said = [
            (event["timestamp"], replica)
            for replica in self.replicas
            for event in replica.events("turn.taken", ever=True)
        ]
        if not said:
            raise LookupError("nobody took the turn")
        return max(said, key=lambda one: one[0])[1]


def person(number: int) -> Person:
    return Person("acme", f"person{number}", f"person{number}@people.example", "Some Body", "")


@contextlib.contextmanager
def postgres(megabytes: int = 0) -> Iterator[Postgres]:
    """A server that a test may stop: others stand on the shared one. `megabytes`: of its disk."""
    if megabytes and subprocess.run([*as_root(), "true"], check=False, capture_output=True).returncode:
        pytest.skip("a disk of its own needs root, or sudo without a password")
    server = Postgres(megabytes)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@contextlib.contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A disk that a test may fill."""
    if subprocess.run([*as_root(), "true"], check=False, capture_output=True).returncode:
        pytest.skip("a disk of its own needs root, or sudo without a password")
    with short_folder() as folder:
        options = f"size={megabytes}m,mode=0700,uid={os.getuid()}"
        subprocess.run([*as_root(), "mount", "-t", "tmpfs", "-o", options, "none", folder], check=True)
        try:
            yield folder
        finally:
            subprocess.run([*as_root(), "umount", "--lazy", folder], check=False)


@contextlib.contextmanager
def fleet(
    postgres: Postgres,
    *,
    sentinel: bool = False,
    alone: bool = False,
    aged: bool = False,
    timed: bool = False,
    outside: bool = False,
    kept: bool = False,
    disk: Path | None = None,
    people: int = PEOPLE,
) -> Iterator[Fleet]:
    """Two replicas that serve. `sentinel`: Redis is a primary with a replica under a Sentinel. `alone`: a single node
    on the embedded store. `aged`: it has been there for more than an hour, so that a store without anything in it was
    flushed. `timed`: a file sets the clock. `outside`: a mail server and an upstream provider are there. `kept`: Redis
    keeps a file, and what it has answered is in it. `disk`: where the database lies, which is SQLite then.
    """
    with short_folder() as folder, contextlib.ExitStack() as held:
        environment = Clock(folder).environment() if timed else {}
        others, tenant, transport = held.enter_context(_outside(folder)) if outside else ({}, TENANT, "")
        redis, key_value = (None, "embedded") if alone else held.enter_context(_redis(sentinel, kept))
        port = free_port()
        database = postgres.fresh(AGE if aged else 0) if disk is None else f"sqlite:///{disk}/homerealm.db"
        if aged and redis is not None:
            it_was_there_before(redis, database)
        settings = BROKER.replace("SHARED", str(folder)).replace("TRANSPORT", transport or f"maildir:{folder}/mail")
        replicas = []
        for name in ("one",) if alone else ("one", "two"):
            (folder / name).mkdir()
            replica = Replica(folder / name, port, database, key_value, listens_on=free_port())
            replica.environment = environment
            replica.configure({"acme": tenant}, settings)
            replicas.append(replica)
        fill(replicas[0].config, tuple(person(number) for number in range(people)), os.environ)
        for replica in replicas:
            held.enter_context(replica.serving("--workers", "1"))
        yield Fleet(folder, port, replicas, postgres, redis, others, transport, disk)


@contextlib.contextmanager
def _outside(folder: Path) -> Iterator[tuple[dict[str, int], str, str]]:
    """Their processes, a tenant that uses the provider, and where mails go."""
    mail, upstream = free_port(), free_port()
    smtp = [sys.executable, "-m", "aiosmtpd", "-n", "-l", f"127.0.0.1:{mail}", "-c", "aiosmtpd.handlers.Mailbox",
            folder / "mail"]  # fmt: skip
    provider = [sys.executable, Path(__file__).with_name("upstream.py"), str(upstream)]
    with (
        running(smtp, lambda: listens(mail), log=folder / "mail.log") as one,
        running(provider, lambda: listens(upstream), log=folder / "upstream.log") as two,
    ):
        connection = (
            f"  - {{id: staff, type: oidc, title: Staff, issuer: 'http://127.0.0.1:{upstream}', client_id: us,\n"
            "     client_secret: s3cret-of-staff, domains: [upstream.example]}\nclients:"
        )
        tenant = TENANT.replace("clients:", connection)
        yield {"mail": one.pid, "upstream": two.pid}, tenant, f"smtp://127.0.0.1:{mail}?tls=none"


class Clock:
    """The clock of the replicas, which a test sets (libfaketime reads the file each time)."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "offset"
        if not self._file.exists():
            self.step(0)

    def step(self, seconds: int) -> None:
        """So far away from the true time, from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}s\n")
        new.replace(self._file)

    def environment(self) -> dict[str, str]:
        if not FAKETIME.exists():
            pytest.skip("libfaketime is not installed")
        return {
            "LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(self._file), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1",
        }  # fmt: skip


@contextlib.contextmanager
def _redis(sentinel: bool, kept: bool) -> Iterator[tuple[Process, str]]:
    if sentinel:
        with watched("redis") as servers:
            yield servers.primary, servers.url
        return
    with processes() as start:
        port = free_port()
        process = start("redis", port, *(("appendonly yes", "appendfsync always") if kept else ()))
        until(lambda: process.ask("PING") is not None, "Redis")
        yield process, f"redis://127.0.0.1:{port}/0"


def it_was_there_before(redis: Process, database: str) -> None:
    """The store knows the database, and is not strict."""
    with (
        contextlib.closing(RedisKeyValue.connect(f"redis://127.0.0.1:{redis.port}/0")) as kv,
        psycopg.connect(database) as sql,
    ):
        ((marker,),) = sql.execute("SELECT value FROM meta WHERE name = 'marker'").fetchall()
        an_hour_ago = FixedClock(datetime.now(UTC) - timedelta(hours=1, minutes=5))
        KvThrottle(kv, an_hour_ago, marker).charge(Limit("nobody", 1, timedelta(seconds=1)))


def talks_to(pid: int, port: int) -> bool:
    """Whether a process has a TCP connection to that port."""
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    theirs = {f"socket:[{row[9]}]" for row in rows if int(row[2].partition(":")[2], 16) == port}
    with contextlib.suppress(OSError):
        return any(str(one.readlink()) in theirs for one in Path(f"/proc/{pid}/fd").iterdir())
    return False


@contextlib.contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """They do nothing until the block ends."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
