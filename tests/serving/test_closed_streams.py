"""A service that is started with its standard streams closed, as some supervisors do."""

from __future__ import annotations

import subprocess
import sys

LISTEN = """
import os, sys
for number in (0, 1, 2):
    os.close(number)
from broker.wsgi import listen
os._exit(listen("127.0.0.1", 0).fileno())
"""


def test_the_listening_socket_is_never_one_that_a_child_replaces() -> None:
    """`OSError: Socket operation on non-socket`: the socket was descriptor 0, where a child opens /dev/null."""
    done = subprocess.run([sys.executable, "-c", LISTEN], timeout=60)
    assert done.returncode >= 3
