"""Rules for new passwords: NIST SP 800-63B-4 3.1.1.2 (SECURITY 18)."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from broker.core.tenant import PasswordRules


class Weakness(StrEnum):
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    COMMON = "common"
    PERSONAL = "personal"
    UNCHANGED = "unchanged"
    NOT_TEXT = "not_text"


@dataclass(frozen=True, slots=True)
class Refusal:
    weakness: Weakness
    limit: int = 0
    """Code points, for the two lengths."""


def normalise(password: str) -> str:
    """NFC, and nothing else: never trimmed, never truncated, so that what is typed on another keyboard matches.

    Applied before hashing and before verifying.
    """
    return unicodedata.normalize("NFC", password)


def refusals(
    password: str,
    rules: PasswordRules,
    *,
    personal: Sequence[str] = (),
    has_factor: bool = False,
    is_common: Callable[[str], bool] = lambda _: False,
) -> list[Refusal]:
    """Why a new password is not accepted; empty when it is. `personal` are words about the person and the service."""
    password = normalise(password)
    found: list[Refusal] = []
    if any(unicodedata.category(c) in ("Cs", "Cc") for c in password):
        found.append(Refusal(Weakness.NOT_TEXT))
    shortest = rules.min_length_with_factor if has_factor else rules.min_length
    if len(password) < shortest:
        found.append(Refusal(Weakness.TOO_SHORT, shortest))
    if len(password) > rules.max_length:
        return [Refusal(Weakness.TOO_LONG, rules.max_length)]
    folded = password.casefold()
    for word in personal:
        for part in {word, word.partition("@")[0]}:
            if len(part) >= 4 and part.casefold() in folded and len(folded) - len(part) < 8:
                found.append(Refusal(Weakness.PERSONAL))
                break
        else:
            continue
        break
    if rules.blocklist and (is_common(folded) or _monotonous(folded)):
        found.append(Refusal(Weakness.COMMON))
    return found


def _monotonous(text: str) -> bool:
    """One short pattern again and again (`abcabcabcabcabc`), or a run (`abcdefghijklmno`, `123456789012345`)."""
    if not text:
        return False
    for size in range(1, 5):
        if len(text) > size * 2 and (text[:size] * (len(text) // size + 1))[: len(text)] == text:
            return True
    steps = {(ord(b) - ord(a)) % 10 if a.isdigit() and b.isdigit() else ord(b) - ord(a) for a, b in pairwise(text)}
    return len(text) > 3 and len(steps) == 1
