"""Argon2id, a few at a time and at a low priority (SECURITY 13, 18; RFC 9106).

Token traffic and pages keep their pace under a flood of logins because hashing runs apart from them at a lower
priority, and because whoever finds the queue full is told to come back instead of waiting.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from broker.core.errors import BadRequest
from broker.core.passwords import normalise
from broker.processes.cores import usable_cores
from broker.services.argon2id import Sodium, cost, dummy, engines
from broker.services.hash_queue import HashQueue

if TYPE_CHECKING:
    from broker.services.argon2id import Engine
    from broker.services.hash_process import HashProcess
    from broker.services.hash_threads import HashThreads

MEMORY_KIB = 19456
TIME_COST = 2
"""OWASP's recommendation for Argon2id with one lane: 19 MiB, two passes."""
NICE = 10
"""Of threads: of a core that others want whole they get 9.5 %. More, and the interpreter's lock waits for them."""
NICE_APART = 19
"""Of a process: 1.4 %."""
LONGEST = 4096
"""Code points. Longer texts are refused before any work is done on them; the rules of tenants end at 1,024."""

_PHC = re.compile(
    r"\$argon2id\$v=19\$m=([1-9][0-9]{0,9}),t=([1-9][0-9]{0,9}),p=([1-9][0-9]{0,7})"
    r"\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})"
)
_MAX_STRING = 127
"""libsodium answers "wrong password" to longer ones."""
_MAX_MEMORY_KIB = 256 * 1024
_MAX_WORK = 1024 * 1024
"""KiB times passes: about a second."""
_MAX_LANES = 16

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a stored hash says about its own making."""

    memory_kib: int
    time_cost: int
    lanes: int

    @property
    def bearable(self) -> bool:
        """Whether verifying costs no more than we are ready to pay.

        Imported hashes are somebody else's input: one that asks for 10 GB must not take the process down.
        """
        return (
            8 * self.lanes <= self.memory_kib <= _MAX_MEMORY_KIB
            and self.memory_kib * self.time_cost <= _MAX_WORK
            and self.lanes <= _MAX_LANES
        )


def read_parameters(stored: str) -> Parameters | None:
    """From a PHC string; None for anything but Argon2id version 19 (0x13)."""
    found = _PHC.fullmatch(stored) if len(stored) <= _MAX_STRING else None
    return Parameters(int(found[1]), int(found[2]), int(found[3])) if found else None


class Argon2Hasher:
    """Implements `broker.core.ports.Hasher`.

    `workers` hashes at a time (0: one for each usable core), at `nice` below the process; at most
    `queue` callers wait for that. `apart`: in a process of its own; else on threads of this one, which costs no memory
    and is good enough where nobody else is in a hurry. Tests take `memory_kib=8, time_cost=1`.
    """

    def __init__(
        self,
        workers: int = 0,
        queue: int = 64,
        nice: int | None = None,
        memory_kib: int = MEMORY_KIB,
        time_cost: int = TIME_COST,
        engine: Engine | None = None,
        apart: bool = False,
    ) -> None:
        self._workers = workers or usable_cores()
        self._queue = queue
        self._nice = nice if nice is not None else NICE_APART if apart else NICE
        self.parameters = Parameters(memory_kib, time_cost, 1)
        self._dummy = dummy(memory_kib, time_cost)
        self._engine = engine
        self._apart = apart
        self._starting = threading.Lock()
        self._pool: _Pool | None = None
        self._whose = threading.local()

    @property
    def engine(self) -> Engine:
        """Which implementation is used: the faster one by a measurement, made once, where there is a choice."""
        if self._engine is None:
            found = engines()
            self._engine = min(found, key=self._cost) if len(found) > 1 else found[0]
        return self._engine

    def rate(self) -> float:
        """Verifications a second that one core can do."""
        return 1 / max(self._cost(self.engine), 1e-6)

    def _cost(self, engine: Engine) -> float:
        return cost(engine, self.parameters.memory_kib, self.parameters.time_cost)

    def capacity(self) -> list[str]:
        """How many passwords this machine can verify, and what would be more, for `homerealm check --live`.

        Measured here and now, in a quarter of a second: what else runs on the machine is in it.
        """
        rate, cores, size = self.rate(), self._workers, self.parameters
        by = f"Argon2id, {size.memory_kib / 1024:.0f} MiB, {size.time_cost} passes, by {self.engine.name}"
        each = f"{rate:.0f} verifications a second on one core"
        found = [
            f"{by}: {each}, {rate * cores:.0f} on all {cores} of this machine, less what pages and tokens take",
            "twice the cores, here or on another machine, verify twice as many; nothing else doubles it",
        ]
        if isinstance(self.engine, Sodium) and not huge_pages():
            found.append("huge pages for everything would save most of what the kernel takes of each verification: "
                         "`always` in /sys/kernel/mm/transparent_hugepage/enabled")  # fmt: skip
        return found

    def hash(self, password: str) -> str:
        """An Argon2id PHC string. Raises `Busy`; `BadRequest` for what is no text or longer than 4,096 code points."""
        raw = _raw(password)
        if raw is None:
            raise BadRequest("a password that is no text, or too long", code="password.not_text")
        size = self.parameters
        return self._run(lambda engine: engine.hash(raw, size.memory_kib, size.time_cost))

    def verify(self, password: str, stored: str | None) -> bool:
        """Whether it is the password. Nobody, an unusable hash and an impossible password cost the same as a wrong one.

        Raises `Busy` when the queue is full, or the hashing process died: then nothing was decided.
        """
        raw = _raw(password)
        known = read_parameters(stored) if stored is not None else None
        possible = raw is not None and known is not None and known.bearable
        target = stored if possible and stored is not None else self._dummy
        matches = self._run(lambda engine: engine.verify(target, raw or b""))
        return matches and possible

    def outdated(self, stored: str) -> bool:
        """Whether it was made with other parameters than those of now, or in another way."""
        return read_parameters(stored) != self.parameters

    @contextmanager
    def asked_by(self, asker: str, *, first: bool = False) -> Iterator[None]:
        """Whom this thread's hashes are for: an address, or nothing in particular. `first` goes before the others."""
        self._whose.asker, self._whose.first = asker, first
        try:
            yield
        finally:
            self._whose.asker, self._whose.first = "", False

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        pool = self._pool
        return pool.queue.waiting if pool is not None else 0

    @property
    def strained(self) -> bool:
        """Half full or more."""
        return self.waiting * 2 >= self._queue > 0

    def close(self) -> None:
        """Waits for what is queued. The pool starts again when it is used again."""
        with self._starting:
            pool, self._pool = self._pool, None
        if pool is not None and pool.process == os.getpid():  # a fork has nothing to wait for
            pool.queue.close()
            pool.engine.close()

    def _run(self, work: Callable[[Engine], T]) -> T:
        pool, whose = self._started(), self._whose
        with pool.queue.turn(getattr(whose, "asker", ""), first=getattr(whose, "first", False)):
            return work(pool.engine)

    def _started(self) -> _Pool:
        pool = self._pool
        if pool is None or pool.process != os.getpid():
            with self._starting:
                pool = self._pool
                if pool is None or pool.process != os.getpid():
                    pool = self._pool = _Pool(os.getpid(), HashQueue(self._workers, self._queue), self._new_engine())
        return pool

    def _new_engine(self) -> HashProcess | HashThreads:
        if self._apart:
            from broker.services.hash_process import HashProcess

            return HashProcess(self.engine.name, self._workers, self._nice)
        from broker.services.hash_threads import HashThreads

        return HashThreads(self.engine, self._workers, self._nice)


@dataclass(frozen=True, slots=True)
class _Pool:
    """Where one process hashes; a fork needs another."""

    process: int
    queue: HashQueue
    engine: HashProcess | HashThreads


def _raw(password: str) -> bytes | None:
    """What is hashed; None for what cannot be a password: lone surrogates, NUL, endless texts."""
    if len(password) > LONGEST or "\x00" in password:
        return None
    try:
        return normalise(password).encode("utf-8")
    except UnicodeEncodeError:
        return None


def huge_pages(setting: Path = Path("/sys/kernel/mm/transparent_hugepage/enabled")) -> bool:
    """Whether the kernel gives huge pages to whoever maps much memory, as libsodium does for each hash.

    Also true where there is no such choice.
    """
    try:
        return "[always]" in setting.read_text()
    except OSError:
        return True
