"""The first process of a container buries orphans, passes signals on, and ends as its work ends."""

from __future__ import annotations

import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT

FIRST = """\
import ctypes, os, signal, sys, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans come here, as they come to process 1
from broker.processes.first_process import work_in_a_child
work_in_a_child(os.getpid())
def end(number, frame):
    print("ends", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, end)
if os.fork() == 0:  # a child that leaves orphans, which end together
    for _ in range(3):
        orphan = os.fork()
        if orphan == 0:
            sys.stdin.read()
            os._exit(0)
        print(orphan, flush=True)
    os._exit(0)
os.wait()
print("works", flush=True)
while True:
    time.sleep(1)
"""


@pytest.fixture
def first():
    process = subprocess.Popen(
        [sys.executable, "-c", FIRST], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.terminate()  # and not killed: its work would stay
    process.wait(20)
    process.stdin.close()
    process.stdout.close()


def test_orphans_are_buried(first: subprocess.Popen[str]) -> None:
    orphans = [int(first.stdout.readline()) for _ in range(3)]
    assert first.stdout.readline() == "works\n"
    first.stdin.close()
    for _ in range(1000):
        if not any(Path(f"/proc/{orphan}").exists() for orphan in orphans):  # a zombie would still be there
            break
        select.select([], [], [], 0.01)
    assert not any(Path(f"/proc/{orphan}").exists() for orphan in orphans)
    assert first.poll() is None


def test_a_signal_is_passed_on_and_the_exit_status_is_that_of_the_work(first: subprocess.Popen[str]) -> None:
    while first.stdout.readline() != "works\n":
        pass
    first.send_signal(signal.SIGTERM)
    assert first.stdout.readline() == "ends\n"
    assert first.wait(10) == 7


def test_another_process_works_itself() -> None:
    say = "import os; from broker.processes.first_process import work_in_a_child; p = os.getpid(); work_in_a_child(); "
    say += "print(p == os.getpid())"
    done = subprocess.run([sys.executable, "-c", say], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "True\n"
