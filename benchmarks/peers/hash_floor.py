#!/usr/bin/env python3
"""The floor for password logins: argon2id verifications (19 MiB, t=2, p=1) on one core, by the libraries that Python offers.

libsodium through PyNaCl is the reference figure; argon2-cffi (the reference C code) and cryptography (OpenSSL) stand beside it.
"""

import os
import subprocess

from peer import parser, python_with

PACKAGES = ("PyNaCl==1.6.2", "argon2-cffi==25.1.0", "cryptography==50.0.2")
LOOP = """
import json, sys, time
import argon2, cryptography, nacl
from argon2 import PasswordHasher
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from nacl.pwhash import argon2id

secret, salt, seconds = b"correct horse battery staple", bytes(16), float(sys.argv[1])
sodium = argon2id.str(secret, opslimit=2, memlimit=19 * 1024 * 1024)
hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
encoded = hasher.hash(secret)
openssl = lambda: Argon2id(salt=salt, length=32, iterations=2, lanes=1, memory_cost=19 * 1024)
key = openssl().derive(secret)
for hashed in (sodium.decode(), encoded):
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$"), hashed
candidates = {"PyNaCl": lambda: argon2id.verify(sodium, secret), "argon2-cffi": lambda: hasher.verify(encoded, secret), "cryptography": lambda: openssl().verify(secret, key)}
rates = {name: [] for name in candidates}
for _ in range(5):
    for name, verify in candidates.items():
        count, wall, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - wall < seconds:
            verify()
            count += 1
        rates[name].append((count / (time.perf_counter() - wall), (time.process_time() - cpu) * 1000 / count))
print(json.dumps({name: {"verify_per_s_per_core": round(sorted(found)[2][0], 1), "cpu_ms_per_verify": round(sorted(found)[2][1], 3)} for name, found in rates.items()}))
"""


def main() -> None:
    """Install the libraries, run the loops on one core in turn, print the medians of five rounds."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--seconds", type=float, default=1.0, help="of each of five rounds")
    options = options.parse_args()
    python = python_with(options.dir / "hash-floor", *PACKAGES)
    os.sched_setaffinity(0, {options.core})
    print(
        subprocess.run(
            [python, "-c", LOOP, str(options.seconds)], check=True, text=True, stdout=subprocess.PIPE
        ).stdout,
        end="",
    )


if __name__ == "__main__":
    main()
