"""Which Argon2id is the faster one on this machine: CPU milliseconds a verification, interleaved rounds, medians.

    python benchmarks/argon2_bindings.py [rounds]

Compare the two columns of one run only: machines are noisy.
"""

from __future__ import annotations

import resource
import statistics
import sys
from collections.abc import Callable

from argon2.low_level import Type, hash_secret_raw, verify_secret
from nacl.bindings import crypto_pwhash_alg, crypto_pwhash_ALG_ARGON2ID13, crypto_pwhash_str_verify
from nacl.pwhash import argon2id

MEMORY_KIB, TIME_COST, EACH = 19456, 2, 5


def measure(verify: Callable[[], object]) -> tuple[float, float]:
    """User and system milliseconds a call."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(EACH):
        verify()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return (after.ru_utime - before.ru_utime) / EACH * 1e3, (after.ru_stime - before.ru_stime) / EACH * 1e3


def main(rounds: int = 15) -> None:
    stored = argon2id.str(b"correct horse battery staple", opslimit=TIME_COST, memlimit=MEMORY_KIB * 1024)
    raw = b"correct horse battery staple"
    salt = b"0123456789abcdef"
    candidates: dict[str, Callable[[], object]] = {
        "pynacl verify": lambda: crypto_pwhash_str_verify(stored, raw),
        "pynacl raw": lambda: crypto_pwhash_alg(
            32, raw, salt, TIME_COST, MEMORY_KIB * 1024, crypto_pwhash_ALG_ARGON2ID13
        ),
        "argon2-cffi verify": lambda: verify_secret(stored, raw, Type.ID),
        "argon2-cffi raw": lambda: hash_secret_raw(raw, salt, TIME_COST, MEMORY_KIB, 1, 32, Type.ID),
    }
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, verify in candidates.items():
            figures[name].append(measure(verify))
    for name, found in figures.items():
        user, system = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{name:20} {user + system:6.1f} ms CPU ({user:.1f} user + {system:.1f} system)")
    print(f"medians of {rounds} rounds of {EACH}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
