"""Whether anything that a configuration is made of has changed: a look at every file's stat, and at none's content.

Looks, and does not wait for the kernel to tell: notices do not come from NFS or from some bind mounts, and folders that
are replaced by moving a symbolic link (Kubernetes) lose them. See docs/decisions/reload.md for what a look costs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

Fingerprint = Mapping[str, tuple[int, int, int]]
_NOTHING = (0, 0, 0)


def fingerprint(folders: Iterable[Path], files: Iterable[str]) -> Fingerprint:
    """Inode, size and time of every file in the folders, and of the files beside them; symbolic links are followed."""
    seen: dict[str, tuple[int, int, int]] = {}
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    # An editor's drafts come and go; a name that begins with a dot is no configuration.
                    if not entry.name.startswith("."):
                        seen[entry.path] = _stat(entry.path)
        except OSError:
            seen[str(folder)] = _NOTHING
    for file in files:
        seen[file] = _stat(file)
    return seen


def _stat(path: str) -> tuple[int, int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path for each of a thousand files would double the cost
    except OSError:
        return _NOTHING
    return found.st_ino, found.st_size, found.st_mtime_ns
