"""What is done to a fleet: one class a fault, with the row that docs/faults.md has for it."""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.crash.processes import gone, kill_nine, tree, wait_until
from tests.faults.fleet import Fleet, Replica

NOTHING = "nothing; a request in flight is answered 503 or cut off, and can be repeated"
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong."""

    title: str
    done: str
    """What the test does."""
    lost: str
    strike: Callable[[Fleet], contextlib.AbstractContextManager[None]]
    """The fault lasts as long as the block; a fault that mends itself ends at once."""
    said: Callable[[Fleet], bool]
    """Whether somebody said what happened. Asked again and again; the log of the fleet is fresh."""
    event: str
    """What was said, for the table."""
    answers: frozenset[int] = frozenset({503})
    """What people may be told meanwhile, besides nothing at all."""


def ended(fleet: Fleet, process: str) -> bool:
    return any(process in event["process"] and event["how"] == "SIGKILL" for event in fleet.events("process.ended"))


def outage(store: str) -> Callable[[Fleet], bool]:
    """Somebody said that it is gone, and that it is back."""

    def said(fleet: Fleet) -> bool:
        names = ("store.unavailable", "store.back")
        return all(any(event["store"] == store for event in fleet.events(name)) for name in names)

    return said


@contextlib.contextmanager
def _web(fleet: Fleet) -> Iterator[None]:
    victims = fleet.replicas[0].parts("broker.wsgi")
    kill_nine(victims)
    assert gone(victims)
    yield


@contextlib.contextmanager
def _worker(fleet: Fleet) -> Iterator[None]:
    """The one that has the turn."""
    wait_until(lambda: bool(fleet.events("turn.taken")), "a worker has the turn")
    victims = fleet.holder().parts("broker worker")
    kill_nine(victims)
    assert gone(victims)
    yield


def again(fleet: Fleet, replica: Replica, held: contextlib.ExitStack) -> None:
    """What an init system does with a service that ended."""
    held.enter_context(replica.serving("--workers", "1"))


@contextlib.contextmanager
def _supervisor(fleet: Fleet) -> Iterator[None]:
    replica = fleet.replicas[0]
    everything = list(tree(replica.pid))
    kill_nine([replica.pid])
    assert gone(everything), "all of it ends with the supervisor"
    yield


@contextlib.contextmanager
def _replica(fleet: Fleet) -> Iterator[None]:
    wait_until(lambda: bool(fleet.events("turn.taken")), "a worker has the turn")
    victims = list(tree(fleet.holder().pid))
    kill_nine(victims)
    assert gone(victims)
    yield


@contextlib.contextmanager
def _redis(fleet: Fleet) -> Iterator[None]:
    assert fleet.redis is not None
    fleet.redis.kill()
    yield


@contextlib.contextmanager
def _redis_restarts(fleet: Fleet) -> Iterator[None]:
    assert fleet.redis is not None
    fleet.redis.kill()
    wait_until(lambda: not any(replica.well() for replica in fleet.replicas), "both are not ready")
    fleet.redis.start()
    yield


@contextlib.contextmanager
def _postgres(fleet: Fleet) -> Iterator[None]:
    fleet.postgres.stop()
    wait_until(lambda: not any(replica.well() for replica in fleet.replicas), "both are not ready")
    fleet.postgres.start()
    yield


@contextlib.contextmanager
def _postgres_killed(fleet: Fleet) -> Iterator[None]:
    fleet.postgres.stop(kill=True)
    wait_until(lambda: not any(replica.well() for replica in fleet.replicas), "both are not ready")
    fleet.postgres.start()
    yield


@contextlib.contextmanager
def _slow(fleet: Fleet) -> Iterator[None]:
    """Half of a head, half of a body, in turn; as many to each replica."""
    halves = (b"GET /healthz HTTP/1.1\r\nHo", b"POST /t/acme/login HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
    with contextlib.ExitStack() as held:
        for number in range(1000):
            replica = fleet.replicas[number // 2 % 2]
            client = held.enter_context(socket.create_connection(("127.0.0.1", replica.listens_on), timeout=10))
            client.sendall(halves[number % 2])
        yield


@contextlib.contextmanager
def _disk(fleet: Fleet) -> Iterator[None]:
    """No file of one replica can grow: its log, its mails."""
    ours = list(tree(fleet.replicas[0].pid))
    for pid in ours:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        for pid in ours:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


class Clock:
    """The clock of the replicas, which a test sets (libfaketime reads the file each time)."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "offset"
        self.step(0)

    def step(self, seconds: int) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}s\n")
        new.replace(self._file)

    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(self._file), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1",
        }  # fmt: skip


WEB = Fault(
    "a web process is killed", "`kill -9` of the only web process of one of two replicas", NOTHING, _web,
    lambda fleet: ended(fleet, "web process"), "`process.ended`",
)  # fmt: skip
WORKER = Fault(
    "the background worker is killed", "`kill -9` of the worker that has the turn", "nothing", _worker,
    lambda fleet: ended(fleet, "background worker"), "`process.ended`",
)  # fmt: skip
SUPERVISOR = Fault(
    "the supervisor is killed", "`kill -9` of `homerealm serve` of one of two replicas; the rest of it ends in order",
    "nothing; the other replica serves", _supervisor,
    lambda fleet: bool(fleet.events("supervisor.lost")), "`supervisor.lost`",
)  # fmt: skip
REPLICA = Fault(
    "a whole replica is killed", "`kill -9` of every process of the replica that has the turn",
    "nothing; the other replica serves", _replica,
    lambda fleet: len({event["holder"] for event in fleet.events("turn.taken")}) > 1, "`turn.taken` of the other one",
)  # fmt: skip
PRIMARY = Fault(
    "the Redis primary is killed", "`kill -9`; a Sentinel promotes the replica after half a second",
    "sessions and logins of the last moments at worst", _redis, outage("key_value"),
    "`store.unavailable`, `store.back`",
)  # fmt: skip
EMPTIED = Fault(
    "Redis is killed and comes back empty", "`kill -9` of a Redis without persistence and without a replica",
    "every session and login in progress; throttles start strict", _redis_restarts, outage("key_value"),
    "`store.unavailable`, `store.back`", answers=frozenset({503, 400, 401, 409}),
)  # fmt: skip
DATABASE = Fault(
    "PostgreSQL is restarted", "a fast shutdown under load, and a start", NOTHING, _postgres, outage("database"),
    "`store.unavailable`, `store.back`",
)  # fmt: skip
DATABASE_KILLED = Fault(
    "PostgreSQL is killed", "an immediate shutdown under load, and a start with recovery", NOTHING, _postgres_killed,
    outage("database"), "`store.unavailable`, `store.back`",
)  # fmt: skip
