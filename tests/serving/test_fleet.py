"""Several background workers on one store: one of them does what only one should, and another follows when it dies."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Homerealm, homerealm, program, running, said
from tests.serving.test_serve import within_20_seconds


@pytest.fixture
def server() -> Iterator[Homerealm]:
    with homerealm() as server, server.serving("--workers", "1", "--no-worker"):
        yield server


@contextlib.contextmanager
def worker(server: Homerealm, name: str) -> Iterator[tuple[Path, int]]:
    """A background worker of its own: its log, and its process."""
    log = server.folder / f"{name}.log"
    command = [program(), "worker", "--config", server.config]
    with running(
        command, lambda: bool(said(log, "config.watched")), log=log, cwd=server.folder, env=dict(os.environ)
    ) as process:
        yield log, process.pid


@pytest.mark.crash
def test_of_two_workers_one_has_the_turn_and_the_other_follows_when_it_is_killed(server: Homerealm) -> None:
    with worker(server, "first") as (first, pid):
        assert within_20_seconds(lambda: len(said(first, "turn.taken")) == 1)
        with worker(server, "second") as (second, _):
            assert not said(second, "turn.taken")
            os.kill(pid, signal.SIGKILL)
            assert within_20_seconds(lambda: len(said(second, "turn.taken")) == 1)
            assert said(first, "turn.lost") == []


def test_a_worker_that_ends_in_order_leaves_its_turn_at_once(server: Homerealm) -> None:
    with worker(server, "first") as (first, _):
        assert within_20_seconds(lambda: len(said(first, "turn.taken")) == 1)
    with worker(server, "second") as (second, _):
        assert within_20_seconds(lambda: len(said(second, "turn.taken")) == 1)
