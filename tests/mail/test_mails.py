"""Every mail, rendered: what it says, what it never says, and what nobody can make it say."""

from __future__ import annotations

import dataclasses
import email
import email.policy
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from gettext import NullTranslations
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.errors import InvalidIdentifier
from broker.core.mail import MailKind
from broker.core.tenant import Branding, MailRules, Tenant
from broker.core.values import DirectoryId, TenantId
from broker.services.mail_facts import FACTS
from broker.services.mail_render import MailRenderer

TEMPLATES = Path(__file__).parents[2] / "templates"
RENDERER = MailRenderer(TEMPLATES)
NOW = datetime(2026, 11, 21, 14, 0, tzinfo=UTC)
ACME = Tenant(
    id=TenantId("acme"),
    name="Acme",
    issuer="https://login.acme.example",
    directory=DirectoryId("acme/live"),
    environment="live",
    mail=MailRules("Acme accounts <no-reply@acme.example>", "console:"),
    branding=Branding(support_url="https://acme.example/help", support_email="help@acme.example", color="#ffdd00"),
)
TEST_ACME = dataclasses.replace(ACME, id=TenantId("test-acme"), environment="test")
URL = re.compile(r"https?://[^\s<>\"]+")
EVERY = pytest.mark.parametrize("kind", list(MailKind))


def compose(
    kind: MailKind, tenant: Tenant = ACME, to: str = "ada@acme.example", language: str = "en", **changed: str
) -> EmailMessage:
    facts = {"kind": kind.value, "to": to, "language": language, **FACTS[kind].sample(), **changed}
    return RENDERER.compose(kind, tenant, to, language, facts, message_id="job-1", at=NOW)


def parsed(message: EmailMessage) -> EmailMessage:
    """What arrives: through bytes and back."""
    arrived = email.message_from_bytes(message.as_bytes(), policy=email.policy.default)
    assert isinstance(arrived, EmailMessage)
    return arrived


def text(message: EmailMessage) -> str:
    body = parsed(message).get_body(("plain",))
    assert body is not None
    return str(body.get_content()).replace("\r\n", "\n")


def html(message: EmailMessage) -> str:
    body = parsed(message).get_body(("html",))
    assert body is not None
    return str(body.get_content())


class Reader(HTMLParser):
    """What a person sees of a page, and where its links lead."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self._hidden = False
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self._hidden = tag in ("style", "title")
        if tag == "a":
            self.links.append(dict(attrs)["href"] or "")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def test_there_is_a_folder_and_a_class_for_every_kind_and_no_other() -> None:
    folders = {path.name for path in (TEMPLATES / "mail").iterdir() if path.is_dir()}
    assert folders == {kind.value for kind in MailKind} == {kind.value for kind in FACTS}


def test_the_mail_of_the_seed_document() -> None:
    """PAGES.md: greeting, who asked, when, with what, once, until when, "Not you?", help, reference."""
    message = compose(MailKind.RESET)
    assert message["Subject"] == "Reset your Acme password"
    assert text(message) == (
        "Hello ada,\n\n"
        "someone asked to reset the password of your Acme account (username: ada).\n\n"
        "Choose a new password here. The link works once, until 14:30 UTC (30 minutes):\n\n"
        f"{FACTS[MailKind.RESET].sample()['link']}\n\n"
        "Asked on 21 Nov 2026, 14:00 UTC with Firefox on Windows.\n\n"
        "Not you? Ignore this email, your password stays the same.\n"
        "We never ask for this link or your password.\n\n"
        "Help: https://acme.example/help, help@acme.example\n"
        "Reference: 7K3Q-XW92-4T\n"
    )


@EVERY
def test_headers_that_programs_rely_on(kind: MailKind) -> None:
    message = parsed(compose(kind))
    assert message["X-Homerealm-Mail"] == kind.value
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"] == "<job-1@acme.example>"
    assert message["From"] == "Acme accounts <no-reply@acme.example>"
    assert message["To"] == "ada@acme.example"
    assert message["Reply-To"] == "help@acme.example"
    assert message["Date"].datetime == NOW
    assert message["Cc"] is None
    assert message["Bcc"] is None
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]


@EVERY
def test_the_same_job_gives_the_same_mail_byte_for_byte(kind: MailKind) -> None:
    assert compose(kind).as_bytes() == compose(kind).as_bytes()


@EVERY
def test_both_parts_greet_say_when_and_carry_the_reference(kind: MailKind) -> None:
    message = compose(kind)
    for part in (text(message), Reader(html(message)).text):
        assert "Hello ada," in part
        assert "7K3Q-XW92-4T" in part
        assert "help@acme.example" in part
        if kind is not MailKind.INVITATION:
            assert "21 Nov 2026, 14:00 UTC with Firefox on Windows" in part


@EVERY
def test_there_is_exactly_one_link_to_act_on(kind: MailKind) -> None:
    sample = FACTS[kind].sample()
    action = next(sample[name] for name in ("link", "login_url", "forgot_url") if name in sample)
    message = compose(kind)
    assert URL.findall(text(message)) == [action, "https://acme.example/help,"]
    assert Reader(html(message)).links == [action, "https://acme.example/help"]
    assert html(message).count('class="action"') == 1


@EVERY
def test_a_link_stands_alone_on_its_line_and_is_never_broken(kind: MailKind) -> None:
    sample = FACTS[kind].sample()
    action = next(name for name in ("link", "login_url", "forgot_url") if name in sample)
    long = f"https://login.acme.example/reset?ticket={'x' * 300}"
    assert long in text(compose(kind, **{action: long})).splitlines()


@pytest.mark.parametrize(
    "kind", [kind for kind in MailKind if "expires_at" in {field.name for field in dataclasses.fields(FACTS[kind])}]
)
def test_a_link_that_ends_says_when_in_both_parts(kind: MailKind) -> None:
    message = compose(kind)
    for part in (" ".join(text(message).split()), Reader(html(message)).text):
        assert "The link works once, until 14:30 UTC (30 minutes)" in part
    tomorrow = compose(kind, expires_at=(NOW + timedelta(days=1)).isoformat())
    assert "until 22 Nov 2026, 14:00 UTC (1 day)" in " ".join(text(tomorrow).split())
    assert "(2 hours)" in " ".join(text(compose(kind, expires_at=(NOW + timedelta(hours=2)).isoformat())).split())
    assert "(90 minutes)" in " ".join(text(compose(kind, expires_at=(NOW + timedelta(minutes=90)).isoformat())).split())


@EVERY
def test_subjects_are_short_and_without_anything_that_a_user_chose(kind: MailKind) -> None:
    usual = compose(kind)["Subject"]
    assert len(usual) <= 50
    assert "Acme" in usual
    changed = dict.fromkeys(("name", "username", "agent", "reference", "provider"), "canary")
    assert compose(kind, **changed)["Subject"] == usual
    long = dataclasses.replace(ACME, name="A company with quite an unusually long name")
    assert 10 < len(compose(kind, long)["Subject"]) <= 50
    longest = dataclasses.replace(TEST_ACME, environment="an-environment-with-quite-an-unusually-long-name")
    assert len(compose(kind, longest)["Subject"]) <= 50


@EVERY
def test_an_environment_that_is_not_the_real_one_is_named(kind: MailKind) -> None:
    message = compose(kind, TEST_ACME)
    assert message["Subject"].startswith("[test] ")
    for part in (" ".join(text(message).split()), Reader(html(message)).text):
        assert "from the test environment of Acme" in part
    assert "environment" not in text(compose(kind))
    assert "environment" not in Reader(html(compose(kind))).text


@EVERY
def test_html_is_small_and_fetches_nothing(kind: MailKind) -> None:
    source = html(compose(kind, TEST_ACME))
    assert len(source.encode()) <= 10_000
    seen = Reader(source)
    assert seen.tags.isdisjoint({"img", "script", "link", "iframe", "object", "form", "video", "base"})
    assert seen.attributes.isdisjoint({"src", "background", "onclick", "onload", "srcset"})
    assert "url(" not in source
    assert "@import" not in source
    assert '<html lang="en" dir="ltr">' in source


@EVERY
def test_lines_are_short_enough_for_every_server_and_reader(kind: MailKind) -> None:
    message = compose(kind, dataclasses.replace(ACME, name="Käse & Söhne " * 5))
    assert all(len(line) <= 998 for line in message.as_bytes().split(b"\r\n"))
    assert all(len(line) <= 78 for line in text(message).splitlines() if "://" not in line)
    assert message.as_bytes().isascii()


def test_the_action_is_readable_on_the_colour_of_the_brand() -> None:
    assert "background: #ffdd00; color: #000000" in html(compose(MailKind.RESET))
    dark = dataclasses.replace(ACME, branding=Branding(color="#0b5fff"))
    assert "background: #0b5fff; color: #ffffff" in html(compose(MailKind.RESET, dark))


@pytest.mark.parametrize("color", ["red", "#fff", "#ffdd00; background: url(https://evil.example)", ""])
def test_what_is_no_colour_is_not_put_into_a_style(color: str) -> None:
    branded = dataclasses.replace(ACME, branding=Branding(color=color))
    assert "background: #0b5fff" in html(compose(MailKind.RESET, branded))


def test_without_support_there_is_no_help_line() -> None:
    message = compose(MailKind.RESET, dataclasses.replace(ACME, branding=Branding()))
    assert "Help" not in text(message)
    assert "Help" not in Reader(html(message)).text
    assert message["Reply-To"] is None


def test_without_a_name_or_an_agent_the_sentences_still_stand() -> None:
    message = compose(MailKind.RESET, name="", username="", agent="", reference="")
    assert text(message).startswith("Hello,\n\nsomeone asked to reset the password of your Acme account.\n")
    assert "Asked on 21 Nov 2026, 14:00 UTC.\n" in text(message)
    assert "Reference" not in text(message)


HOSTILE = [
    "<script>alert(1)</script>",
    '"><a href=https://evil.example>',
    "{{ 7*7 }}{% raw %}",
    "ada\r\nBcc: eve@evil.example",
    "ada\u202egnp.exe",
    "ada\x00\x1b[31m",
    "%(tenant)s %s %n",
    "a" * 5000,
    "ad\u2028a\n\n.\n",
]


@EVERY
@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_texts_are_shown_and_nothing_else(kind: MailKind, hostile: str) -> None:
    changed = dict.fromkeys(("name", "username", "agent", "reference", "provider"), hostile)
    message = parsed(compose(kind, **changed))
    assert message["Bcc"] is None
    assert message["Subject"] == compose(kind)["Subject"]
    body, page = text(message), html(message)
    assert "49" not in body.replace("4949", "")
    assert not re.search(r"[\u202a-\u202e\u2066-\u2069\u2028\x00-\x08\x0b-\x1f]", body + page)
    seen = Reader(page)
    assert len(seen.links) == 2
    assert seen.tags.isdisjoint({"script", "img"})
    assert "a" * 300 not in body + page


@EVERY
def test_a_name_never_becomes_a_link(kind: MailKind) -> None:
    message = compose(kind, name="You won! https://evil.example/prize", username="http://evil.example")
    assert "evil" not in text(message) + html(message)


@pytest.mark.parametrize("kind", [MailKind.VERIFY_EMAIL, MailKind.INVITATION, MailKind.NO_ACCOUNT])
@pytest.mark.parametrize("name", ["evil.example", "www.evil", "visit evil.io now", "mail eve@evil", "a/b"])
def test_a_stranger_whose_address_somebody_typed_reads_no_name_that_looks_like_a_link(
    kind: MailKind, name: str
) -> None:
    message = compose(kind, name=name, username=name)
    assert name not in text(message)
    assert name not in html(message)
    assert text(message).startswith("Hello,")


def test_who_has_proven_an_address_may_be_called_by_a_dotted_name() -> None:
    assert text(compose(MailKind.RESET, name="ada.lovelace")).startswith("Hello ada.lovelace,")
    assert text(compose(MailKind.VERIFY_EMAIL, name="ada@acme.example")).startswith("Hello ada@acme.example,")


def test_a_tenants_own_texts_are_escaped_as_well() -> None:
    odd = dataclasses.replace(
        ACME,
        name="<b>Bold</b>\r\nBcc: x@y.example",
        branding=Branding(support_url="https://x.example/?a=1&b='\"><script>", support_email="a<b@x.example"),
    )
    with pytest.raises(ValueError, match="linefeed"):
        compose(MailKind.RESET, dataclasses.replace(odd, branding=Branding(support_email="a@x.example\r\nBcc: b@x")))
    message = parsed(compose(MailKind.RESET, dataclasses.replace(odd, branding=Branding(support_url="https://x/?<b>"))))
    assert message["Bcc"] is None
    assert "b" not in Reader(html(message)).tags


@pytest.mark.parametrize(
    "link",
    [
        "",
        "javascript:alert(1)",
        "ftp://login.acme.example/",
        "//login.acme.example/",
        "https://",
        "https://login.acme.example/a b",
        "https://login.acme.example/\r\nX: y",
        'https://login.acme.example/"onclick="x',
        "https://lögin.acme.example/",
    ],
)
def test_a_link_that_is_none_is_an_error(link: str) -> None:
    with pytest.raises(ValueError, match="link is not an address"):
        compose(MailKind.RESET, link=link)


@EVERY
def test_a_missing_fact_is_an_error_and_not_a_half_empty_mail(kind: MailKind) -> None:
    sample = FACTS[kind].sample()
    needed = [name for name in sample if name in ("at", "expires_at", "link", "login_url", "forgot_url")]
    assert len(needed) >= 2
    for name in needed:
        less = {key: value for key, value in sample.items() if key != name}
        with pytest.raises(ValueError, match=name):
            RENDERER.compose(kind, ACME, "ada@acme.example", "en", less, message_id="1", at=NOW)


@pytest.mark.parametrize("moment", ["yesterday", "2026-11-21T14:00:00", "", "\ud800"])
def test_a_time_that_is_none_is_an_error(moment: str) -> None:
    with pytest.raises(ValueError, match="at "):
        compose(MailKind.RESET, at=moment)


@pytest.mark.parametrize(
    "to",
    [
        "",
        "ada",
        "ada@acme.example, eve@evil.example",
        "ada@acme.example\r\nBcc: eve@evil.example",
        "Ada <ada@acme.example>",
        "ada@acme.example;eve@evil.example",
        "ada@@acme.example",
        "ada @acme.example",
        "\ud800@acme.example",
    ],
)
def test_what_is_not_one_address_gets_no_mail(to: str) -> None:
    with pytest.raises((ValueError, InvalidIdentifier)):
        compose(MailKind.RESET, to=to)


@pytest.mark.parametrize(
    ("stored", "sent"),
    [
        ("Ada.Lovelace+x@Acme.Example", "Ada.Lovelace+x@Acme.Example"),
        ("o'hara!#$%&*/=?^`{|}~@acme.example", "o'hara!#$%&*/=?^`{|}~@acme.example"),
        ("ada@käse.example", "ada@xn--kse-qla.example"),
    ],
)
def test_the_recipient_is_the_stored_address(stored: str, sent: str) -> None:
    addresses = parsed(compose(MailKind.RESET, to=stored))["To"].addresses
    assert [address.addr_spec for address in addresses] == [sent]


def test_a_mailbox_beyond_ascii_is_written_as_it_is() -> None:
    """RFC 6532: such a message is sent to servers that announce SMTPUTF8."""
    message = compose(MailKind.RESET, to="jürgen@acme.example")
    assert "To: jürgen@acme.example".encode() in message.as_bytes()


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(list(MailKind)),
    st.dictionaries(st.sampled_from(["name", "username", "agent", "reference", "provider", "language"]), st.text()),
)
def test_no_text_breaks_a_mail(kind: MailKind, changed: Mapping[str, Any]) -> None:
    language = changed.get("language", "en")
    facts = {**FACTS[kind].sample(), **changed}
    message = RENDERER.compose(kind, ACME, "ada@acme.example", language, facts, message_id="job-1", at=NOW)
    arrived = parsed(message)
    assert arrived["To"] == "ada@acme.example"
    assert not arrived.defects
    assert len(Reader(html(message)).links) == 2


class Shouting(NullTranslations):
    """A catalogue that has everything: what stays as it was is not marked for translation."""

    def gettext(self, message: str) -> str:
        return re.sub(r"%\(\w+\)s|[^%]+?(?=%\(|$)", lambda m: m[0] if m[0].startswith("%(") else m[0].upper(), message)


@EVERY
def test_every_text_is_marked_for_translation(kind: MailKind) -> None:
    renderer = MailRenderer(TEMPLATES, lambda language: Shouting())
    facts = {name: value for name, value in FACTS[kind].sample().items() if name not in ("name", "agent", "username")}
    message = renderer.compose(kind, TEST_ACME, "ada@acme.example", "en", facts, message_id="1", at=NOW)
    ours = re.compile(r"https?://\S+|help@acme\.example|acme\.example|Acme|\btest\b|Google|21 Nov 2026|30\s+minutes")
    for part in (message["Subject"], text(message), Reader(html(message)).text):
        assert not re.search(r"[a-z]", ours.sub("", part)), part


def test_a_language_without_a_catalogue_is_english_and_says_so() -> None:
    for language in ("tlh", "de", "../../etc", "", "x" * 500):
        message = compose(MailKind.RESET, language=language)
        assert message["Content-Language"] == "en"
        assert '<html lang="en" dir="ltr">' in html(message)


def test_a_catalogue_gives_its_words_its_dates_and_its_direction() -> None:
    from babel.messages.catalog import Catalog
    from babel.messages.mofile import write_mo

    def translations(language: str) -> NullTranslations:
        import io
        from gettext import GNUTranslations

        catalog = Catalog(locale=language.replace("-", "_"))
        catalog.add("Hello %(name)s,", "مرحبا %(name)s،")
        compiled = io.BytesIO()
        write_mo(compiled, catalog)
        compiled.seek(0)
        return GNUTranslations(compiled)

    renderer = MailRenderer(TEMPLATES, translations)
    facts = FACTS[MailKind.RESET].sample()
    message = renderer.compose(MailKind.RESET, ACME, "ada@acme.example", "ar", facts, message_id="1", at=NOW)
    assert text(message).startswith("مرحبا ada،")
    assert '<html lang="ar" dir="rtl">' in html(message)
    assert message["Content-Language"] == "ar"
    german = renderer.compose(MailKind.RESET, ACME, "ada@acme.example", "de", facts, message_id="1", at=NOW)
    assert "21.11.2026, 14:00 UTC" in text(german)
    assert message.as_bytes().isascii()
