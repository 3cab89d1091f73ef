"""What each mail says: one class a kind, made from the texts of an outbox job.

Everything that came from outside is cleaned here, once: names are shortened and lose their control characters, links
are checked. A job whose facts do not fit raises `ValueError`; retrying it would not help.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Self
from urllib.parse import urlsplit

from broker.core.mail import MailKind

LONGEST_NAME = 64
_LOOKS_LIKE_A_LINK = re.compile(r"[/\\@]|\bwww\.|\.[^\W\d_]{2,}\b", re.IGNORECASE)
_SAMPLE_TIME = datetime(2026, 11, 21, 14, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What every mail has. `at` is when it was asked for, `agent` browser and system in words."""

    address_is_proven: ClassVar[bool] = True
    """False where somebody else may have typed the address: then no text of theirs may look like a link."""

    name: str = ""
    agent: str = ""
    reference: str = ""
    at: datetime

    @classmethod
    def parse(cls, texts: Mapping[str, str], to: str) -> Self:
        """From a job's payload; what the mail does not need is passed over. Raises `ValueError`."""
        values: dict[str, str | datetime] = {}
        for one in fields(cls):
            text = texts.get(one.name, "")
            if one.name in ("at", "expires_at"):
                values[one.name] = _time(text, one.name)
            elif one.name in ("link", "login_url", "forgot_url"):
                values[one.name] = _link(text, one.name)
            elif one.name in ("name", "username"):
                values[one.name] = _name(text, to, trusted=cls.address_is_proven)
            else:
                values[one.name] = clean(text)
        return cls(**values)  # type: ignore[arg-type]

    @classmethod
    def sample(cls) -> dict[str, str]:
        """A payload that shows the mail as it usually is: for previews, and for the tests that look at every mail."""
        made = {
            "name": "ada",
            "agent": "Firefox on Windows",
            "reference": "7K3Q-XW92-4T",
            "at": _SAMPLE_TIME.isoformat(),
            "expires_at": (_SAMPLE_TIME + timedelta(minutes=30)).isoformat(),
            "username": "ada",
            "provider": "Google",
            "link": "https://login.acme.example/link?ticket=Zm9yIHRoZSBzYW1wbGUgb25seSwgb3BlbnMgbm90aGluZw",
            "login_url": "https://login.acme.example/login",
            "forgot_url": "https://login.acme.example/forgot",
        }
        return {one.name: made[one.name] for one in fields(cls)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset(Facts):
    link: str
    expires_at: datetime
    username: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetElsewhere(Facts):
    link: str
    """To our own page, which holds no secret and leads to the provider."""
    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAccount(Facts):
    address_is_proven: ClassVar[bool] = False

    login_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordChanged(Facts):
    forgot_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordSetByAdmin(Facts):
    forgot_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyEmail(Facts):
    address_is_proven: ClassVar[bool] = False

    link: str
    expires_at: datetime
    username: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlreadyRegistered(Facts):
    login_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation(Facts):
    address_is_proven: ClassVar[bool] = False

    link: str
    expires_at: datetime
    username: str = ""


FACTS: Mapping[MailKind, type[Facts]] = {
    MailKind.RESET: Reset,
    MailKind.RESET_ELSEWHERE: ResetElsewhere,
    MailKind.NO_ACCOUNT: NoAccount,
    MailKind.PASSWORD_CHANGED: PasswordChanged,
    MailKind.PASSWORD_SET_BY_ADMIN: PasswordSetByAdmin,
    MailKind.VERIFY_EMAIL: VerifyEmail,
    MailKind.ALREADY_REGISTERED: AlreadyRegistered,
    MailKind.INVITATION: Invitation,
}


def clean(text: str, longest: int = 200) -> str:
    """One line of visible characters, shortened."""
    visible = "".join(c if unicodedata.category(c)[0] not in "C" else " " for c in unicodedata.normalize("NFC", text))
    line = " ".join(visible.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _name(text: str, to: str, *, trusted: bool) -> str:
    """How somebody is called; empty for what could be read as an invitation to go somewhere else.

    Whoever signs up with a stranger's address chooses the name that the stranger reads in our mail.
    """
    if text == to:
        return text
    name = clean(text, LONGEST_NAME)
    if "://" in name or (not trusted and _LOOKS_LIKE_A_LINK.search(name)):
        return ""
    return name


def _link(text: str, name: str) -> str:
    parts = urlsplit(text)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or not text.isascii()
        or any(c <= " " or c in '"<>\\^`{|}' for c in text)
    ):
        raise ValueError(f"{name} is not an address")
    return text


def _time(text: str, name: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{name} is not a time") from None
    if moment.tzinfo is None:
        raise ValueError(f"{name} has no time zone")
    return moment.astimezone(UTC)
