"""E-mail addresses and usernames, canonicalised once, in Python, never by a database's lower() (SECURITY 16).

`display` is stored byte for byte as it was given (mail goes there); `key` is compared. GitHub's dotless-i reset of
2019 and Django's CVE-2019-19844 are what happens when the two are mixed up.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from broker.core.errors import InvalidIdentifier

MAX_EMAIL = 254
"""Characters; RFC 5321 4.5.3.1.3 less the angle brackets."""
MAX_USERNAME = 128

_ATEXT = r'[^\x00-\x20\x7f()<>\[\]:;@\\,."]+'
"""What is neither a control, a space nor special (RFC 5322 3.2.3), and all beyond ASCII (RFC 6531 3.3)."""
_LOCAL = re.compile(rf"{_ATEXT}(\.{_ATEXT})*")
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Letters and marks that show nothing: the default-ignorable ones (UAX 44 5.3), and the blank of Braille."""
_DEVIATES = re.compile("[\u00df\u03c2]")
"""Valid in IDNA 2008, where they are letters of their own; the codec of IDNA 2003 makes `ss` and `\u03c3` of them."""
_ASCII_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True, slots=True)
class Email:
    display: str
    key: str

    @property
    def domain(self) -> str:
        """In A-labels, lower case."""
        return self.key.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class Username:
    display: str
    key: str


def lower_ascii(text: str) -> str:
    """A-Z only: `str.lower` maps the Kelvin sign to k, and Turkish rules differ."""
    return text.translate(_ASCII_LOWER)


def clean(text: str, longest: int) -> str:
    """NFC, stripped of surrounding white space.

    Raises `InvalidIdentifier` for control, format (bidi), private, unassigned and compatibility characters: they
    look like others or like nothing.
    """
    text = unicodedata.normalize("NFC", text).strip(" \t\r\n")
    if not text:
        raise InvalidIdentifier("empty", code="identifier.empty")
    if len(text) > longest:
        raise InvalidIdentifier(f"longer than {longest} characters", code="identifier.long")
    _refuse_deceptive(text)
    return text


def _refuse_deceptive(text: str) -> None:
    if _UNSEEN.search(text) or any(unicodedata.category(one)[0] in "CZ" and one != " " for one in text):
        raise InvalidIdentifier("has an invisible or control character")
    if unicodedata.normalize("NFKC", text) != text:
        raise InvalidIdentifier("has a character that only looks like another")


def parse_domain(domain: str) -> str:
    """A domain in A-labels, lower case; one dot at its end, the root's, is left out. Raises `InvalidIdentifier`."""
    domain = lower_ascii(unicodedata.normalize("NFC", domain).removesuffix("."))
    if not domain.isascii():
        _refuse_deceptive(domain)
        try:
            domain = ".".join(_a_label(label) for label in domain.split("."))
        except UnicodeError:
            raise InvalidIdentifier("its domain is not valid") from None
    labels = domain.split(".")
    if len(domain) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidIdentifier("its domain is not valid")
    return domain


def _a_label(label: str) -> str:
    """RFC 5891 4.4. Mail for `straße` must not go to whoever owns `strasse`. Raises `UnicodeError`."""
    if "\u1e9e" in label or "\u3002" in label:
        raise UnicodeError("a capital sharp s is `ss` to some and `ß` to others; an ideographic full stop is a dot")
    by_2003 = label.encode("idna").decode("ascii")
    if not _DEVIATES.search(label):
        return by_2003
    return "xn--" + "".join(one.lower() for one in label).encode("punycode").decode("ascii")


def parse_email(text: str) -> Email:
    """One address, nothing else: no display name, no list, no comment, no quoting. Raises `InvalidIdentifier`."""
    text = clean(text, MAX_EMAIL)
    local, at, domain = text.rpartition("@")
    if not at or not local or len(local) > 64 or not _LOCAL.fullmatch(local) or domain.endswith("."):
        raise InvalidIdentifier("is not one e-mail address")
    return Email(text, f"{lower_ascii(local)}@{parse_domain(domain)}")


def parse_username(text: str) -> Username:
    """A username never holds an @, so that it can never shadow somebody's address. Raises `InvalidIdentifier`."""
    text = clean(text, MAX_USERNAME)
    if "@" in text:
        raise InvalidIdentifier("a username has no @")
    return Username(text, lower_ascii(text))


def parse_identifier(text: str) -> Email | Username:
    """What somebody typed into the first field. Raises `InvalidIdentifier`."""
    return parse_email(text) if "@" in text else parse_username(text)


def email_domain(text: str) -> str | None:
    """The domain of an address, or None: for dispatch, from public facts only."""
    try:
        return parse_email(text).domain
    except InvalidIdentifier:
        return None
