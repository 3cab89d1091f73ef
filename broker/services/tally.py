"""Numbers of one process, in a file that is mapped into memory: an increment costs a microsecond, and the internal
listener (broker/serving/lookout) reads the files of all processes without asking any of them.

A file is `<role>-<pid>.tally`. Its owner holds a lock on it as long as it lives; what nobody holds is of a dead
process, and its counters move to `archive.json`, so that no sum ever goes down (docs/decisions/metrics.md).

All of a file is on the disk before it is mapped: touching what a full disk has no room for would kill us (SIGBUS).
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
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from broker.core.metrics import METRICS, OTHER, SECONDS, SERIES

Key = tuple[str, ...]
"""The metric, then its labels; parts of a histogram have one label more: an edge, `+Inf` or `sum`."""
FIRST_BYTES = 65_536
_HEAD = struct.Struct("<Q")
_LENGTH = struct.Struct("<I")
_VALUE = struct.Struct("<d")
SUFFIX = ".tally"
ARCHIVE = "archive.json"
_AT_ONCE = 100
"""How many dead processes one look archives: their files stay open until then."""
_EDGES = (*(repr(edge) for edge in SECONDS), "+Inf")


class Tally:
    """Implements `broker.core.watching.Meter`."""

    def __init__(self, folder: Path, role: str) -> None:
        """Raises `OSError`."""
        self._folder, self._role = folder, role
        self._lock = threading.Lock()
        self._said = False
        self._file: BinaryIO | None = None
        self._open()
        os.register_at_fork(after_in_child=self._forked)

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._take()
        try:
            os.posix_fallocate(file.fileno(), 0, FIRST_BYTES)
            self._begin(mmap.mmap(file.fileno(), FIRST_BYTES))
        except OSError:
            with suppress(OSError):
                Path(file.name).unlink()
            file.close()
            raise
        self._file = file

    def _take(self) -> BinaryIO:
        """A file of our own, empty and locked. The one with our number may be that of a process in another container
        on the same volume, or of a dead one whose counters are not archived yet: then another name."""
        path = self._folder / f"{self._role}-{os.getpid()}{SUFFIX}"
        while True:
            file = path.open("a+b")
            try:
                if _ours(file):
                    return file
            except OSError:
                file.close()
                raise
            file.close()
            # From the operating system: with a seed two processes would have the same.
            path = self._folder / f"{self._role}-{os.getpid()}.{os.urandom(6).hex()}{SUFFIX}"

    def _begin(self, memory: mmap.mmap) -> None:
        self._map = memory
        self._used = _HEAD.size
        _HEAD.pack_into(self._map, 0, self._used)
        self._slots: dict[Key, list[float]] = {}
        self._many: dict[str, int] = {}

    def _forked(self) -> None:
        """A child has numbers of its own. The parent's lock is on the parent's open file, which we let go of."""
        self._lock = threading.Lock()
        try:
            self._open()
        except OSError:  # never those of the parent: memory that nobody reads
            self._file = None
            self._begin(mmap.mmap(-1, FIRST_BYTES))

    def count(self, metric: str, *labels: str, amount: float = 1.0) -> None:
        with self._lock:
            kept = self._add((metric, *labels), amount)
        if not kept:
            self._say_lost()

    def observe(self, metric: str, value: float, *labels: str) -> None:
        edge = _EDGES[bisect_left(SECONDS, value)]
        with self._lock:
            kept = self._add((metric, *labels, edge), 1.0) and self._add((metric, *labels, "sum"), value)
        if not kept:
            self._say_lost()

    def level(self, metric: str, value: float, *labels: str) -> None:
        with self._lock:
            kept = self._add((metric, *labels), value, instead=True)
        if not kept:
            self._say_lost()

    def _add(self, key: Key, amount: float, *, instead: bool = False) -> bool:
        """False when there is no room for it."""
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slot(key)
            if slot is None:
                return False
        slot[1] = amount if instead else slot[1] + amount
        _VALUE.pack_into(self._map, int(slot[0]), slot[1])
        return True

    def _say_lost(self) -> None:
        """Once. Not while the lock is held: the log counts what it loses."""
        if not self._said:
            self._said = True
            from broker.services import event_log

            event_log.logger("homerealm.metrics").error("metrics.lost", why=f"{self._folder}: no space for more series")

    def _slot(self, key: Key) -> list[float] | None:
        """A new series: its place in the file, and its value. None when the disk has no room for it."""
        many = self._many.get(key[0], 0)
        if many >= SERIES:
            kept = len(METRICS[key[0]].labels)
            key = (key[0], *(OTHER for _ in range(kept)), *key[1 + kept :])
            if key in self._slots:
                return self._slots[key]
        raw = json.dumps(key).encode()
        size = _LENGTH.size + len(raw) + _VALUE.size
        if self._used + size > len(self._map):
            try:
                if self._file is None:
                    return None
                os.posix_fallocate(self._file.fileno(), len(self._map), len(self._map))
                self._map.resize(2 * len(self._map))
            except OSError:
                return None
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
    """The sum over all processes, and the living ones by role. Dead ones are taken into the archive.

    Their files stay, locked, until that is on the disk: a full one loses no number, and nobody takes them meanwhile.
    """
    sums: dict[Key, float] = {}
    living: dict[str, list[int]] = {}
    dead: list[Path] = []
    with _locked(folder), ExitStack() as held:
        archived = _archived(folder)
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            role, _, pid = path.stem.rpartition("-")
            with suppress(OSError), ExitStack() as here:
                file = here.enter_context(path.open("r+b"))
                gone = _dead(file.fileno())  # before it is read: then it says nothing more
                found = list(entries(file.read()))
                if not gone:
                    _merge(sums, found)
                    pid = pid.partition(".")[0]
                    living.setdefault(role, []).append(int(pid) if pid.isdigit() else 0)
                elif len(dead) < _AT_ONCE:
                    _merge(archived, ((key, value) for key, value in found if _kept(key)))
                    dead.append(path)
                    held.push(here.pop_all())
                else:
                    _merge(sums, ((key, value) for key, value in found if _kept(key)))
        _merge(sums, archived.items())
        if dead and _archive(folder, archived):
            for path in dead:
                path.unlink(missing_ok=True)
    return sums, living


def _dead(descriptor: int) -> bool:
    """Whether nobody holds the file any more. Unlike the number of a process, a lock is never given to another one."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _ours(file: BinaryIO) -> bool:
    """Whether it is: locked from now on, empty, and not taken away by a reader who had found it unlocked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    found = os.fstat(file.fileno())
    return found.st_size == 0 and found.st_nlink > 0


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
def _locked(folder: Path) -> Iterator[None]:
    """One reader at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _archived(folder: Path) -> dict[Key, float]:
    """The counters of dead processes."""
    try:
        stored: Mapping[str, float] = json.loads((folder / ARCHIVE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        stored = {}
    return {tuple(json.loads(key)): value for key, value in stored.items()}


def _archive(folder: Path, archived: Mapping[Key, float]) -> bool:
    """Whether they could be written down."""
    path = folder / ARCHIVE
    draft = path.with_suffix(".new")
    try:
        draft.write_text(json.dumps({json.dumps(key): value for key, value in archived.items()}), encoding="utf-8")
        draft.replace(path)
    except OSError:
        return False
    return True
