"""The last good configuration, handed down from one process of an installation to those that start after it.

A process that dies while the configuration files are wrong is replaced by one that cannot read them. It begins with
what the others have: every process that has read good files leaves the outcome in a file without a name, in memory,
that all of them inherit. It goes with the last of them, so `homerealm serve` itself still refuses wrong files.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broker.processes.environment import LAST_GOOD
from broker.processes.handed_down import descriptor_of, hand_down

_DIGEST = hashlib.sha256().digest_size


def make(environment: dict[str, str]) -> None:
    """The file, and its name in the environment of those who inherit it. There is none elsewhere than on Linux."""
    if not hasattr(os, "memfd_create"):
        return
    try:
        found = os.memfd_create("homerealm-last-good")
    except OSError:  # forbidden here: processes start as if there had been none
        return
    hand_down(environment, LAST_GOOD, found)


def keep(version: str, configuration: object) -> None:
    """Leave it for those who start later; nothing to do when another process did. What cannot be written is not kept:
    settings of somebody's connection that nobody can pickle, a program that was removed from the disk.
    """
    with _held(fcntl.LOCK_EX) as descriptor:
        if descriptor is None or _version(descriptor) == version.encode():
            return
        try:
            content = pickle.dumps((_release(configuration), configuration))
        except Exception:  # whatever the classes of others raise
            os.ftruncate(descriptor, 0)
            return
        head = f"{version} {len(content)}\n".encode()
        os.ftruncate(descriptor, 0)  # whoever dies in the middle leaves nothing, or what has another digest
        whole = head + content + hashlib.sha256(head + content).digest()
        done = 0
        while done < len(whole):
            done += os.pwrite(descriptor, whole[done:], done)


def kept() -> object | None:
    """What was kept last; None when that is nothing, or was made by another release than ours."""
    with _held(fcntl.LOCK_SH) as descriptor:
        if descriptor is None:
            return None
        # At a place of our own: those who inherit it share one position.
        whole = b"".join(_parts(descriptor))
    content, digest = whole[:-_DIGEST], whole[-_DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        return None
    try:
        release, configuration = pickle.loads(content.partition(b"\n")[2])  # noqa: S301 - nobody but us has this file
        return configuration if release == _release(configuration) else None
    except Exception:  # of another release: its classes are not ours
        return None


def _parts(descriptor: int) -> Iterator[bytes]:
    place = 0
    while part := os.pread(descriptor, 1 << 20, place):
        yield part
        place += len(part)


def _version(descriptor: int) -> bytes:
    return os.pread(descriptor, 200, 0).partition(b" ")[0]


def _release(configuration: object) -> tuple[str, int]:
    """Differs when the program was replaced on disk meanwhile."""
    file = sys.modules[type(configuration).__module__].__file__ or ""
    return file, Path(file).stat().st_mtime_ns


@contextmanager
def _held(how: int) -> Iterator[int | None]:
    """The file, locked. POSIX's locks are each process's own, also on a descriptor that all of them share."""
    descriptor = descriptor_of(LAST_GOOD)
    if descriptor is None:
        yield None
        return
    fcntl.lockf(descriptor, how)
    try:
        yield descriptor
    finally:
        fcntl.lockf(descriptor, fcntl.LOCK_UN)
