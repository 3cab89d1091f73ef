"""`homerealm keys` on a configuration of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from broker.cli.keys import keys
from broker.core.errors import NotFound

BROKER = """
base_url: http://localhost:8000
database: sqlite:///var/homerealm.db
key_value: embedded
secret_key_file: var/secret.key
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    (folder / "tenants").mkdir(parents=True)
    (folder / "broker.yaml").write_text(BROKER)
    (folder / "tenants" / "acme.yaml").write_text("tenant: acme\nname: Acme\n")
    return folder


def run(*arguments: str | Path) -> str:
    done = CliRunner().invoke(keys, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_keys_are_listed_rotated_and_replaced_at_once_after_a_leak(config: Path) -> None:
    first = json.loads(run("list", "--config", config, "--json"))
    assert {(row["tenant"], row["algorithm"], row["state"]) for row in first} == {
        ("acme", "RS256", "signs"),
        ("acme", "ES256", "signs"),
    }
    assert all(set(row) == set(first[0]) and "private" not in row for row in first)
    added = json.loads(run("rotate", "--config", config, "--tenant", "acme", "--json"))
    assert [row["state"] for row in added] == ["published", "published"]
    told = run("list", "--config", config, "--tenant", "acme")
    assert all(row["kid"] in told for row in [*first, *added])
    replaced = json.loads(run("rotate", "--config", config, "--tenant", "acme", "--at-once", "--json"))
    left = json.loads(run("list", "--config", config, "--json"))
    assert {row["kid"] for row in left} == {row["kid"] for row in replaced}
    assert {row["state"] for row in left} == {"signs"}


def test_a_tenant_that_does_not_exist_is_named_with_those_that_do(config: Path) -> None:
    with pytest.raises(NotFound, match="no tenant 'globex'; there are: acme"):
        run("rotate", "--config", config, "--tenant", "globex")


def test_everything_is_encrypted_anew_after_the_secret_key_changed(config: Path) -> None:
    before = run("list", "--config", config)
    old = config.parent / "var" / "secret.key"
    old.rename(old.with_name("earlier.key"))
    (config / "broker.yaml").write_text(BROKER + "other_secret_key_files: [var/earlier.key]\n")
    assert json.loads(run("rewrap", "--config", config, "--json"))["signing_keys"] == 2
    (config / "broker.yaml").write_text(BROKER)
    assert run("list", "--config", config) == before
