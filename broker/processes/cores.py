"""How much of the machine is ours: CPU affinity, and what the control groups of a container allow.

A container with a quota of two CPUs sees every core of its node. Whoever starts a process or a thread for each of
them takes memory that the container does not have, and stands still for most of each period.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

HASH_MEMORY = 19456 * 1024
"""Bytes that one hash takes while it is made (broker/services/hashing)."""
_UNLIMITED = 1 << 62
"""What version 1 says when there is no limit is a little above this."""


def usable_cores(root: Path = Path("/")) -> int:
    """Of the machine below `root`. At least one; a part of a CPU is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas(root))]))


def lanes_for_hashing(processes: int, root: Path = Path("/")) -> int:
    """How many passwords each of so many processes hashes at a time. At least one.

    As many as there are cores, together: hashes that share a core evict each other's memory from its cache, a quarter
    more CPU for each of two. And together in half of the memory: a container without a CPU quota may have 64 cores.
    """
    lanes = math.ceil(usable_cores(root) / processes)
    fit = min(_memory_limits(root), default=_UNLIMITED) // 2 // HASH_MEMORY // processes
    return max(1, min(lanes, fit))


def _quotas(root: Path) -> Iterator[float]:
    """CPUs. docs.kernel.org: admin-guide/cgroup-v2 `cpu.max`, scheduler/sched-bwc for version 1."""
    found = [_numbers(group / "cpu.max") for group in _groups(root, "")]
    found += [
        _numbers(group / "cpu.cfs_quota_us") + _numbers(group / "cpu.cfs_period_us") for group in _groups(root, "cpu")
    ]
    for numbers in found:
        if len(numbers) == 2:
            yield numbers[0] / numbers[1]


def _memory_limits(root: Path) -> Iterator[int]:
    """Bytes."""
    for group in _groups(root, ""):
        yield from _numbers(group / "memory.max")
    for group in _groups(root, "memory"):
        yield from _numbers(group / "memory.limit_in_bytes")


def _numbers(file: Path) -> list[int]:
    """What stands in it, without `max`, and -1 of version 1, which mean that there is no limit."""
    try:
        return [int(word) for word in file.read_text().split() if word.isdecimal() and int(word)]
    except OSError:  # the root group has no limits
        return []


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Our control group and all above it: the tightest limit counts. `controller`: nothing for version 2."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / controller
        # A path that begins outside of what this container sees says nothing about what is mounted here.
        inside = mount.joinpath(*(part for part in path.split("/") if part)) if "/.." not in path else mount
        yield inside
        for above in inside.parents:
            if not above.is_relative_to(mount):
                return
            yield above
