"""The servers that tests start end with the tests, however those end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.postgresql import PREFIX, Postgres, sweep
from tests.servers import short_folder

OWNER = """
import sys
from tests.postgresql import shared
server = shared()
print(server.pid, server.socket.parent, flush=True)
sys.stdin.read()
"""


@pytest.mark.crash
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_postgresql_ends_with_the_tests_also_when_they_are_killed(number: signal.Signals) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    assert owner.stdin is not None
    assert owner.stdout is not None
    pid, folder = owner.stdout.readline().split()
    owner.send_signal(number)
    owner.wait()
    owner.stdin.close()
    owner.stdout.close()
    ended = subprocess.run(["tail", f"--pid={pid}", "-f", "/dev/null"], timeout=20)
    assert ended.returncode == 0
    with short_folder() as alive:
        mine = alive.rename(alive.parent / f"{PREFIX}{os.getpid()}-of-a-test")
        sweep()
        assert mine.is_dir()
        mine.rmdir()
    assert not Path(folder).exists()


def test_what_postgresql_answered_survives_that_it_is_killed() -> None:
    server = Postgres()
    try:
        server.start()
        server.execute("CREATE TABLE kept (number integer)")
        server.stop(kill=True)
        server.start()
        server.execute("INSERT INTO kept VALUES (1)")
    finally:
        server.remove()
