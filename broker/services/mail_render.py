"""From the facts of a mail to the message: text first, HTML beside it, and headers that programs rely on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from functools import lru_cache
from gettext import GNUTranslations, NullTranslations
from pathlib import Path
from textwrap import fill
from urllib.parse import urlsplit

import css_inline
from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_time
from babel.units import format_unit
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from broker.core.brand import ink
from broker.core.identifiers import parse_email
from broker.core.mail import MailKind
from broker.core.tenant import Tenant
from broker.services.mail_facts import FACTS, Facts, clean

LONGEST_SUBJECT = 50
WIDTH = 78
"""Characters of a line of text: what RFC 5322 2.1.1 recommends."""
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_RIGHT_TO_LEFT = frozenset({"ar", "fa", "he", "ur"})
_DEFAULT_COLOR = "#0b5fff"


def english(language: str) -> NullTranslations:
    """No catalogue: the texts as they stand in the templates."""
    return NullTranslations()


class MailRenderer:
    """Composes mails from `templates`/mail. `translations` gives the catalogue of a language.

    Threads may share it; what several of them compose from the same files is compiled once.
    """

    def __init__(self, templates: Path, translations: Callable[[str], NullTranslations] = english) -> None:
        self._templates = templates / "mail"
        self._translations = translations
        self._inliner = css_inline.CSSInliner(keep_style_tags=True, load_remote_stylesheets=False)

    def compose(
        self,
        kind: MailKind,
        tenant: Tenant,
        to: str,
        language: str,
        facts: Mapping[str, str],
        *,
        message_id: str,
        at: datetime,
    ) -> EmailMessage:
        """The message for one recipient. The same arguments give the same message, so that a retry sends it again.

        `message_id` is the left part of the Message-ID, `at` its Date. Raises `ValueError` for facts that do not fit
        the kind and for what is not one address (`InvalidIdentifier`); retrying would not help.
        """
        mail = FACTS[kind].parse(facts, to)
        environment, language = _environment(
            self._templates, self._translations, language if _LANGUAGE.fullmatch(language) else "en"
        )
        view = _View(tenant, mail, language)
        recipient = _recipient(to)
        message = EmailMessage(policy=SMTP if recipient.addr_spec.isascii() else SMTPUTF8)
        message["From"] = tenant.mail.sender
        message["To"] = recipient
        message["Subject"] = self._subject(environment, kind, view)
        message["Date"] = at
        message["Message-ID"] = f"<{message_id}@{_domain(message)}>"
        message["Auto-Submitted"] = "auto-generated"
        message["X-Auto-Response-Suppress"] = "All"
        message["X-Homerealm-Mail"] = kind.value
        if tenant.branding.support_email:
            message["Reply-To"] = tenant.branding.support_email
        text = _wrap(environment.get_template(f"{kind.value}/text.txt").render(v=view, m=mail))
        html = environment.get_template(f"{kind.value}/html.html").render(v=view, m=mail)
        message.set_content(text, cte=_encoding(text))
        html = self._inliner.inline(html)
        message.add_alternative(html, subtype="html", cte=_encoding(html))
        message["Content-Language"] = language
        message.set_boundary(f"part-{message_id}")
        return message

    def _subject(self, environment: Environment, kind: MailKind, view: _View) -> str:
        """With the tenant's name where there is room for it. Never with anything that a user chose."""
        template = environment.get_template(f"{kind.value}/subject.txt")
        mark = f"[{view.environment}] " if view.environment else ""
        subjects = [mark + clean(template.render(v=view, short=short)) for short in (False, True)]
        return next((s for s in subjects if len(s) <= LONGEST_SUBJECT), clean(subjects[-1], LONGEST_SUBJECT))


@lru_cache(maxsize=100)
def _environment(
    templates: Path, translations_of: Callable[[str], NullTranslations], language: str
) -> tuple[Environment, str]:
    """And the language of its texts. The same for all renderers with these files and words: compiling takes longest."""
    translations = translations_of(language)
    environment = Environment(
        loader=FileSystemLoader(templates),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.install_gettext_translations(translations, newstyle=True)  # type: ignore[attr-defined]
    environment.filters["bdi"] = lambda text: Markup("<bdi>{}</bdi>").format(text)
    environment.filters["host"] = lambda url: urlsplit(str(url)).hostname or ""
    # Without a catalogue the texts are English, and say so.
    return environment, language if isinstance(translations, GNUTranslations) else "en"


@dataclass(frozen=True, slots=True)
class _View:
    """What templates see beside the facts."""

    _tenant: Tenant
    _mail: Facts
    language: str

    @property
    def tenant(self) -> str:
        return clean(self._tenant.name)

    @property
    def environment(self) -> str:
        """Empty where it is the real one."""
        return "" if self._tenant.environment == "live" else clean(self._tenant.environment)

    @property
    def support(self) -> str:
        """Where help is to be had: an address of a page, of a mailbox, both, or nothing."""
        branding = self._tenant.branding
        return ", ".join(filter(None, (branding.support_url, branding.support_email)))

    @property
    def support_url(self) -> str:
        return self._tenant.branding.support_url or ""

    @property
    def support_email(self) -> str:
        return self._tenant.branding.support_email or ""

    @property
    def direction(self) -> str:
        return "rtl" if self.language.partition("-")[0] in _RIGHT_TO_LEFT else "ltr"

    @property
    def color(self) -> str:
        """The brand's, if it is a colour."""
        color = self._tenant.branding.color or ""
        return color if _COLOR.fullmatch(color) else _DEFAULT_COLOR

    @property
    def ink(self) -> str:
        """The text on it."""
        return ink(self.color)

    @property
    def asked_at(self) -> str:
        return f"{self._date(self._mail.at)}, {self._clock(self._mail.at)}"

    @property
    def until(self) -> str:
        """The end of a link: the time alone where that is the same day."""
        end: datetime = self._mail.expires_at  # type: ignore[attr-defined]
        same_day = end.date() == self._mail.at.date()
        return self._clock(end) if same_day else f"{self._date(end)}, {self._clock(end)}"

    @property
    def lifetime(self) -> str:
        """`30 minutes`, `2 hours`, `3 days`."""
        left: timedelta = self._mail.expires_at - self._mail.at  # type: ignore[attr-defined]
        minutes = max(1, round(left.total_seconds() / 60))
        if minutes % 1440 == 0:
            return str(format_unit(minutes // 1440, "duration-day", locale=self._locale))
        if minutes % 60 == 0:
            return str(format_unit(minutes // 60, "duration-hour", locale=self._locale))
        return str(format_unit(minutes, "duration-minute", locale=self._locale))

    @property
    def _locale(self) -> Locale:
        try:
            # The templates are written in international English: 21 Nov 2026.
            return Locale.parse("en-GB" if self.language == "en" else self.language, sep="-")
        except (UnknownLocaleError, ValueError):
            return Locale.parse("en_GB")

    def _date(self, moment: datetime) -> str:
        return str(format_date(moment, "medium", locale=self._locale))

    def _clock(self, moment: datetime) -> str:
        return f"{format_time(moment, 'HH:mm', tzinfo=UTC, locale=self._locale)} UTC"


def _recipient(to: str) -> Address:
    """The stored address, byte for byte; only a domain beyond ASCII becomes what SMTP knows it by (RFC 5890)."""
    parsed = parse_email(to)
    local, _, domain = to.rpartition("@")
    try:
        return Address(username=local, domain=domain if domain.isascii() else parsed.domain)
    except (HeaderParseError, ValueError, IndexError) as error:
        raise ValueError(f"not an address that a mail can be sent to: {error}") from None


def _domain(message: EmailMessage) -> str:
    """The right part of the Message-ID: the sender's domain."""
    domain = str(message["From"].addresses[0].domain)
    return domain if domain.isascii() else domain.encode("idna").decode("ascii")


def _encoding(text: str) -> str:
    """Readable as it is where mail servers let that through (RFC 5321 4.5.3.1.6)."""
    plain = text.isascii() and all(len(line) <= 900 for line in text.splitlines())
    return "7bit" if plain else "quoted-printable"


def _wrap(text: str) -> str:
    """Lines that every mail program shows; a link is never broken."""
    lines = [
        fill(line, WIDTH, break_long_words=False, break_on_hyphens=False)
        if len(line) > WIDTH and "://" not in line
        else line
        for line in (raw.strip() for raw in text.splitlines())
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"
