"""Randomness, keys at rest, and what they promise."""

from __future__ import annotations

import hmac
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.errors import ConfigurationError
from broker.services.clock import SystemClock
from broker.services.secrets import SecretVault, SystemEntropy, _Mac, read_or_make_key

VAULT = SecretVault(b"k" * 16 + b"m" * 16)


def test_the_clock_is_aware_and_in_utc() -> None:
    assert str(SystemClock().now().tzinfo) == "UTC"


def test_tokens_are_url_safe_long_and_never_the_same() -> None:
    made = {SystemEntropy().token() for _ in range(500)}
    assert len(made) == 500
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", token) for token in made)


def test_a_reference_can_be_read_aloud() -> None:
    made = {SystemEntropy().reference() for _ in range(500)}
    assert len(made) == 500
    assert all(re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{2}", r) for r in made)


@given(st.binary(max_size=200), st.text(max_size=40))
def test_what_is_sealed_opens_at_its_place(plain: bytes, place: str) -> None:
    assert VAULT.open(VAULT.seal(plain, place), place) == plain


def test_a_sealed_value_moved_to_another_row_does_not_open() -> None:
    sealed = VAULT.seal(b"link", "outbox.payload.1")
    with pytest.raises(ValueError, match=r"outbox\.payload\.2"):
        VAULT.open(sealed, "outbox.payload.2")


@pytest.mark.parametrize("position", [0, 1, 24, 25, -1])
def test_a_changed_byte_is_noticed(position: int) -> None:
    sealed = bytearray(VAULT.seal(b"link", "here"))
    sealed[position] ^= 1
    with pytest.raises(ValueError, match="here"):
        VAULT.open(bytes(sealed), "here")


@pytest.mark.parametrize("sealed", [b"", b"\x01", b"\x01" + b"x" * 39, b"x" * 100])
def test_what_was_never_sealed_is_a_value_error(sealed: bytes) -> None:
    with pytest.raises(ValueError, match="here"):
        VAULT.open(sealed, "here")


def test_another_installation_cannot_open_it() -> None:
    with pytest.raises(ValueError, match="here"):
        SecretVault(b"another key of 32 bytes and more").open(VAULT.seal(b"link", "here"), "here")


def test_the_same_value_is_never_sealed_the_same_way_twice() -> None:
    assert VAULT.seal(b"link", "here") != VAULT.seal(b"link", "here")


@given(st.lists(st.text(max_size=5), max_size=4), st.lists(st.text(max_size=5), max_size=4))
def test_macs_are_equal_only_for_equal_parts(left: list[str], right: list[str]) -> None:
    assert (VAULT.mac("use", *left) == VAULT.mac("use", *right)) == (left == right)


def test_a_mac_depends_on_its_purpose_and_on_the_key() -> None:
    assert VAULT.mac("a", "b") != VAULT.mac("b", "b")
    assert VAULT.mac("a", "b") != VAULT.mac("a" + "b")
    assert VAULT.mac("a", "b") != SecretVault(b"another key of 32 bytes and more").mac("a", "b")


@given(st.binary(min_size=1, max_size=64), st.binary(max_size=300))
def test_it_is_the_hmac_of_the_standard_library(key: bytes, message: bytes) -> None:
    assert _Mac(key).of(message) == hmac.digest(key, message, "sha256")


def test_lone_surrogates_have_a_mac_and_a_digest_of_their_own() -> None:
    assert VAULT.mac("a", "\ud800") != VAULT.mac("a", "?")
    assert VAULT.digest("\ud800") != VAULT.digest("?")


def test_a_digest_is_sha256_and_url_safe() -> None:
    assert VAULT.digest("abc") == "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0"


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="31 bytes"):
        SecretVault(b"x" * 31)


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "var" / "deep" / "secret.key"
    key = read_or_make_key(path)
    assert len(key) == 32
    assert read_or_make_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["secret.key"]


def test_processes_that_start_together_get_the_same_key(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from broker.services.secrets import read_or_make_key;"
        "sys.stdin.read(); print(read_or_make_key(pathlib.Path(sys.argv[1])).hex())"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "var" / "secret.key")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    keys = {process.communicate()[0].strip() for process in started}
    assert len(keys) == 1
    assert len(keys.pop()) == 64


def test_a_draft_left_by_a_crash_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / ".secret.key.new").write_text("half")
    assert len(read_or_make_key(tmp_path / "secret.key")) == 32


@pytest.mark.parametrize(
    "text",
    ["", "\n", "changeme", "not base64 at all, but it is long enough to be one", "A" * 64, "c2hvcnQ=", "ÿþ" * 30],
)
def test_a_file_without_a_key_is_an_error_and_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secret.key"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"secret\.key: is not a key"):
        read_or_make_key(path)
    assert path.read_text(encoding="utf-8") == text


def test_a_key_made_by_openssl_is_taken_in_hex_or_base64(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    path.write_text("b6d9f0c5a4e3b2918070605f4e3d2c1bb6d9f0c5a4e3b2918070605f4e3d2c1b\n")
    assert read_or_make_key(path) == read_or_make_key(path)
    path.write_text("q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=\n")
    assert len(read_or_make_key(path)) == 32


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=re.escape(str(tmp_path / "file"))):
        read_or_make_key(tmp_path / "file" / "secret.key")


def test_what_another_of_our_keys_made_is_recognised_and_sealed_anew() -> None:
    old, new = SecretVault(b"o" * 16 + b"l" * 16), SecretVault(b"n" * 16 + b"e" * 16, [b"o" * 16 + b"l" * 16])
    sealed = old.seal(b"link", "here")
    assert new.open(sealed, "here") == b"link"
    anew = new.resealed(sealed, "here")
    assert anew is not None
    assert new.resealed(anew, "here") is None
    with pytest.raises(ValueError, match="here"):
        old.open(anew, "here")
    assert new.is_mac(old.mac("use", "a"), "use", "a")
    assert new.is_mac(new.mac("use", "a")[:22], "use", "a", length=22)
    assert not old.is_mac(new.mac("use", "a"), "use", "a")


@pytest.mark.parametrize("given", ["", "x", "ü" * 43, "\ud800"])
def test_what_is_no_mac_is_not_taken_for_one(given: str) -> None:
    assert not VAULT.is_mac(given, "use", "a")
    assert not VAULT.is_mac(VAULT.mac("use", "a")[:22], "use", "a")
