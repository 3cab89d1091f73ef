"""What is done to a fleet: one class a fault, with the row that docs/faults.md has for it."""

from __future__ import annotations

import contextlib
import resource
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import parse_qs, urlencode, urlsplit

from broker.core.mail import Job, JobKind
from broker.core.values import TenantId
from broker.demo.sample import PASSWORD
from broker.wiring import running
from tests.crash.processes import gone, kill_nine, tree, wait_until
from tests.crash.visitor import Visitor
from tests.faults.fleet import Clock, Fleet, frozen, person, talks_to
from tests.faults.people import App
from tests.postgresql import filled

HELD, ASKER = 41, 42
"""Whose mail is in the hands of a worker that is killed; who asks for one while there is no room to write that down."""
SLOW_CLIENTS = 1000
NOTHING = "nothing; a request in flight is answered 503 or cut off, and can be repeated"


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
    lasts: Callable[[Fleet], bool] | None = None
    """Of a fault that lasts: whether it has lasted long enough. Then health is waited for when it is over."""
    hinders: bool = False
    """Of a fault that lasts: whether people who sign in are hindered meanwhile."""
    cuts_off: bool = False
    """Whether a mail server may have taken a mail, and no worker lived or waited to hear so: that mail comes again."""
    over: Callable[[Fleet], bool] | None = None
    """What must have happened besides, before the fleet counts as healthy."""


def ended(fleet: Fleet, process: str) -> bool:
    return any(process in event["process"] and event["how"] == "SIGKILL" for event in fleet.events("process.ended"))


def outage(store: str) -> Callable[[Fleet], bool]:
    """Somebody said that it is gone, and that it is back."""

    def said(fleet: Fleet) -> bool:
        names = ("store.unavailable", "store.back")
        return all(any(event["store"] == store for event in fleet.events(name)) for name in names)

    return said


def is_out(fleet: Fleet) -> bool:
    """Whether somebody said that a store is gone, and nobody that it is back."""
    return bool(fleet.events("store.unavailable")) and not fleet.events("store.back")


def kills(part: str) -> Callable[[Fleet], contextlib.AbstractContextManager[None]]:
    @contextlib.contextmanager
    def strike(fleet: Fleet) -> Iterator[None]:
        victims = fleet.replicas[0].parts(part)
        kill_nine(victims)
        assert gone(victims)
        yield

    return strike


@contextlib.contextmanager
def _worker(fleet: Fleet) -> Iterator[None]:
    """The one that has the turn."""
    wait_until(fleet.has_a_holder, "a worker has the turn")
    victims = fleet.holder().parts("broker worker")
    kill_nine(victims)
    assert gone(victims)
    yield


@contextlib.contextmanager
def _supervisor(fleet: Fleet) -> Iterator[None]:
    replica = fleet.replicas[0]
    everything = list(tree(replica.pid))
    kill_nine([replica.pid])
    assert gone(everything), "all of it ends with the supervisor"
    yield


@contextlib.contextmanager
def _replica(fleet: Fleet) -> Iterator[None]:
    wait_until(fleet.has_a_holder, "a worker has the turn")
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


def _work_is_due(fleet: Fleet) -> None:
    """Each second somebody's question comes due: whenever the disk is full, a worker has something to write.

    Nobody has that name, so no mail comes of it. They are long, or what is written first would find room in old pages.
    """
    with running(fleet.replicas[0].config) as runtime, runtime.database.writing() as work:
        now = runtime.clock.now()
        facts = {"identifier": "nobody", "client": "", "transaction": "", "browser": "", "language": "en",
                 "agent": "x" * 1500, "reference": ""}  # fmt: skip
        for second in range(60):
            due = now + timedelta(seconds=second)
            work.outbox.put(Job(f"{now:%s} {second}", TenantId("acme"), JobKind.RECOVER, facts, now, due))


@contextlib.contextmanager
def _database_full(fleet: Fleet) -> Iterator[None]:
    """What writes is told so, with a page; what does not write goes on."""
    app = App(fleet)
    tokens = app.tokens(grant_type="authorization_code", code=app.code(ASKER, PASSWORD))
    _work_is_due(fleet)
    with fleet.postgres.full():
        wait_until(lambda: _is_told(fleet), "writing is refused")
        for _ in range(2 * len(fleet.replicas)):
            tokens = app.tokens(grant_type="refresh_token", refresh_token=tokens.refresh)
            assert app.visitor().get("/t/acme/login").status == 200
        yield


@contextlib.contextmanager
def _sqlite_full(fleet: Fleet) -> Iterator[None]:
    """The log of transactions is emptied first: SQLite would go on in the room that it has there."""
    assert fleet.disk is not None
    app = App(fleet)
    _work_is_due(fleet)
    with contextlib.closing(sqlite3.connect(fleet.disk / "homerealm.db", timeout=10)) as database:
        wait_until(lambda: database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0, "an empty log")
    with filled(fleet.disk):
        wait_until(lambda: _is_told(fleet), "writing is refused")
        for _ in range(4):
            assert app.visitor().get("/t/acme/login").status == 200
        yield


def _is_told(fleet: Fleet) -> bool:
    """Whether somebody who forgot a password gets a clear page instead of an answer that would not be true."""
    visitor = Visitor(fleet.origin, connect=fleet.connect)
    page = visitor.send(visitor.get("/t/acme/forgot"), "/forgot", username=person(ASKER).email)
    assert page.status in (200, 503), page
    return page.status == 503 and page.page == "error" and bool(page.reference)


def sqlite_lacks_room(fleet: Fleet) -> bool:
    return any("disk is full" in event.get("error", "") for event in fleet.events("worker.failed"))


def lacks_room(fleet: Fleet) -> bool:
    return any("No space left" in event.get("error", "") for event in fleet.events("worker.failed"))


def every_mail_is_in_a_hand(fleet: Fleet) -> bool:
    with fleet.replicas[0].tables() as tables:
        rows = tables.exec_driver_sql("SELECT kind, leased_until FROM outbox WHERE state = 'new'").all()
    return any(kind == "mail" for kind, _ in rows) and all(until is not None for _, until in rows)


def _talking(fleet: Fleet) -> list[int]:
    """The workers that talk to the mail server."""
    workers = [pid for replica in fleet.replicas for pid in replica.parts("broker worker")]
    return [pid for pid in workers if talks_to(pid, urlsplit(fleet.transport).port or 0)]


@contextlib.contextmanager
def _in_its_hands(fleet: Fleet) -> Iterator[None]:
    """A worker that talks to a mail server; that one answers again when the worker is dead."""
    with frozen(fleet.others["mail"]):
        App(fleet).forget(HELD)
        wait_until(lambda: every_mail_is_in_a_hand(fleet), "every mail is in a worker's hands")
        # A worker takes the job first and opens its connection then.
        victims: list[int] = []
        wait_until(lambda: bool(victims.extend(_talking(fleet)) or victims), "a worker talks to the mail server")
        fleet.struck = time.monotonic()
        kill_nine(victims)
        assert gone(victims)
    yield


@contextlib.contextmanager
def _slow(fleet: Fleet) -> Iterator[None]:
    """Half of a head, half of a body, in turn; as many to each replica."""
    halves = (b"GET /healthz HTTP/1.1\r\nHo", b"POST /t/acme/login HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
    with contextlib.ExitStack() as held:
        for number in range(SLOW_CLIENTS):
            replica = fleet.replicas[number // 2 % 2]
            client = held.enter_context(socket.create_connection(("127.0.0.1", replica.listens_on), timeout=10))
            client.sendall(halves[number % 2])
        yield


def all_were_late(fleet: Fleet) -> bool:
    """Each of the thousand was counted, and in few lines."""
    said = fleet.events("requests.late")
    return sum(int(event["number"]) for event in said) == SLOW_CLIENTS and len(said) <= SLOW_CLIENTS // 100


@contextlib.contextmanager
def _disk(fleet: Fleet) -> Iterator[None]:
    """No file of one replica can grow: its log, its mails."""
    ours = list(tree(fleet.replicas[0].pid))
    for pid in ours:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        # Also those that were started meanwhile, and have the limit from their starter.
        for pid in {*ours, *tree(fleet.replicas[0].pid)}:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


WEB = Fault(
    "a web process is killed", "`kill -9` of the only web process of one of two replicas", NOTHING,
    kills("broker.wsgi"), lambda fleet: ended(fleet, "web process"), "`process.ended`",
)  # fmt: skip
WORKER = Fault(
    "the background worker is killed", "`kill -9` of the worker that has the turn", "nothing", _worker,
    lambda fleet: ended(fleet, "background worker"), "`process.ended`",
)  # fmt: skip
IN_ITS_HANDS = Fault(
    "a worker is killed with a mail in its hands", "`kill -9` while the mail server is frozen; until that mail came",
    "nothing; the mail comes when the lease ends", _in_its_hands,
    lambda fleet: ended(fleet, "background worker"), "`process.ended`",
    over=lambda fleet: len(fleet.mailbox.to(person(HELD).email, "reset")) == 1, cuts_off=True,
)  # fmt: skip
SUPERVISOR = Fault(
    "the supervisor is killed", "`kill -9` of `homerealm serve` of one of two replicas; the rest of it ends in order",
    "nothing; the other replica serves", _supervisor,
    lambda fleet: bool(fleet.events("supervisor.lost")), "`supervisor.lost`",
)  # fmt: skip
REPLICA = Fault(
    "a whole replica is killed", "`kill -9` of every process of the replica that has the turn",
    "nothing; the other replica serves", _replica,
    lambda fleet: bool(fleet.events("turn.taken")), "`turn.taken` of the other one",
)  # fmt: skip
PRIMARY = Fault(
    "the Redis primary is killed", "`kill -9`; a Sentinel promotes the replica after half a second",
    "sessions and logins of the last moments at worst", _redis, outage("key_value"),
    "`store.unavailable`, `store.back`",
)  # fmt: skip
EMPTIED = Fault(
    "Redis is killed and comes back empty", "`kill -9` of a Redis without persistence and without a replica",
    "every session and login in progress; throttles start strict", _redis_restarts, outage("key_value"),
    "`store.unavailable`, `store.back`", answers=frozenset({503, 400, 401, 409, 429}),
)  # fmt: skip
KEPT = Fault(
    "Redis is killed and comes back with its file", "`kill -9` of a Redis with `appendfsync always`, and a start",
    NOTHING, _redis_restarts, outage("key_value"), "`store.unavailable`, `store.back`",
)  # fmt: skip
DATABASE = Fault(
    "PostgreSQL is restarted", "a fast shutdown under load, and a start", NOTHING, _postgres, outage("database"),
    "`store.unavailable`, `store.back`",
)  # fmt: skip
DATABASE_KILLED = Fault(
    "PostgreSQL is killed", "an immediate shutdown under load, and a start with recovery", NOTHING, _postgres_killed,
    outage("database"), "`store.unavailable`, `store.back`",
)  # fmt: skip


# --- What lasts for a while


def held(process: str) -> Callable[[Fleet], contextlib.AbstractContextManager[None]]:
    """A server that the fleet uses is frozen (SIGSTOP), and thaws."""

    def strike(fleet: Fleet) -> contextlib.AbstractContextManager[None]:
        return frozen(fleet.others[process])

    return strike


@contextlib.contextmanager
def _hour_ahead(fleet: Fleet) -> Iterator[None]:
    Clock(fleet.folder).step(3600)
    yield


@contextlib.contextmanager
def _hour_back(fleet: Fleet) -> Iterator[None]:
    """Somebody asked while it was later, and no worker has seen that yet."""
    workers = [pid for replica in fleet.replicas for pid in replica.parts("broker worker")]
    with frozen(*workers):
        App(fleet).forget(HELD)
        fleet.struck = time.monotonic()
        Clock(fleet.folder).step(0)
    yield


def comes_back_from_upstream(fleet: Fleet) -> bool:
    """Somebody of the other house comes back with a code; whether they are told that it does not work now."""
    visitor = Visitor(fleet.origin, connect=fleet.connect)
    page = visitor.send(visitor.get("/t/acme/login"), "/login", username="carol@upstream.example")
    for state in parse_qs(urlsplit(page.location).query).get("state", []):
        visitor.get(f"/t/acme/callback/staff?{urlencode({'state': state, 'code': 'some code'})}")
    return bool(fleet.events("connection.failed"))


STORE = Fault(
    "the embedded store is killed", "`kill -9` of the Valkey of a single node", "nothing that was answered",
    kills("valkey-server"), lambda fleet: ended(fleet, "key-value server") and not is_out(fleet), "`process.ended`",
)  # fmt: skip
MAIL = Fault(
    "the mail server freezes", "SIGSTOP until a delivery was given up for now, then SIGCONT",
    "nothing; mails come late",
    held("mail"), lambda fleet: bool(fleet.events("job.retried")), "`job.retried`",
    lasts=lambda fleet: bool(fleet.events("job.retried")), cuts_off=True, answers=frozenset(),
)  # fmt: skip
UPSTREAM = Fault(
    "an upstream provider freezes", "SIGSTOP until a sign-in there was refused, then SIGCONT",
    "nothing; who signs in elsewhere is not hindered", held("upstream"),
    lambda fleet: bool(fleet.events("connection.failed")), "`connection.failed`",
    lasts=comes_back_from_upstream, answers=frozenset(),
)  # fmt: skip
SLOW = Fault(
    "1,000 slow clients", "half of a head or of a body from each, on both replicas, until they were cut off", "nothing",
    _slow, all_were_late, "`requests.late` with their number", answers=frozenset(), lasts=all_were_late,
)  # fmt: skip
DISK = Fault(
    "a full disk", "no file of one replica grows, neither its log nor its mails",
    "the lines of the log meanwhile", _disk, lambda fleet: bool(fleet.events("events.dropped")), "`events.dropped`",
    lasts=lambda fleet: True,
)  # fmt: skip
DATABASE_FULL = Fault(
    "the disk of PostgreSQL is full", "no page more for any table; WAL elsewhere (without room for it PostgreSQL ends)",
    "nothing that was answered; what writes is told 503, tokens and pages go on", _database_full, lacks_room,
    "`worker.failed` with PostgreSQL's words", lasts=lacks_room, hinders=True,
)  # fmt: skip
SQLITE_FULL = Fault(
    "the disk of SQLite is full", "a single node; no room on the disk of the database, its log and mails are elsewhere",
    "nothing that was answered; what writes is told 503, pages go on", _sqlite_full, sqlite_lacks_room,
    "`worker.failed` with SQLite's words", lasts=sqlite_lacks_room, hinders=True,
)  # fmt: skip
STEPS = (
    Fault(
        "the clock jumps an hour ahead", "both replicas at once (libfaketime)",
        "logins in progress, and links that an hour makes too old", _hour_ahead,
        lambda fleet: bool(fleet.events("clock.stepped")), "`clock.stepped`",
        answers=frozenset({503, 400, 401, 409, 410}),
    ),
    Fault(
        "the clock jumps an hour back", "both replicas at once; until a mail came that was asked for before that",
        "nothing", _hour_back,
        lambda fleet: any(float(event["seconds"]) < 0 for event in fleet.events("clock.stepped")), "`clock.stepped`",
        answers=frozenset({503, 400, 401, 409, 410}),
        over=lambda fleet: len(fleet.mailbox.to(person(HELD).email, "reset")) == 1,
    ),
)  # fmt: skip
