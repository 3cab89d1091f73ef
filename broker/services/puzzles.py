"""Proof of work by ALTCHA (https://altcha.org, version 1 of its scheme), without a third party (SECURITY 13).

A browser looks for a number by hashing, a second of a telephone at the most; checking it takes two hashes. Somebody
without a script waits instead. What is signed here says nothing about how often it was used: the store does.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta

from broker.core.attempts import Puzzle, Solution
from broker.core.ports import Clock, Entropy, Vault

MOST = 50_000
"""Numbers to try; half of them on average."""
VALID = timedelta(minutes=10)
PATIENCE = timedelta(seconds=60)
"""How long a page without a script is shown before it is accepted."""
_LONGEST = 1024


class AltchaPuzzles:
    """Implements `broker.core.attempts.Puzzles`. The library is imported when the first challenge is made or met."""

    def __init__(self, vault: Vault, clock: Clock, entropy: Entropy) -> None:
        self._vault = vault
        self._clock = clock
        self._entropy = entropy

    def make(self, *bound: str) -> Puzzle:
        from altcha import v1

        now, random = self._clock.now(), self._entropy.token(28)
        nonce, hidden = random[:16], random[16:]
        number = int(hashlib.sha256(hidden.encode()).hexdigest(), 16) % (MOST + 1)
        made = v1.create_challenge(
            v1.ChallengeOptions(
                max_number=MOST, hmac_key=self._key(bound), salt=nonce, number=number, expires=now + VALID
            )
        )
        shown = f"{int(now.timestamp())}.{nonce}"
        return Puzzle(made.salt, made.challenge, MOST, made.signature, f"{shown}.{self._mark(shown, bound)}")

    def met(self, answer: str, waited: str, *bound: str) -> Solution | None:
        if len(answer) > _LONGEST or len(waited) > _LONGEST:
            return None
        return self._solved(answer, bound) if answer else self._waited(waited, bound)

    def _solved(self, answer: str, bound: tuple[str, ...]) -> Solution | None:
        from altcha import v1

        try:
            payload = v1.Payload.from_base64(answer)
            _, expires, _ = payload.parse_salt()
            right, _ = v1.verify_solution(payload, self._key(bound), check_expires=False)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None  # the library trusts the shape of what browsers send
        if not right or expires is None or expires < self._clock.now().timestamp():
            return None
        return Solution(payload.signature)

    def _waited(self, waited: str, bound: tuple[str, ...]) -> Solution | None:
        shown, _, mark = waited.rpartition(".")
        if not self._vault.is_mac(mark, "puzzle-waited", shown, *bound):
            return None
        seconds = self._clock.now().timestamp() - int(shown.partition(".")[0])
        if not PATIENCE.total_seconds() <= seconds <= VALID.total_seconds():
            return None
        return Solution(mark, patient=True)

    def _key(self, bound: tuple[str, ...]) -> str:
        return self._vault.mac("puzzle", *bound)

    def _mark(self, shown: str, bound: tuple[str, ...]) -> str:
        return self._vault.mac("puzzle-waited", shown, *bound)
