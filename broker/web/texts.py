"""Languages: which there are, which one a request gets, and how times and durations are said in it.

English stands in the templates and needs no catalogue. Others lie in templates/translations/<language>/
LC_MESSAGES/homerealm.po and are compiled in memory at start: there is no build step, and nothing that can be stale.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from gettext import GNUTranslations, NullTranslations
from pathlib import Path

DOMAIN = "homerealm"
SOURCE = "en"
"""The language of the templates themselves."""
_RIGHT_TO_LEFT = frozenset({"ar", "fa", "he", "ur"})
_RANGE = re.compile(
    r"\s*([A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*|\*)\s*(?:;\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*)?"
)


class Catalogs:
    """The translations below a folder; a language is read when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._files = {SOURCE: None} | {
            path.parent.parent.name.replace("_", "-"): path
            for path in sorted(folder.glob(f"*/LC_MESSAGES/{DOMAIN}.po"))
        }
        self._loaded: dict[str, NullTranslations] = {SOURCE: NullTranslations()}

    @property
    def languages(self) -> tuple[str, ...]:
        """Those there are, as BCP 47 tags."""
        return tuple(self._files)

    def of(self, language: str) -> NullTranslations:
        """The catalogue of a language; English for one that there is not."""
        if (known := self._loaded.get(language)) is not None:
            return known
        path = self._files.get(language)
        translations = NullTranslations() if path is None else _compile(path)
        if path is not None:
            self._loaded[language] = translations
        return translations


@lru_cache(maxsize=8)
def catalogs(folder: Path) -> Catalogs:
    """The same for everybody who asks for a folder: what is compiled with their words can be shared as well."""
    return Catalogs(folder)


def _compile(path: Path) -> GNUTranslations:
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    with path.open("rb") as file:
        catalog = read_po(file, domain=DOMAIN)
    compiled = io.BytesIO()
    write_mo(compiled, catalog)
    compiled.seek(0)
    return GNUTranslations(compiled)


def direction(language: str) -> str:
    """`rtl` or `ltr`, for the `dir` of a page."""
    return "rtl" if language.partition("-")[0] in _RIGHT_TO_LEFT else "ltr"


def choose(
    available: Sequence[str],
    *,
    ui_locales: str = "",
    cookie: str = "",
    accept_language: str = "",
    tenant: Sequence[str] = (),
) -> str:
    """The language of a page: `ui_locales` > cookie > `Accept-Language` > tenant > English, among those available.

    Unknown tags and broken headers are passed over; a page always has a language (OIDC Core 3.1.2.1, RFC 4647 3.4).
    """
    by_tag = {tag.lower(): tag for tag in available}
    for wanted in (ui_locales.split()[:20], [cookie] if cookie else [], _weighted(accept_language), tenant):
        for tag in wanted:
            if (found := _lookup(tag, by_tag)) is not None:
                return found
    return SOURCE


def _lookup(tag: str, by_tag: dict[str, str]) -> str | None:
    """RFC 4647, 3.4: the tag, then the same with its last parts cut off; last, another variant of the language."""
    parts = tag.lower().replace("_", "-").split("-")
    for length in range(len(parts), 0, -1):
        if (found := by_tag.get("-".join(parts[:length]))) is not None:
            return found
    return next((known for key, known in by_tag.items() if key.partition("-")[0] == parts[0]), None)


def _weighted(header: str) -> Iterable[str]:
    found: list[tuple[float, str]] = []
    for part in header[:1000].split(",")[:30]:
        match = _RANGE.fullmatch(part)
        if match is not None and match[1] != "*" and (weight := float(match[2] or 1)) > 0:
            found.append((weight, match[1]))
    found.sort(key=lambda pair: -pair[0])
    return [tag for _, tag in found]


# --- times -------------------------------------------------------------------------------------------------------

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def moment(value: datetime, language: str = SOURCE) -> str:
    """`21 Nov 2026, 14:00 UTC`. Always UTC: the server does not know where the reader is."""
    value = value.astimezone(UTC)
    if language == SOURCE:
        return f"{value.day} {_MONTHS[value.month - 1]} {value.year}, {value:%H:%M} UTC"
    from babel.dates import format_datetime

    return str(format_datetime(value, "medium", locale=_locale(language))) + " UTC"


def duration(value: timedelta | int, translations: NullTranslations) -> str:
    """`30 minutes`: of a whole number of days, hours, minutes or seconds (`int`: seconds), rounded up."""
    seconds = max(1, value if isinstance(value, int) else int(value.total_seconds()))
    ngettext = translations.ngettext
    if seconds < 90:
        return ngettext("%(num)d second", "%(num)d seconds", seconds) % {"num": seconds}
    minutes = -(-seconds // 60)
    if minutes < 90:
        return ngettext("%(num)d minute", "%(num)d minutes", minutes) % {"num": minutes}
    hours = -(-minutes // 60)
    if hours <= 48:
        return ngettext("%(num)d hour", "%(num)d hours", hours) % {"num": hours}
    days = -(-hours // 24)
    return ngettext("%(num)d day", "%(num)d days", days) % {"num": days}


@lru_cache(maxsize=64)
def _locale(language: str) -> str:
    from babel.core import Locale, UnknownLocaleError

    try:
        return str(Locale.parse(language, sep="-"))
    except (ValueError, UnknownLocaleError):
        return SOURCE
