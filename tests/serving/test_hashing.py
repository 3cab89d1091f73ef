"""The hashing process of a web process, seen from outside: a real server, and what is left of it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from broker.cli.serve import web_processes
from broker.processes.cores import usable_cores
from broker.processes.environment import HASHING_LANES
from tests.crash.visitor import Visitor, signs_in
from tests.engines import Pair
from tests.servers import Homerealm, homerealm
from tests.serving.test_serve import answers_again, below, events, gone, one, started, within_20_seconds

PASSWORD = "correct horse battery staple"
LONG = "$argon2id$v=19$m=65536,t=16,p=1$c29tZXNhbHQ$" + "A" * 43
"""Takes about a second, and has no password."""


@pytest.fixture
def server(engines: Pair) -> Iterator[Homerealm]:
    with homerealm(engines=engines) as server:
        server.add_user("ada", PASSWORD)
        with server.serving("--workers", "1", "--no-worker"):
            assert started(server)
            yield server


def hashing(server: Homerealm) -> list[int]:
    return [pid for pid, line in below(server).items() if line.strip().endswith("broker hashing")]


def works_on_much(pid: int) -> bool:
    """Whether it has the memory of a long hash in its hands."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") > 48 * 1024 * 1024


@pytest.mark.crash
def test_a_hashing_process_that_is_killed_in_the_middle_lets_nobody_in_and_the_next_attempt_works(
    server: Homerealm,
) -> None:
    assert hashing(server) == []
    assert signs_in(server.origin, "acme", "ada", PASSWORD)
    (child,) = hashing(server)
    with server.tables() as connection:
        (before,) = connection.execute(text("SELECT hash FROM users")).scalars()
        connection.execute(text("UPDATE users SET hash = :hash"), {"hash": LONG})
    visitor = Visitor(server.origin)
    asked = visitor.send(visitor.get("/t/acme/login"), "/login", username="ada")
    with ThreadPoolExecutor(1) as callers:
        attempt = callers.submit(visitor.send, asked, "/login/password", password=PASSWORD)
        assert within_20_seconds(lambda: works_on_much(child))
        os.kill(child, signal.SIGKILL)
        answer = attempt.result()
    assert (answer.page, answer.status) == ("password", 503)
    assert within_20_seconds(lambda: bool(events(server, "hashing.ended")))  # another thread writes it
    assert [event["status"] for event in events(server, "hashing.ended")] == [-signal.SIGKILL]
    with server.tables() as connection:
        connection.execute(text("UPDATE users SET hash = :hash"), {"hash": before})
    assert visitor.send(answer, "/login/password", password=PASSWORD).page == "account"
    (another,) = hashing(server)
    assert another != child


@pytest.mark.crash
def test_a_killed_web_process_leaves_no_hashing_process(server: Homerealm) -> None:
    assert not signs_in(server.origin, "acme", "ada", "wrong")
    (child,) = hashing(server)
    web = one(server, "broker.wsgi")
    os.kill(web, signal.SIGKILL)
    assert gone({web: "", child: ""})
    assert answers_again(server.port)
    assert signs_in(server.origin, "acme", "ada", PASSWORD)


@pytest.mark.parametrize("workers", [1, 2, 3, 256])
def test_web_processes_share_the_cores_for_hashing(workers: int) -> None:
    environment: dict[str, str] = {}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert len(web_processes(listener, workers, environment)) == workers
    each, cores = int(environment[HASHING_LANES]), usable_cores()
    assert each * workers >= cores, "enough for every core"
    assert (each - 1) * workers < cores
