"""Rules for new passwords, at their edges."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.passwords import Refusal, Weakness, normalise, refusals
from broker.core.tenant import PasswordRules

anything = settings(deadline=None)
RULES = PasswordRules()
PASSPHRASE = "seven green umbrellas sing"


def weaknesses(password: str, rules: PasswordRules = RULES, **more: object) -> list[Weakness]:
    return [found.weakness for found in refusals(password, rules, **more)]  # type: ignore[arg-type]


@anything
@given(st.text())
def test_normalising_is_nfc_and_nothing_else(password: str) -> None:
    assert normalise(password) == unicodedata.normalize("NFC", password)
    assert normalise(normalise(password)) == normalise(password)
    assert normalise(unicodedata.normalize("NFD", password)) == normalise(password)


@anything
@given(st.text(st.characters(codec="ascii"), max_size=1100), st.characters(codec="ascii"))
def test_every_character_of_a_password_counts(password: str, last: str) -> None:
    assert normalise(password + last) == password + last
    assert normalise(f" {password} ") == f" {password} "


@anything
@given(st.integers(8, 40), st.integers(128, 300), st.integers(0, 400), st.booleans())
def test_the_limits_are_exact_and_in_code_points(shortest: int, longest: int, length: int, has_factor: bool) -> None:
    rules = PasswordRules(min_length=max(shortest, 15), min_length_with_factor=8, max_length=longest, blocklist=False)
    least = 8 if has_factor else rules.min_length
    for password in ("é" * length, "e\u0301" * length, "𐍈" * length):
        found = refusals(password, rules, has_factor=has_factor)
        expected = []
        if length < least:
            expected = [Refusal(Weakness.TOO_SHORT, least)]
        elif length > longest:
            expected = [Refusal(Weakness.TOO_LONG, longest)]
        assert found == expected


@anything
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=15, max_size=200))
def test_no_composition_is_asked_for(password: str) -> None:
    rules = PasswordRules(blocklist=False)
    assert set(weaknesses(password, rules)) <= {Weakness.TOO_SHORT}


@anything
@given(st.text(max_size=30), st.characters(categories=["Cs", "Cc"]), st.text(max_size=30))
def test_what_cannot_be_typed_is_refused(before: str, odd: str, after: str) -> None:
    assert Weakness.NOT_TEXT in weaknesses(before + odd + after)


@pytest.mark.parametrize("letter", ["a", "ab", "abc", "abcd", "7", "12", "ä", "Aa"])
@pytest.mark.parametrize("length", [15, 16, 17, 64])
def test_one_pattern_again_and_again_is_common(letter: str, length: int) -> None:
    assert Weakness.COMMON in weaknesses((letter * length)[:length])


@pytest.mark.parametrize("run", ["abcdefghijklmnop", "ponmlkjihgfedcba", "1234567890123456", "9876543210987654"])
def test_a_run_is_common(run: str) -> None:
    assert Weakness.COMMON in weaknesses(run)


def test_the_list_of_common_passwords_is_asked_in_lower_case() -> None:
    assert Weakness.COMMON in weaknesses(
        "Correct Horse Battery", is_common=lambda text: text == "correct horse battery"
    )


@pytest.mark.parametrize("password", ["ada@acme.example1", "ADALOVELACE12345", "1ada@acme.example"])
def test_a_password_that_is_a_name_and_little_else_is_personal(password: str) -> None:
    assert Weakness.PERSONAL in weaknesses(password, personal=["ada@acme.example", "adalovelace", "", "ada"])


def test_a_name_in_a_long_sentence_does_no_harm() -> None:
    assert weaknesses("adalovelace wrote the first program", personal=["adalovelace"]) == []


@pytest.mark.parametrize("password", [PASSPHRASE, PASSPHRASE * 39, "пятнадцать букв!", "     spaces     are fine"])
def test_a_good_password_is_good(password: str) -> None:
    assert weaknesses(password) == []


def test_a_flood_is_answered_without_looking_further() -> None:
    assert refusals("x" * 100_000, RULES, personal=["x" * 5]) == [Refusal(Weakness.TOO_LONG, 1024)]
