"""Commonly used passwords, offline: a sorted file of hash prefixes (NIST SP 800-63B-4 3.1.1.2).

Prefixes of six bytes: a password that is not listed is refused by accident once in 2**48 / 100,000 times.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable
from pathlib import Path

WIDTH = 6
LIST = Path(__file__).with_name("data") / "common-passwords.bin"


def prefix(password: str) -> bytes:
    """What is stored and looked for: case and composition do not matter."""
    folded = unicodedata.normalize("NFC", password).casefold()
    return hashlib.sha256(folded.encode("utf-8", "surrogatepass")).digest()[:WIDTH]


def pack(words: Iterable[str]) -> bytes:
    """The content of a list's file."""
    return b"".join(sorted({prefix(word) for word in words}))


class OfflineBlocklist:
    """Implements `broker.core.ports.Blocklist`. About 600 kB, read once."""

    def __init__(self, path: Path = LIST) -> None:
        """Raises `OSError`, and `ValueError` for a file that is not such a list."""
        self._prefixes = path.read_bytes()
        if not self._prefixes or len(self._prefixes) % WIDTH:
            raise ValueError(f"{path}: not a list of {WIDTH}-byte prefixes")

    def __len__(self) -> int:
        return len(self._prefixes) // WIDTH

    def __call__(self, password: str) -> bool:
        """Whether it is listed, whatever its case; or a listed one typed twice."""
        half, odd = divmod(len(password), 2)
        twice = not odd and half > 0 and password[:half] == password[half:]
        return self._holds(password) or (twice and self._holds(password[:half]))

    def _holds(self, password: str) -> bool:
        wanted = prefix(password)
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            found = self._prefixes[middle * WIDTH : (middle + 1) * WIDTH]
            if found == wanted:
                return True
            if found < wanted:
                low = middle + 1
            else:
                high = middle
        return False
