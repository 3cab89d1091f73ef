"""Processes end when they are asked to, at whatever moment."""

from __future__ import annotations

import subprocess
import sys

import pytest

ASKED_WHILE_IT_LOOKS = """
import os, signal, sys
from broker.processes.tether import asked_to_end
stop = asked_to_end()
with stop._cond:  # as whoever waits has it, for a moment
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
print(stop.wait(20))
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_in_the_moment_of_looking_for_it_is_no_deadlock(name: str) -> None:
    program = [sys.executable, "-c", ASKED_WHILE_IT_LOOKS, name]
    assert subprocess.run(program, capture_output=True, text=True, timeout=30).stdout == "True\n"
