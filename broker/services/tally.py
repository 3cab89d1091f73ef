"""Numbers of one process, in a file that is mapped into memory: an increment costs a microsecond, and the internal
listener (broker/serving/lookout) reads the files of all processes without asking any of them.

A file is `<role>-<pid>.tally`. Its owner holds a lock on it as long as it lives; what nobody holds is of a dead
process, and its counters move to `archive.json`, so that no sum ever goes down (docs/decisions/metrics.md).
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import struct
import threading
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from broker.core.metrics import METRICS, OTHER, SECONDS, SERIES

Key = tuple[str, ...]
"""The metric, then its labels; parts of a histogram have one label more: an edge, `+Inf` or `sum`."""
FIRST_BYTES = 65_536
_HEAD = struct.Struct("<Q")
_LENGTH = struct.Struct("<I")
_VALUE = struct.Struct("<d")
SUFFIX = ".tally"
ARCHIVE = "archive.json"
_EDGES = (*(repr(edge) for edge in SECONDS), "+Inf")


class Tally:
    """Implements `broker.core.watching.Meter`."""

    def __init__(self, folder: Path, role: str) -> None:
        """Raises `OSError`."""
        self._folder, self._role = folder, role
        self._lock = threading.Lock()
        self._open()
        os.register_at_fork(after_in_child=self._forked)

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = (self._folder / f"{self._role}-{os.getpid()}{SUFFIX}").open("w+b")
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._file.truncate(FIRST_BYTES)
        self._map = mmap.mmap(self._file.fileno(), FIRST_BYTES)
        self._used = _HEAD.size
        _HEAD.pack_into(self._map, 0, self._used)
        self._slots: dict[Key, list[float]] = {}
        self._many: dict[str, int] = {}

    def _forked(self) -> None:
        """A child has numbers of its own. The parent's lock is on the parent's open file, which we let go of."""
        self._lock = threading.Lock()
        with suppress(OSError):
            self._open()

    def count(self, metric: str, *labels: str, amount: float = 1.0) -> None:
        with self._lock:
            self._add((metric, *labels), amount)

    def observe(self, metric: str, value: float, *labels: str) -> None:
        edge = _EDGES[bisect_left(SECONDS, value)]
        with self._lock:
            self._add((metric, *labels, edge), 1.0)
            self._add((metric, *labels, "sum"), value)

    def level(self, metric: str, value: float, *labels: str) -> None:
        with self._lock:
            self._add((metric, *labels), value, instead=True)

    def _add(self, key: Key, amount: float, *, instead: bool = False) -> None:
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slot(key)
        slot[1] = amount if instead else slot[1] + amount
        _VALUE.pack_into(self._map, int(slot[0]), slot[1])

    def _slot(self, key: Key) -> list[float]:
        """A new series: its place in the file, and its value."""
        many = self._many.get(key[0], 0)
        if many >= SERIES:
            kept = len(METRICS[key[0]].labels)
            key = (key[0], *(OTHER for _ in range(kept)), *key[1 + kept :])
            if key in self._slots:
                return self._slots[key]
        raw = json.dumps(key).encode()
        size = _LENGTH.size + len(raw) + _VALUE.size
        if self._used + size > len(self._map):
            self._file.truncate(2 * len(self._map))
            self._map.resize(2 * len(self._map))
        _LENGTH.pack_into(self._map, self._used, len(raw))
        self._map[self._used + _LENGTH.size : self._used + _LENGTH.size + len(raw)] = raw
        place = self._used + _LENGTH.size + len(raw)
        _VALUE.pack_into(self._map, place, 0.0)
        self._used += size
        # Last: a reader sees whole entries only.
        _HEAD.pack_into(self._map, 0, self._used)
        slot = self._slots[key] = [place, 0.0]
        self._many[key[0]] = many + 1
        return slot


def entries(content: bytes) -> Iterator[tuple[Key, float]]:
    """What a file holds. Stops at the first entry that is not whole."""
    used = min(_HEAD.unpack_from(content)[0], len(content)) if len(content) >= _HEAD.size else 0
    place = _HEAD.size
    while place + _LENGTH.size + _VALUE.size <= used:
        (length,) = _LENGTH.unpack_from(content, place)
        end = place + _LENGTH.size + length
        if end + _VALUE.size > used:
            return
        try:
            key = tuple(json.loads(content[place + _LENGTH.size : end]))
        except ValueError:
            return
        yield key, _VALUE.unpack_from(content, end)[0]
        place = end + _VALUE.size


def total(folder: Path) -> tuple[dict[Key, float], dict[str, list[int]]]:
    """The sum over all processes, and the living ones by role. Dead ones are taken into the archive."""
    sums: dict[Key, float] = {}
    living: dict[str, list[int]] = {}
    with _archive(folder) as archived:
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            role, _, pid = path.stem.rpartition("-")
            try:
                with path.open("r+b") as file:
                    found = list(entries(file.read()))
                    if _dead(file.fileno()):
                        _merge(archived, ((key, value) for key, value in found if _kept(key)))
                        path.unlink(missing_ok=True)
                        continue
            except OSError:
                continue
            _merge(sums, found)
            living.setdefault(role, []).append(int(pid) if pid.isdigit() else 0)
        _merge(sums, archived.items())
    return sums, living


def _dead(descriptor: int) -> bool:
    """Whether nobody holds the file any more. Unlike the number of a process, a lock is never given to another one."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _kept(key: Key) -> bool:
    metric = METRICS.get(key[0])
    return metric is not None and metric.kind != "gauge"


def _merge(into: dict[Key, float], found: object) -> None:
    for key, value in found:  # type: ignore[attr-defined]
        metric = METRICS.get(key[0])
        if metric is not None:
            old = into.get(key)
            greatest = metric.kind == "gauge" and metric.over == "max"
            into[key] = value if old is None else max(old, value) if greatest else old + value


@contextmanager
def _archive(folder: Path) -> Iterator[dict[Key, float]]:
    """The counters of dead processes; written back when something was added. One reader at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ARCHIVE
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            stored: Mapping[str, float] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            stored = {}
        archived = {tuple(json.loads(key)): value for key, value in stored.items()}
        before = dict(archived)
        yield archived
        if archived != before:
            draft = path.with_suffix(".new")
            draft.write_text(json.dumps({json.dumps(key): value for key, value in archived.items()}), encoding="utf-8")
            draft.replace(path)
