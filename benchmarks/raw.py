"""What no provider can be faster than: the hash and the signatures alone, on one core.

    raw.py [--core 0] [--seconds 1]          one JSON object: operations a second and CPU milliseconds of each

Run it with the interpreter of the environment that is measured: it uses the libraries that are installed there.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable

SECRET = b"correct horse battery staple"
MEMORY_KIB, PASSES = 19 * 1024, 2


def rate(work: Callable[[], object], core: int, seconds: float) -> tuple[float, float]:
    """One at a time on one core: how many a second, and the CPU milliseconds of each."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        work()
        count, before, wall = 0, os.times(), time.perf_counter()
        while time.perf_counter() - wall < seconds:
            work()
            count += 1
        after, spent = os.times(), time.perf_counter() - wall
    finally:
        os.sched_setaffinity(0, allowed)
    return count / spent, (after.user + after.system - before.user - before.system) * 1000 / count


def argon2id_rate(core: int, seconds: float = 1.5) -> tuple[float, float]:
    """Verifications by libsodium (19 MiB, t=2, p=1)."""
    from nacl.pwhash import argon2id

    stored = argon2id.str(SECRET, opslimit=PASSES, memlimit=MEMORY_KIB * 1024)
    return rate(lambda: argon2id.verify(stored, SECRET), core, seconds)


def reference_rate(core: int, seconds: float = 1.5) -> tuple[float, float]:
    """The same by argon2-cffi, as it is installed here."""
    from argon2 import PasswordHasher

    hasher = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=1)
    stored = hasher.hash(SECRET)
    return rate(lambda: hasher.verify(stored, SECRET), core, seconds)


def signing_rate(algorithm: str, core: int, seconds: float = 1.0) -> tuple[float, float]:
    """An access token through PyJWT, the key parsed once."""
    import jwt
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    key = ec.generate_private_key(ec.SECP256R1()) if algorithm == "ES256" else rsa.generate_private_key(65537, 2048)
    claims = {"iss": "http://localhost/t/acme", "sub": "x" * 22, "aud": "bench", "exp": 1, "iat": 1, "jti": "y" * 22}
    return rate(lambda: jwt.encode(claims, key, algorithm, {"kid": "k", "typ": "at+jwt"}), core, seconds)


def everything(core: int, seconds: float) -> dict[str, tuple[float, float]]:
    """By name, all that this environment has."""
    found = {"argon2id, PyNaCl": argon2id_rate(core, seconds)}
    if importlib.util.find_spec("argon2"):
        found["argon2id, argon2-cffi"] = reference_rate(core, seconds)
    return found | {f"sign {name}": signing_rate(name, core, seconds) for name in ("ES256", "RS256")}


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    json.dump(everything(options.core, options.seconds), sys.stdout)


if __name__ == "__main__":
    main()
