"""A child that is a fork of us: it starts with all that we have imported, and shares the memory of it.

Fork before there are threads: a lock that another thread holds at that moment stays locked in the child for ever.
"""

from __future__ import annotations

import atexit
import math
import os
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable

from broker.processes import tether

BETWEEN_LOOKS = 0.1


class Forked:
    """Looked after like a `subprocess.Popen`. Linux."""

    def __init__(self, name: str, begin: Callable[[], None]) -> None:
        """`begin` runs in the child, in a session of its own, without our signal handlers and tied to us. It ends with
        exit status 0 when `begin` returns, with that of `SystemExit`, and with 1 after any other exception."""
        self.returncode: int | None = None
        self._lock = threading.Lock()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # or both of us would write what is left in it
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(_run(name, begin, parent))

    def poll(self) -> int | None:
        with self._lock:
            return self._ended()

    def _ended(self) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self.returncode = 0
            else:
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises `subprocess.TimeoutExpired`."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            try:
                descriptor = os.pidfd_open(self.pid)
            except ProcessLookupError:
                continue
            except OSError:  # no descriptor is left just now; whoever did not wait would never know that it ended
                time.sleep(BETWEEN_LOOKS)
            else:
                try:
                    select.select(
                        [descriptor], [], [], None if timeout is None else max(0, deadline - time.monotonic())
                    )
                finally:
                    os.close(descriptor)
            if time.monotonic() >= deadline and self.poll() is None:
                raise subprocess.TimeoutExpired("a fork", timeout or 0)
        return self.returncode or 0

    def send_signal(self, number: int) -> None:
        with self._lock:  # nobody asks for its status meanwhile: until then the number is its own
            if self._ended() is None:
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def _run(name: str, begin: Callable[[], None], parent: int) -> int:
    """In the child: its exit status."""
    status = 1
    atexit._clear()  # what our parent wants to do at its end is not ours to do
    try:
        os.setsid()  # the terminal's Ctrl-C is for the parent
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        nowhere = os.open(os.devnull, os.O_RDONLY)
        if nowhere:  # it is 0 already where the operator closed that
            os.dup2(nowhere, 0)
            os.close(nowhere)
        if tether.tie(parent, name):
            begin()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    atexit._run_exitfuncs()  # the last events are still on their way to the log
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            continue
    return status
