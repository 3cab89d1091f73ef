"""`homerealm audit`: what is shown, what is exported, and what is found when somebody has touched it."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from broker.cli.audit import audit, followed
from broker.core.chain import NOTHING, link
from broker.core.errors import BrokerError
from broker.core.events import Action, Event
from broker.core.values import Actor, DirectoryId
from broker.wiring import running

BROKER = """
base_url: http://localhost:8000
database: sqlite:///var/homerealm.db
key_value: embedded
secret_key_file: var/secret.key
"""
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "operators.md"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration whose audit log has five sealed rows."""
    folder = tmp_path_factory.mktemp("audit") / "config"
    (folder / "tenants").mkdir(parents=True)
    (folder / "broker.yaml").write_text(BROKER)
    (folder / "tenants" / "acme.yaml").write_text("tenant: acme\nname: Acme\n")
    with running(folder) as runtime:
        with runtime.database.writing() as work:
            for number in range(5):
                work.audit.write(
                    Event(runtime.clock.now(), DirectoryId("acme/live"), Actor.command_line("ops"),
                          Action.USER_BLOCKED, f"user-{number}", {"why": "Łódź"}, f"AAAA-AAAA-A{number}")
                )  # fmt: skip
        runtime.ledger.seal()
    return folder


@pytest.fixture
def config(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original.parent / "var", tmp_path / "var", ignore=shutil.ignore_patterns("valkey"))
    return Path(shutil.copytree(original, tmp_path / "config"))


def run(*arguments: str | Path, status: int = 0) -> Result:
    done = CliRunner().invoke(audit, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == status, done.output
    return done


def sql(config: Path, *statements: str) -> None:
    with sqlite3.connect(config.parent / "var" / "homerealm.db") as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_rows_are_shown_oldest_first_and_by_what_one_knows(config: Path) -> None:
    everything = run("--config", config).stdout.splitlines()
    assert [re.findall(r"user-\d", line)[0] for line in everything] == [f"user-{number}" for number in range(5)]
    assert "by command_line:ops" in everything[0]
    assert "why=Łódź" in everything[0]
    assert "[AAAA-AAAA-A0]" in everything[0]
    one = json.loads(run("--config", config, "--tenant", "acme", "--reference", "AAAA-AAAA-A3", "--json").stdout)
    assert (one["target"], one["place"], one["action"]) == ("user-3", 4, "user.blocked")
    assert "user-2" in run("--config", config, "--tenant", "acme", "--user", "user-2").stdout
    assert run("--config", config, "--since", "1h", "--limit", "1").stdout.count("user.blocked") == 1
    run("--config", config, "--since", "yesterday", status=2)
    with pytest.raises(BrokerError, match="no tenant 'globex'; there are: acme"):
        run("--config", config, "--tenant", "globex")


def test_a_whole_log_verifies_and_says_what_to_keep_elsewhere(config: Path) -> None:
    told = run("verify", "--config", config).stdout
    assert "whole: 5 sealed rows" in told
    anchor = re.findall(r"5:[0-9a-f]{64}", told)[0]
    run("verify", "--config", config, "--anchor", anchor)
    assert json.loads(run("verify", "--config", config, "--json").stdout)["ok"] is True


@pytest.mark.parametrize(
    ("deed", "found"),
    [
        (["UPDATE audit SET target = 'somebody' WHERE place = 3"], "row number 3 at place 3 was changed"),
        (["UPDATE audit SET detail = '{}' WHERE place = 1"], "row number 1 at place 1 was changed"),
        (["UPDATE audit SET detail = 'no JSON' WHERE place = 2"], "row number 2 at place 2 was changed"),
        (["UPDATE audit SET at = '2020-01-01 00:00:00.000000' WHERE place = 5"], "row number 5 at place 5 was changed"),
        (["DELETE FROM audit WHERE place = 2"], "place 2 is missing"),
        (["DELETE FROM audit WHERE place = 1"], "place 1 is missing"),
        (["DELETE FROM audit WHERE place >= 4"], "the end is missing: places 4 to 5"),
        (["DELETE FROM audit"], "the end is missing: places 1 to 5"),
        (["DELETE FROM audit WHERE place = 5", "UPDATE meta SET value = "
          "(SELECT 4 || ' ' || hash || ' ' || seal FROM audit WHERE place = 4) WHERE name = 'audit.head'"],
         "where the chain ends was not written by this installation"),
        (["DELETE FROM meta WHERE name = 'audit.head'"], "the mark of where the chain ends is missing"),
        (["UPDATE audit SET place = 99 WHERE place = 2", "UPDATE audit SET place = 2 WHERE place = 3",
          "UPDATE audit SET place = 3 WHERE place = 99"], "row number 3 at place 2 was changed"),
        (["UPDATE audit SET seal = 'x' WHERE place = 4"], "place 4 was not sealed by this installation"),
        (["INSERT INTO meta VALUES ('audit.start', '2 ' || (SELECT hash FROM audit WHERE place = 2) || ' x')",
          "DELETE FROM audit WHERE place <= 2"], "where the chain begins was not written by this installation"),
    ],
)  # fmt: skip
def test_whatever_is_done_to_the_rows_the_first_wrong_one_is_named(config: Path, deed: list[str], found: str) -> None:
    sql(config, *deed)
    assert found in run("verify", "--config", config, status=1).stdout


def test_a_chain_made_anew_without_the_key_is_found(config: Path) -> None:
    with running(config) as runtime, runtime.database.reading() as work:
        records = work.audit.chained()
    hash, statements = NOTHING, ["UPDATE audit SET target = 'nobody' WHERE place = 1"]
    for record in records:
        record = replace(record, target="nobody") if record.place == 1 else record
        hash = link(hash, record, record.place or 0)
        statements.append(f"UPDATE audit SET hash = '{hash}' WHERE place = {record.place}")
    sql(config, *statements)
    assert "place 1 was not sealed by this installation" in run("verify", "--config", config, status=1).stdout


def test_an_old_copy_of_the_database_is_found_by_an_anchor_alone(config: Path) -> None:
    old = (config.parent / "var" / "homerealm.db").read_bytes()
    with running(config) as runtime:
        with runtime.database.writing() as work:
            work.audit.write(Event(runtime.clock.now(), DirectoryId("acme/live"), Actor.worker(), Action.USER_DELETED))
        head = runtime.ledger.seal()
    assert head is not None
    for file in (config.parent / "var").glob("homerealm.db*"):
        file.unlink()
    (config.parent / "var" / "homerealm.db").write_bytes(old)
    run("verify", "--config", config)
    told = run("verify", "--config", config, "--anchor", f"{head.place}:{head.hash}", status=1).stdout
    assert "place 6 was there once" in told


def test_an_export_verifies_without_us_and_is_an_event_itself(config: Path, tmp_path: Path) -> None:
    lines = run("export", "--config", config).stdout.splitlines()
    assert [json.loads(line)["place"] for line in lines] == [1, 2, 3, 4, 5]
    assert "audit.exported" in run("--config", config).stdout
    file = tmp_path / "audit.jsonl"
    file.write_text("\n".join(lines) + "\n")
    run("verify", "--file", file)
    recipe = GUIDE.read_text().partition("<!-- recipe: audit -->\n```python\n")[2].partition("```")[0]
    (tmp_path / "recipe.py").write_text(recipe)

    def by_hand() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, tmp_path / "recipe.py", file], capture_output=True, text=True)

    assert by_hand().returncode == 0, by_hand().stderr
    file.write_text("\n".join(lines).replace("user-2", "user-9") + "\n")
    assert "place 3" in run("verify", "--file", file, status=1).stdout
    assert "place 3" in by_hand().stderr


def test_the_oldest_part_goes_to_a_file_and_the_rest_still_verifies(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "2020.jsonl"
    assert "Nothing is older" in run("archive", "--config", config, "--before", "7d", file).stderr
    assert "5 rows are in" in run("archive", "--config", config, "--before", "2999-01-01", file).stderr
    run("verify", "--file", file)
    told = run("--config", config).stdout
    assert "audit.archived" in told
    assert "user-0" not in told
    run("verify", "--config", config)


def test_a_broken_chain_is_not_archived(config: Path, tmp_path: Path) -> None:
    sql(config, "DELETE FROM audit WHERE place = 2")
    with pytest.raises(BrokerError, match="place 2 is missing"):
        run("archive", "--config", config, "--before", "2999-01-01", tmp_path / "all.jsonl")


def test_following_shows_what_happens_from_then_on(config: Path) -> None:
    with running(config) as runtime:

        def meanwhile(_seconds: float) -> None:
            with runtime.database.writing() as work:
                work.audit.write(
                    Event(runtime.clock.now(), DirectoryId("acme/live"), Actor.worker(), Action.USER_DELETED, "late")
                )

        seen = [record.target for record, _ in zip(followed(runtime, {"limit": 2}, meanwhile), range(4), strict=False)]
    assert seen == ["user-3", "user-4", "late", "late"]
