"""What SIGHUP to `homerealm serve` tells every process of it: read the configuration now.

A file without a name, in memory, that all of them inherit. It grows by a byte with every ring, which takes no memory;
they look at its size. Without it (a filter of system calls, no space) SIGHUP changes nothing, and a change of the files
is still found by the look that every process takes at them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

from broker.processes.environment import RELOAD_BELL
from broker.processes.handed_down import descriptor_of, hand_down


def hang(environment: dict[str, str]) -> None:
    """Make it, and name it in the environment of those who inherit it."""
    with suppress(OSError):
        hand_down(environment, RELOAD_BELL, _file())


def _file() -> int:
    if hasattr(os, "memfd_create"):
        with suppress(OSError):  # forbidden here
            return os.memfd_create("homerealm-reload")
    from tempfile import TemporaryFile

    with TemporaryFile() as file:  # without a name, too
        return os.dup(file.fileno())


def ring(environment: Mapping[str, str]) -> bool:
    """To be called by whoever made it, at any time: nothing that goes wrong with it ends a supervisor."""
    descriptor = descriptor_of(RELOAD_BELL, environment)
    if descriptor is not None:
        with suppress(OSError):
            os.ftruncate(descriptor, os.fstat(descriptor).st_size + 1)
    return True


def rung() -> int:
    """How often it has rung."""
    descriptor = descriptor_of(RELOAD_BELL)
    return os.fstat(descriptor).st_size if descriptor is not None else 0
