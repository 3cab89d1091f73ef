"""Hashing in a process of its own, at a low priority (docs/decisions/password-hashing.md).

A thread of low priority in a web process would now and then hold the interpreter's lock when nobody lets it run; and
what it maps and unmaps would be in the way of the others.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

from broker.core.errors import Busy
from broker.services import hash_child

PAUSE_SECONDS = 0.5
"""Before a third start in a row without an answer, and before later ones: to start what cannot live costs."""


class HashFailed(RuntimeError):
    """The library could not: the text is the name of its error."""


class HashProcess:
    """Started when it is first used, and again when it died. Whoever waited for the one that died gets `Busy`.

    `lanes` callers at a time. Implements `argon2id.Engine` by the engine of that `name`. Belongs to the process that
    made it: a fork needs one of its own.
    """

    def __init__(self, name: str, lanes: int, nice: int) -> None:
        self.name = name
        self._lanes = lanes
        self._nice = nice
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._free: list[socket.socket] = []
        self._failures = 0
        """Starts since the last answer."""
        self._not_before = 0.0

    @property
    def pid(self) -> int | None:
        child = self._child
        return child.pid if child is not None else None

    def hash(self, raw: bytes, memory_kib: int, time_cost: int) -> str:
        """Raises `Busy`."""
        return self._ask(hash_child.HASH, f"{memory_kib} {time_cost}", raw).decode("ascii")

    def verify(self, stored: str, raw: bytes) -> bool:
        """Raises `Busy`: then nothing was decided."""
        return self._ask(hash_child.VERIFY, stored, raw) == b"\x01"

    def close(self) -> None:
        """End it. It starts again when it is used again."""
        with self._lock:
            self._end()

    def _ask(self, what: bytes, text: str, raw: bytes) -> bytes:
        child, lane = self._lane()
        try:
            hash_child.send(lane, *hash_child.question(what, text, raw))
            answer = hash_child.receive(lane)
        except (EOFError, OSError):
            lane.close()
            self._lost(child)
            raise Busy("the hashing process ended") from None
        except BaseException:  # its answer would be somebody else's
            lane.close()
            raise
        with self._lock:
            self._failures = 0
            if self._child is child:
                self._free.append(lane)
            else:
                lane.close()
        if answer[:1] != hash_child.DONE:
            raise HashFailed(answer[1:].decode("ascii"))
        return answer[1:]

    def _lane(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        with self._lock:
            if self._child is not None and self._child.poll() is not None:
                self._end()
            if self._child is None or not self._free:
                self._start()
            child = self._child
            if child is None:
                raise Busy("the hashing process cannot be started")
            return child, self._free.pop()

    def _start(self) -> None:
        self._end()
        now = time.monotonic()
        if now < self._not_before:
            raise Busy("the hashing process fails to start")
        self._failures += 1
        self._not_before = now + PAUSE_SECONDS if self._failures > 1 else 0.0
        pairs: list[tuple[socket.socket, socket.socket]] = []
        here = os.pathsep.join(path for path in sys.path if path)
        environment = {name: value for name, value in os.environ.items() if name.startswith(("LD_", "DYLD_"))}
        command = [sys.executable, "-S", "-P", "-m", hash_child.__name__, self.name, str(self._nice), str(os.getpid())]
        try:
            pairs += [socket.socketpair() for _ in range(self._lanes)]
            theirs = [str(their.fileno()) for _, their in pairs]
            # In our session: a priority counts among those of a session (sched(7), autogroup).
            self._child = subprocess.Popen(
                [*command, *theirs], env={**environment, "PYTHONPATH": here}, stdin=subprocess.DEVNULL,
                pass_fds=[their.fileno() for _, their in pairs],
            )  # fmt: skip
        except OSError as error:
            for ours, _ in pairs:
                ours.close()
            raise Busy("the hashing process cannot be started") from error
        finally:
            for _, their in pairs:
                their.close()
        self._free = [ours for ours, _ in pairs]

    def _lost(self, child: subprocess.Popen[bytes]) -> None:
        """It died with a question in its hands. The first who notices says so."""
        with self._lock:
            if self._child is not child:
                return
            self._end()
        from broker.services import event_log

        event_log.logger("homerealm.hashing").error("hashing.ended", status=child.returncode)

    def _end(self) -> None:
        child, self._child = self._child, None
        free, self._free = self._free, []
        for lane in free:
            lane.close()
        if child is not None:
            with suppress(ProcessLookupError):
                child.kill()
            child.wait()
