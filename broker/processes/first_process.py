"""What the first process of a container has to do besides its work: bury orphans.

A process whose parent died becomes a child of process 1; when it ends, it stays a zombie until process 1 asks for its
status. Our supervisor asks for that of its own children only. So as process 1 we work in a child, and the first process
passes signals on and buries whoever ends; containers need no `--init`.
"""

from __future__ import annotations

import os
import signal

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def work_in_a_child(first: int = 1) -> None:
    """As process 1 (`first`): returns in a child, and ends with its exit status. Otherwise returns at once.

    Call it before there are threads.
    """
    if os.getpid() != first:
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)  # one that comes before the handlers is kept for them
    child = os.fork()
    if child:
        os._exit(_bury_until(child))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)


def _bury_until(child: int) -> int:
    """The exit status of the child, as a shell says it, once it ended."""
    for number in _PASSED_ON:
        signal.signal(number, lambda number, _: os.kill(child, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
