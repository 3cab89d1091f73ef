"""Languages of pages: which one a request gets, where catalogues come from, how times are said."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from gettext import NullTranslations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import resources
from broker.testing.pages import CHROME
from broker.testing.pseudo import pseudo
from broker.web import texts
from broker.web.assets import Assets
from broker.web.pages import ConnectionButton, LoginPage
from broker.web.render import Renderer, linked
from broker.web.texts import Catalogs, choose, direction, duration, moment

THERE = ("en", "de", "pt-BR", "zh-Hans", "ar")
GERMAN = """
msgid ""
msgstr "Content-Type: text/plain; charset=utf-8\\nPlural-Forms: nplurals=2; plural=(n != 1);\\n"
msgid "Continue with %(name)s"
msgstr "Weiter mit %(name)s"
msgid "%(num)d minute"
msgid_plural "%(num)d minutes"
msgstr[0] "%(num)d Minute"
msgstr[1] "%(num)d Minuten"
"""


@pytest.mark.parametrize(
    ("asked", "language"),
    [
        ({}, "en"),
        ({"accept_language": "de"}, "de"),
        ({"accept_language": "fr, de;q=0.5, en;q=0.7"}, "en"),
        ({"accept_language": "de-AT"}, "de"),
        ({"accept_language": "pt"}, "pt-BR"),
        ({"accept_language": "de;q=0, ar;q=0.1"}, "ar"),
        ({"accept_language": "*, de;q=0.1"}, "de"),
        ({"accept_language": "de;q=abc, ;;,,"}, "en"),
        ({"tenant": ("ar", "en")}, "ar"),
        ({"cookie": "de", "accept_language": "ar"}, "de"),
        ({"ui_locales": "fr zh-Hans-CN", "cookie": "de"}, "zh-Hans"),
        ({"ui_locales": "fr", "cookie": "xx", "accept_language": "sv", "tenant": ("de",)}, "de"),
        ({"cookie": "../../etc/passwd"}, "en"),
    ],
)
def test_a_request_gets_the_language_it_asks_for_most(asked: dict[str, str], language: str) -> None:
    assert choose(THERE, **asked) == language  # type: ignore[arg-type]


@given(st.text(max_size=200), st.text(max_size=50), st.text(max_size=50))
def test_no_header_is_a_reason_to_fail(accept: str, cookie: str, locales: str) -> None:
    assert choose(THERE, accept_language=accept, cookie=cookie, ui_locales=locales) in THERE


def test_a_catalogue_needs_no_build_step(tmp_path: Path) -> None:
    (tmp_path / "de" / "LC_MESSAGES").mkdir(parents=True)
    (tmp_path / "de" / "LC_MESSAGES" / "homerealm.po").write_text(GERMAN)
    catalogs = Catalogs(tmp_path)
    assert catalogs.languages == ("en", "de")
    assert catalogs.of("de").gettext("Continue with %(name)s") == "Weiter mit %(name)s"
    assert catalogs.of("de") is catalogs.of("de")
    assert catalogs.of("fr").gettext("Sign in") == "Sign in"
    assert duration(timedelta(minutes=30), catalogs.of("de")) == "30 Minuten"


def test_pages_of_two_languages_are_drawn_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "de" / "LC_MESSAGES").mkdir(parents=True)
    (tmp_path / "de" / "LC_MESSAGES" / "homerealm.po").write_text(GERMAN)
    templates = resources.templates()
    renderer = Renderer(templates, Assets(templates / "static"), Catalogs(tmp_path).of)
    page = LoginPage(connections=(ConnectionButton("g", "G<o>ogle"),))
    for _ in range(2):
        assert "Weiter mit G&lt;o&gt;ogle" in renderer.render(page, replace(CHROME, language="de"))
        assert "Continue with G&lt;o&gt;ogle" in renderer.render(page, CHROME)
        assert '<html lang="ar" dir="rtl">' in renderer.render(page, replace(CHROME, language="ar"))


def test_right_to_left_is_known() -> None:
    assert [direction(one) for one in ("en", "ar", "he-IL", "de")] == ["ltr", "rtl", "rtl", "ltr"]


def test_a_moment_is_said_in_utc() -> None:
    at = datetime(2026, 11, 1, 1, 5, tzinfo=timezone(timedelta(hours=2)))
    assert moment(at) == "31 Oct 2026, 23:05 UTC"
    assert moment(at, "de") == "31.10.2026, 23:05:00 UTC"
    assert moment(datetime(2026, 11, 21, 14, 0, tzinfo=UTC), "en-XA").endswith("UTC")


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (0, "1 second"),
        (1, "1 second"), (40, "40 seconds"), (90, "2 minutes"), (1800, "30 minutes"), (5400, "2 hours"),
        (timedelta(hours=24), "24 hours"), (timedelta(days=7), "7 days"), (timedelta(minutes=30), "30 minutes"),
        (timedelta(milliseconds=1), "1 second"),
    ],
)  # fmt: skip
def test_a_duration_is_said_in_the_unit_that_people_use(span: timedelta | int, said: str) -> None:
    assert duration(span, NullTranslations()) == said


def test_the_pseudo_language_is_longer_and_keeps_placeholders_and_tags() -> None:
    text = "Wait %(time)s in <b>peace</b> &amp; try again"
    assert len(pseudo(text)) >= len(text) * 1.4
    assert "%(time)s" in pseudo(text)
    assert "<b>" in pseudo(text)
    assert pseudo("") == ""


def test_addresses_in_a_plain_text_become_links_and_nothing_else_does() -> None:
    text = 'Go: https://a.example/reset?t=x_-y&b=1. <b>https://b.example/"onclick=x</b> javascript:alert(1)'
    assert linked(text) == (
        'Go: <a href="https://a.example/reset?t=x_-y&amp;b=1">https://a.example/reset?t=x_-y&amp;b=1</a>. '
        '&lt;b&gt;<a href="https://b.example/">https://b.example/</a>&#34;onclick=x&lt;/b&gt; javascript:alert(1)'
    )


def test_the_source_language_is_always_there() -> None:
    assert texts.SOURCE in Catalogs(resources.templates() / "translations").languages
