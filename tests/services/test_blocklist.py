"""Commonly used passwords are recognised without a network."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from broker.core.passwords import Weakness, refusals
from broker.core.tenant import PasswordRules
from broker.services.blocklist import LIST, WIDTH, OfflineBlocklist, pack

BLOCKLIST = OfflineBlocklist()


@pytest.mark.parametrize(
    "password", ["password", "PASSWORD", "qwertyuiop", "123456789", "iloveyou", "1q2w3e4r5t", "administrator"]
)
def test_common_passwords_are_listed_in_any_case(password: str) -> None:
    assert BLOCKLIST(password)


@pytest.mark.parametrize("password", ["passwordpassword", "QwertyuiopQwertyuiop"])
def test_a_common_password_typed_twice_is_common(password: str) -> None:
    assert BLOCKLIST(password)


@pytest.mark.parametrize(
    "password", ["correct horse battery staple", "kX9v!mmq-und-noch-mehr", "", "é" * 1024, "\ud800" * 9, "a\x00b"]
)
def test_others_are_not(password: str) -> None:
    assert not BLOCKLIST(password)


def test_the_rules_for_new_passwords_use_it() -> None:
    found = refusals("Administrator", PasswordRules(min_length=8), is_common=BLOCKLIST)
    assert [refusal.weakness for refusal in found] == [Weakness.COMMON]


def test_the_list_is_large_sorted_and_without_duplicates() -> None:
    content = LIST.read_bytes()
    prefixes = [content[at : at + WIDTH] for at in range(0, len(content), WIDTH)]
    assert prefixes == sorted(set(prefixes))
    assert len(prefixes) == len(BLOCKLIST) > 50_000


def test_first_and_last_of_a_list_are_found(tmp_path: Path) -> None:
    words = [f"word {n}" for n in range(33)]
    (tmp_path / "list").write_bytes(pack(words))
    small = OfflineBlocklist(tmp_path / "list")
    assert all(small(word) for word in words)
    assert not small("word 33")


@pytest.mark.parametrize("content", [b"", b"12345", b"1234567"])
def test_a_file_that_is_no_list_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list").write_bytes(content)
    with pytest.raises(ValueError, match="not a list"):
        OfflineBlocklist(tmp_path / "list")


def test_licences_stand_beside_the_list() -> None:
    text = LIST.with_suffix(".txt").read_text(encoding="utf-8")
    assert "Django Software Foundation" in text
    assert "Dropbox" in text


@pytest.mark.packaging
def test_the_wheel_carries_the_list(tmp_path: Path) -> None:
    import subprocess
    import sys

    root = Path(__file__).parents[2]
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    assert {f"broker/services/data/common-passwords.{kind}" for kind in ("bin", "txt")} <= names
