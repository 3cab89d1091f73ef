"""Argon2id by the libraries that have it (RFC 9106). Imports little: the hashing process has nothing else in it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import time
from typing import Protocol


class Engine(Protocol):
    """One implementation of Argon2id. Releases the GIL while it works."""

    name: str

    def hash(self, raw: bytes, memory_kib: int, time_cost: int) -> str: ...

    def verify(self, stored: str, raw: bytes) -> bool: ...


class Sodium:
    """libsodium through PyNaCl: the fastest of the stock wheels on the machines that we measured."""

    name = "pynacl"

    def __init__(self) -> None:
        self._library = importlib.import_module("nacl.bindings.crypto_pwhash")
        self._wrong: type[Exception] = importlib.import_module("nacl.exceptions").InvalidkeyError

    def hash(self, raw: bytes, memory_kib: int, time_cost: int) -> str:
        library = self._library
        made: bytes = library.crypto_pwhash_str_alg(
            raw, time_cost, memory_kib * 1024, library.crypto_pwhash_ALG_ARGON2ID13
        )
        return made.rstrip(b"\x00").decode("ascii")

    def verify(self, stored: str, raw: bytes) -> bool:
        try:
            return bool(self._library.crypto_pwhash_str_verify(stored.encode("ascii"), raw))
        except self._wrong:
            return False


class Reference:
    """The reference implementation through argon2-cffi: the fastest of all where it was built for the CPU."""

    name = "argon2-cffi"

    def __init__(self) -> None:
        self._library = importlib.import_module("argon2.low_level")
        self._error: type[Exception] = importlib.import_module("argon2.exceptions").Argon2Error

    def hash(self, raw: bytes, memory_kib: int, time_cost: int) -> str:
        made: bytes = self._library.hash_secret(
            raw,
            os.urandom(16),
            time_cost=time_cost,
            memory_cost=memory_kib,
            parallelism=1,
            hash_len=32,
            type=self._library.Type.ID,
        )
        return made.decode("ascii")

    def verify(self, stored: str, raw: bytes) -> bool:
        try:
            return bool(self._library.verify_secret(stored.encode("ascii"), raw, self._library.Type.ID))
        except self._error:
            return False


def engines() -> list[Engine]:
    """Those that are installed; the required one first."""
    return [Sodium(), Reference()] if importlib.util.find_spec("argon2") else [Sodium()]


def by_name(name: str) -> Engine:
    return Reference() if name == Reference.name else Sodium()


def dummy(memory_kib: int, time_cost: int) -> str:
    """A hash of nothing that costs what a real one does."""
    return f"$argon2id$v=19$m={memory_kib},t={time_cost},p=1${'A' * 22}${'A' * 43}"


def cost(engine: Engine, memory_kib: int, time_cost: int, rounds: int = 3) -> float:
    """Seconds of CPU that one verification takes here and now: the best of a few."""
    target = dummy(memory_kib, time_cost)
    found = []
    for _ in range(rounds):
        before = time.thread_time()
        engine.verify(target, b"measured")
        found.append(time.thread_time() - before)
    return min(found)
