"""From a page's facts to its HTML.

An environment of our own, so that inside somebody's Flask app their `layout.html` is never taken for ours. One a
language, compiled with its words when it is first asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from gettext import NullTranslations
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from broker.web import texts
from broker.web.assets import Assets
from broker.web.drawn import Pieces, UsualPage, cut
from broker.web.pages import Chrome, Page
from broker.web.wording import WordedEnvironment

_ADDRESS = re.compile(r"(https?://[^\s<>\"']*[\w/=&-])")


class Renderer:
    """Draws pages. Threads may share it; what several of them draw from the same files is compiled once."""

    def __init__(
        self,
        templates: Path,
        assets: Assets,
        translations: Callable[[str], NullTranslations] | None = None,
    ) -> None:
        self._templates = templates
        self._assets = assets
        self.catalogs = texts.catalogs(templates / "translations")
        self._translations = translations or self.catalogs.of
        self._script = assets.url("hosted.js")
        self._icon = assets.url("icon.svg")

    def pieces(self, page: UsualPage, chrome: Chrome) -> Pieces:
        """The whole document, without what is a visit's own."""
        return cut(self.render, page, chrome)

    def duration(self, language: str, seconds: int) -> str:
        """How long to wait, in words."""
        return texts.duration(seconds, self._translations(language))

    def render(self, page: Page, chrome: Chrome) -> str:
        """The whole document."""
        environment = _environment(self._templates, self._translations, chrome.language)
        return environment.get_template(page.template).render(
            p=page,
            c=chrome,
            q=f"?tx={chrome.tx}" if chrome.tx else "",
            sheet_url=self._assets.sheet_url(chrome.color, chrome.color_dark),
            script_url=self._script,
            icon_url=chrome.logo or self._icon,
        )


@lru_cache(maxsize=100)
def _environment(templates: Path, translations_of: Callable[[str], NullTranslations], language: str) -> Environment:
    """The same for all Renderers with these files and words: compiling takes longest."""
    translations = translations_of(language)
    environment = WordedEnvironment(
        translations,
        loader=FileSystemLoader(templates),
        auto_reload=False,
        cache_size=-1,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["dir"] = texts.direction(language)
    environment.filters.update(_filters(language, translations))
    return environment


def _filters(language: str, translations: NullTranslations) -> dict[str, Callable[..., str]]:
    def moment(value: datetime) -> Markup:
        return Markup('<time datetime="{}">{}</time>').format(
            value.isoformat(timespec="seconds"), texts.moment(value, language)
        )

    def duration(value: timedelta | int | str) -> str:
        return value if isinstance(value, str) else texts.duration(value, translations)

    return {"moment": moment, "duration": duration, "bdi": bdi, "linked": linked}


def bdi(text: str) -> Markup:
    """A name or an address within a sentence, isolated from its direction (Unicode Bidirectional Algorithm)."""
    return Markup("<bdi>") + escape(text) + Markup("</bdi>")


def linked(text: str) -> Markup:
    """A plain text with its addresses as links, everything else escaped."""
    return Markup("").join(
        Markup('<a href="{0}">{0}</a>').format(part) if _ADDRESS.fullmatch(part) else escape(part)
        for part in _ADDRESS.split(text)
    )
