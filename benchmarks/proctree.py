"""CPU time and memory of process trees, from /proc."""

from __future__ import annotations

import os
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> tuple[str, int, float]:
    """Name, parent, and CPU seconds (own and of children already reaped) of a process."""
    text = Path(f"/proc/{pid}/stat").read_text()
    name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
    return name, int(rest[1]), sum(map(int, rest[11:15])) / TICK


def tree(roots: list[int]) -> list[int]:
    """The roots that are alive and all their descendants."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents[int(entry)] = _stat(int(entry))[1]
            except (OSError, ValueError):
                continue
    found = [pid for pid in dict.fromkeys(roots) if pid in parents]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid and child not in found]
    return found


def bind(roots: list[int], cores: set[int]) -> None:
    """Bind every thread of the trees to these cores; threads and children made later inherit it."""
    for pid in tree(roots):
        for task in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(task), cores)


def spread(roots: list[int], name: str, cores: list[int]) -> None:
    """Give each process of that name, with its children, one of the cores; the rest may use all of these.

    Raises `RuntimeError` when there are not as many processes as cores.
    """
    each = [pid for pid in tree(roots) if _stat(pid)[0].startswith(name)]
    if len(each) != len(cores):
        raise RuntimeError(f"{len(each)} processes {name} for {len(cores)} cores")
    bind(roots, set(cores))
    for pid, core in zip(each, cores, strict=True):
        bind([pid], {core})


def quiet(roots: list[int], within: float = 60.0) -> None:
    """Wait until the trees hardly work: what they put off is done then, and in nobody else's way."""
    until, before = time.monotonic() + within, cpu(roots)
    while time.monotonic() < until:
        time.sleep(0.5)
        after = cpu(roots)
        if sum(after.values()) - sum(before.values()) < 0.05:
            return
        before = after


def cpu(roots: list[int]) -> dict[int, float]:
    """CPU seconds used so far, by process."""
    used = {}
    for pid in tree(roots):
        try:
            used[pid] = _stat(pid)[2]
        except OSError:
            continue
    return used


def memory(pid: int) -> tuple[float, float]:
    """Proportional and resident set size of a process in MB (2**20 bytes)."""
    sizes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        key, value, *_ = line.split()
        sizes[key] = int(value) / 1024
    return sizes["Pss:"], sizes["Rss:"]


def report(roots: list[int], before: dict[int, float], after: dict[int, float], wall: float, ops: int) -> dict:
    """What the trees used between two `cpu` samples: per operation, as a share of one core, and by process, with memory as of now."""
    processes = []
    for pid, seconds in after.items():
        try:
            name, (pss, rss) = _stat(pid)[0], memory(pid)
        except OSError:
            continue
        spent = seconds - before.get(pid, 0.0)
        processes.append(
            {
                "pid": pid,
                "name": name,
                "cpu_ms_per_op": round(spent * 1000 / ops, 4) if ops else None,
                "pss_mb": round(pss, 1),
                "rss_mb": round(rss, 1),
            }
        )
    total = sum(after.values()) - sum(before.values())  # the time of a child that was reaped is in its parent's
    return {
        "cpu_ms_per_op": round(total * 1000 / ops, 4) if ops else None,
        "busy": round(total / wall, 3),
        "pss_mb": round(sum(p["pss_mb"] for p in processes), 1),
        "rss_mb": round(sum(p["rss_mb"] for p in processes), 1),
        "processes": processes,
    }
