"""Programs that end when the process that started them ends, however that ended.

Run as a script it ties itself to its parent and then becomes the program. The tie is Linux's PR_SET_PDEATHSIG. It is
made in the child and after its start, so nothing runs between fork and exec; and the parent is compared with the
recorded one, since 1 is an ordinary parent in a container. The signal is sent when the *thread* that forked ends:
start such programs from the main thread or from one that lives as long.

Elsewhere than on Linux there is no such tie, and a parent that is killed leaves its children behind.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if sys.platform == "linux":
    import ctypes

if TYPE_CHECKING:
    import threading

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


def tethered(command: Sequence[str]) -> list[str]:
    """The command that runs `command` for as long as this process lives, and then asks it to end (SIGTERM)."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def tie(parent: int, name: str = "") -> bool:
    """Ask for SIGTERM when `parent` ends; False when it has ended already. `name` is what `ps` and `top` show."""
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if name:
            prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)
    return os.getppid() == parent


def lost(parent: int) -> bool:
    """Whether that process, which started us, is gone or about to be.

    The tie is to its main thread. When it is killed, that thread may be dead and have sent its signal while others are
    still to be scheduled for the last time: until then it is our parent. `/proc/PID/stat` says so (proc(5)).
    """
    if os.getppid() != parent:
        return True
    try:
        with open(f"/proc/{parent}/stat", "rb") as file:  # noqa: PTH123 - pathlib is a lot of memory for one line
            return file.read().rpartition(b") ")[2][:1] in (b"Z", b"X")
    except OSError:  # elsewhere than on Linux: nothing more is known
        return False


def asked_to_end() -> threading.Event:
    """Set when this process gets SIGTERM or SIGINT. To be called in the main thread.

    A handler runs in the middle of the main thread, which may just be waiting for the event and hold its lock: setting
    it there would wait for ever. To put into a SimpleQueue is allowed at any moment, says its documentation.
    """
    import threading
    from queue import SimpleQueue

    told: SimpleQueue[int] = SimpleQueue()
    ended = threading.Event()

    def wait() -> None:
        told.get()
        ended.set()

    threading.Thread(target=wait, name="asked to end", daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: told.put(number))
    return ended


def main(arguments: Sequence[str]) -> None:
    """`tether.py PARENT COMMAND...`. Exits with 127 when the command cannot be run."""
    parent, command = int(arguments[0]), list(arguments[1:])
    if not tie(parent):
        raise SystemExit(0)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201 - a script
        raise SystemExit(127) from None


if __name__ == "__main__":
    main(sys.argv[1:])
