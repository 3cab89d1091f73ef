"""Randomness that can be repeated: the same seed gives the same sequence."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from itertools import count

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class SeededEntropy:
    """Implements `broker.core.ports.Entropy`. For tests: whoever knows the seed knows every secret.

    Safe over threads: two callers never get the same value (`next` on a `count` is one step).
    """

    def __init__(self, seed: str | int = 0) -> None:
        self._seed = str(seed).encode()
        self._counter = count()

    def token(self, bytes: int = 32) -> str:
        """`bytes` bytes in URL-safe base64 without padding."""
        return urlsafe_b64encode(self._next(bytes)).rstrip(b"=").decode("ascii")

    def reference(self) -> str:
        """50 bits in Crockford's base32: `7K3Q-XW92-4T`."""
        number = int.from_bytes(self._next(7))
        text = "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(0, 50, 5))
        return f"{text[:4]}-{text[4:8]}-{text[8:]}"

    def _next(self, size: int) -> bytes:
        stream = hashlib.shake_256(self._seed + b":" + str(next(self._counter)).encode())
        return stream.digest(size)
