"""A language that nobody speaks: every word accented and 40 % longer, so that untranslated and cramped texts show."""

from __future__ import annotations

import re
from gettext import NullTranslations

_ACCENTED = str.maketrans("AaCcEeGgIiKkLlNnOoRrSsTtUuWwYyZz", "ÅåÇçÉéĜĝÎîĶķĻļÑñÖöŔŕŠšŢţÛûŴŵÝýŽž")
_KEPT = re.compile(r"(%\(\w+\)[sd]|<[^>]*>|&\w+;)")


def pseudo(text: str) -> str:
    """The text in the pseudo-language; its placeholders and tags stay as they are."""
    if not text:
        return text
    accented = "".join(part if _KEPT.fullmatch(part) else part.translate(_ACCENTED) for part in _KEPT.split(text))
    words = "ömégâ " * (len(text) // 14 + 1)
    return f"⟦{accented} {words[: max(1, len(text) * 2 // 5)].strip()}⟧"


class Pseudo(NullTranslations):
    """A catalogue that answers everything."""

    def gettext(self, message: str) -> str:
        return pseudo(message)

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return pseudo(msgid1 if n == 1 else msgid2)
