"""What the first process of a container has to do besides its work: bury orphans.

A process whose parent died becomes a child of process 1; when it ends, it stays a zombie until process 1 asks for its
status. Our supervisor asks for that of its own children only. So as process 1 we work in a child, and the first process
passes signals on and buries whoever ends; containers need no `--init`.
"""

from __future__ import annotations

import os
import signal

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_AWAITED = (*_PASSED_ON, signal.SIGCHLD)


def work_in_a_child(first: int = 1) -> None:
    """As process 1 (`first`): returns in a child, and ends with its exit status. Otherwise returns at once.

    Call it before there are threads.
    """
    if os.getpid() != first:
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # inherited as ignored, it would never come
    # Kept until somebody asks for them. With handlers, one that comes right before a wait would be noticed after it.
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    child = os.fork()
    if child:
        os._exit(_bury_until(child))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED)


def _bury_until(child: int) -> int:
    """The exit status of the child, as a shell says it, once it ended."""
    while True:
        number = signal.sigwait(_AWAITED)
        if number != signal.SIGCHLD:
            os.kill(child, number)
            continue
        pid = -1
        while pid:  # one signal may stand for many
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
