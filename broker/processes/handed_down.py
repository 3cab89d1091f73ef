"""Files without a name that processes of one installation inherit: nobody can remove or find them, and they go with the
last process that has them.

A descriptor and its inode stand in an environment variable: a process that got the variable and not the descriptor may
have another file at that number.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping

from broker.processes.environment import LAST_GOOD, RELOAD_BELL


def hand_down(environment: dict[str, str], variable: str, file: int) -> None:
    """Name this file in the environment of those who inherit it. The descriptor given is closed."""
    try:
        # Not below 3: each child makes those its own.
        descriptor = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(file)
    environment[variable] = f"{descriptor}:{os.fstat(descriptor).st_ino}"


def inherited(environment: Mapping[str, str]) -> list[int]:
    """The descriptors that a process with this environment has to be given."""
    found = [environment.get(variable, "").partition(":")[0] for variable in (LAST_GOOD, RELOAD_BELL)]
    return [int(number) for number in found if number]


def descriptor_of(variable: str, environment: Mapping[str, str] = os.environ) -> int | None:
    """Of the file that this process inherited, or made; None when there is none."""
    number, _, inode = environment.get(variable, "").partition(":")
    try:
        descriptor = int(number)
        return descriptor if os.fstat(descriptor).st_ino == int(inode) else None
    except (ValueError, OSError):  # nobody's, or of a process that did not hand it down
        return None
