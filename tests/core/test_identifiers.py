"""Addresses and usernames: one spelling of each, and none that looks like another."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.errors import InvalidIdentifier
from broker.core.identifiers import (
    Email,
    Username,
    clean,
    email_domain,
    lower_ascii,
    parse_domain,
    parse_email,
    parse_identifier,
    parse_username,
)

anything = settings(deadline=None, max_examples=150)
CURIOUS = st.sampled_from([
    "ß", "ẞ", "ς", "Σ", "ı", "İ", "K", "Å", "e\u0301", "é", "É", "ü", "Ü", "ﬁ", "Ⅷ", "ａ", "\u202e", "\u200b",
    "\u200d", "\u00ad", "\ufe0f", "\u034f", "\u115f", "\u3164", "\u2800", "\u00a0", "\u3002", "\uff0e", "\0", "\x7f",
    "\ud800", "\ue000", "\U000e0041", "@", "@", ".", "-", "xn--", "+", "'", '"', "<", ",", " ", "  ", "A", "z", "acme",
    "example", "straße", "łódź", "例え", "عربي",
])  # fmt: skip
TYPED = st.lists(CURIOUS | st.text(max_size=4), max_size=7).map("".join)
ADDRESSES = st.tuples(TYPED, TYPED).map(lambda two: f"a{two[0]}@{two[1]}.example")
LETTERS = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=12)


def parsed(text: str) -> Email | Username | None:
    try:
        return parse_identifier(text)
    except InvalidIdentifier:
        return None


@anything
@given(TYPED | ADDRESSES)
def test_parsing_again_changes_nothing(text: str) -> None:
    if (once := parsed(text)) is not None:
        assert parse_identifier(once.display) == once
        again = parse_identifier(once.key)
        assert type(again) is type(once)
        assert again.key == once.key


@anything
@given(TYPED | ADDRESSES)
def test_nothing_invisible_survives(text: str) -> None:
    if (found := parsed(text)) is None:
        return
    for shown in (found.display, found.key):
        assert unicodedata.normalize("NFKC", shown) == shown
        for one in shown:
            assert one == " " or unicodedata.category(one)[0] not in "CZ"
            assert one not in "\ufe0f\u034f\u115f\u3164\u2800"


@anything
@given(TYPED | ADDRESSES)
def test_a_username_has_no_at_sign_and_an_address_one_domain(text: str) -> None:
    match parsed(text):
        case Username(display, key):
            assert "@" not in display + key
        case Email(_, key) as email:
            assert key.isascii() or not key.rpartition("@")[0].isascii()
            assert email.domain.isascii()
            assert email.domain == email.domain.lower()
            assert email_domain(text) == email.domain
            assert parse_domain(email.domain) == email.domain


@anything
@given(st.text())
def test_only_ascii_is_lowered(text: str) -> None:
    lowered = lower_ascii(text)
    assert len(lowered) == len(text)
    for before, after in zip(text, lowered, strict=True):
        assert after == (before.lower() if before.isascii() else before)


@anything
@given(TYPED)
def test_the_case_of_ascii_letters_is_all_that_a_username_forgives(text: str) -> None:
    try:
        name = parse_username(text)
    except InvalidIdentifier:
        return
    assert name.key == lower_ascii(name.display)
    assert parse_username(name.display.translate({ord(c): c.upper() for c in "abcxyz"})).key == name.key


@anything
@given(TYPED | ADDRESSES, st.integers(1, 40))
def test_what_is_too_long_is_refused_and_never_cut(text: str, longest: int) -> None:
    try:
        kept = clean(text, longest)
    except InvalidIdentifier:
        return
    assert len(kept) <= longest
    assert kept == unicodedata.normalize("NFC", text).strip(" \t\r\n")


@anything
@given(LETTERS, st.sampled_from(["ä", "ö", "é", "ł", "ж", "例"]), LETTERS)
def test_a_domain_beyond_ascii_is_one_domain_in_every_spelling(before: str, letter: str, after: str) -> None:
    spelled = f"{before}{letter}{after}"
    wire = f"xn--{spelled.encode('punycode').decode()}.example"
    spellings = (spelled, spelled.upper(), unicodedata.normalize("NFD", spelled))
    assert {parse_email(f"ada@{one}.example").key for one in spellings} == {f"ada@{wire}"}
    assert parse_email(f"ada@{wire}").key == f"ada@{wire}"


@pytest.mark.parametrize(
    ("theirs", "on_the_wire", "somebody_elses"),
    [("straße.de", "xn--strae-oqa.de", "strasse.de"), ("βόλος.com", "xn--nxasmm1c.com", "βόλοσ.com")],
)
def test_letters_that_idna_2003_folds_are_letters_of_their_own(
    theirs: str, on_the_wire: str, somebody_elses: str
) -> None:
    # The second owner would get the first one's mail (RFC 5894 7.2; UTS 46, deviation characters).
    assert parse_domain(theirs) == on_the_wire
    assert parse_domain(somebody_elses) != on_the_wire


@pytest.mark.parametrize(
    "text",
    ["", " ", "a@", "@b.example", "a@b@c.example", "a..b@c.example", ".a@c.example", "a.@c.example", "a b@c.example",
     "a,b@c.example", "<a@c.example>", '"a b"@c.example', "a@c.example.", "a@c..example", "a@-c.example",
     "a@c_d.example",
     "a@[127.0.0.1]", "a@ẞ.example", "a@b。example", "ada\ufe0f", "ada\u034f", "a\u2800b", "a@ac\ufe0fme.example",
     "ada\u202e", "ﬁona", "x" * 129, "a" * 65 + "@c.example", f"a@{'c.' * 126}example", "a@b.example, c@d.example",
     "a@b.example\r\nBcc: c@d.example"],
)  # fmt: skip
def test_what_is_not_one_identifier_is_refused(text: str) -> None:
    assert parsed(text) is None
