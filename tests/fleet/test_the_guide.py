"""docs/guides/fleet.md, followed to the letter by somebody who copies its commands, on a machine of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import copy_to
from tests.servers import ROOT

pytestmark = [pytest.mark.packaging, pytest.mark.xdist_group("fleet")]

GUIDE = (ROOT / "docs" / "guides" / "fleet.md").read_text()
CHAPTER = re.compile(r"^## (.+)$", re.MULTILINE)
PIECE = re.compile(r"^```sh\n(.*?)^```$|\*\*(step \d)\*\*", re.DOTALL | re.MULTILINE | re.IGNORECASE)
"""A block of commands, or the bold name of a step that is to be done here."""
HERE = Path(__file__).parent
PYTHON = "/usr/bin/python3"
"""Debian's, as the guide has it: ours may lie where a service's user cannot look."""


def chapters() -> dict[str, list[str]]:
    """The blocks of commands of each chapter, in order; a chapter that says **step 2** has those of step 2 there."""
    found: dict[str, list[str]] = {}
    parts = CHAPTER.split(GUIDE)[1:]
    for title, text in zip(parts[::2], parts[1::2], strict=True):
        name = re.sub(r"^(\d)\. .*", r"Step \1", title)
        found[name] = []
        for commands, step in PIECE.findall(text):
            found[name] += found[step.capitalize()] if step else [commands]
    return found


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source as git has it, and what pip will ask for."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("a machine of its own needs root and unshare")
    folder = tmp_path_factory.mktemp("fleet")
    copy_to(folder / "source")
    pip = folder / "pip"
    subprocess.run([PYTHON, "-m", "venv", pip], check=True, capture_output=True)
    fetch = [pip / "bin/pip", "download", "--quiet", "--dest", folder / "wheels", "--only-binary=:all:"]
    for wanted in (["--requirement", ROOT / "requirements.txt"], ["hatchling>=1.27"]):
        done = subprocess.run([*fetch, *wanted], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    folder.chmod(0o755)  # the service's user looks through it
    return folder


def walk(release: Path, machine: str, script: list[str]) -> dict[str, list[object]]:
    """These commands on that machine, the first one fails or all succeed. What was SEEN, by name."""
    file = release / f"{machine}.sh"
    file.write_text("\n".join(["set -eu", *script, "systemctl stop homerealm@8001 homerealm@8002"]))
    namespaces = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc"]
    done = subprocess.run(
        [*namespaces, HERE / "machine.sh", release, machine, "bash", file],
        capture_output=True, text=True, timeout=300, cwd=ROOT,
    )  # fmt: skip
    logs = {path.name: path.read_text()[-3000:] for path in (release / machine / "var/log").glob("homerealm@*.log")}
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{logs}"
    seen: dict[str, list[object]] = {}
    for name, what in re.findall(r"^SEEN (\w+) (.*)$", done.stdout, re.MULTILINE):
        seen.setdefault(name, []).append(json.loads(what))
    return seen


def see(name: str, *words: str) -> str:
    """The command that lets a visitor say what it sees."""
    visitor = " ".join([sys.executable, "-m", "tests.fleet.visitor", *words])
    return f"seen=$(cd {ROOT}; {visitor}); echo; echo SEEN {name} $seen"


@pytest.fixture(scope="module")
def first(release: Path) -> dict[str, list[object]]:
    """From nothing to TLS; people sign in while replicas come and go; a backup, an upgrade, a disaster, a restore."""
    told = chapters()
    password = '"$(cat /srv/homerealm/first-password)"'
    new_release, *restart = told["Upgrade"]
    return walk(release, "first", [
        *(commands for step in range(1, 8) for commands in told[f"Step {step}"]),
        see("sign_in", "sign-in", "ada", password),
        see("sign_in", "across", "ada", password),
        "systemctl start homerealm@8002; homerealm-ready",
        *told["Watch them"],
        *told["Change the configuration"],
        "old_kv=$(cat /srv/homerealm/secrets/key_value) old_db=$(cat /srv/homerealm/secrets/database)",
        *told["Change the secrets"],
        # None of the old passwords opens anything.
        'if REDISCLI_AUTH=$old_kv redis-cli -e PING; then exit 1; fi',
        'if PGPASSWORD=$old_db psql -h 127.0.0.1 -U homerealm -c "SELECT 1" homerealm; then exit 1; fi',
        *told["Back up"],
        see("keys", "keys"),
        see("code", "code"),
        new_release,
        "readlink /opt/homerealm",
        see("killed", "kill-web", "8002"),
        see("code", "code"),
        *restart,
        see("code", "code"),
        # The disaster: other keys, another password, and somebody who was not there.
        "homerealm keys rotate --tenant acme --at-once",
        "echo another-password-of-hers | homerealm user set-password --tenant acme ada",
        "rm -f /srv/homerealm/secrets/secret_key /srv/homerealm/config/broker.yaml",
        "sed 's/acme/late/' /srv/homerealm/config/tenants/acme.yaml > /srv/homerealm/config/tenants/late.yaml",
        *told["Restore on the same machine"],
        "test ! -e /srv/homerealm/config/tenants/late.yaml",
        see("sign_in", "sign-in", "ada", password),
        see("keys", "keys"),
    ])  # fmt: skip


def test_an_operator_gets_to_two_replicas_and_back_from_a_backup(first: dict[str, list[object]]) -> None:
    assert first["sign_in"] == [{"page": "account"}] * 3
    before, after = first["keys"]
    assert before == after, "the restored broker signs with other keys"


def test_an_upgrade_leaves_the_code_of_running_replicas_alone(first: dict[str, list[object]]) -> None:
    """Also a process that a supervisor starts anew is of the release that the others are of."""
    before, meanwhile, after = first["code"]
    assert isinstance(before, list)
    assert isinstance(after, list)
    assert before == meanwhile
    assert len(before) == len(after) == 1
    assert before != after


def test_a_backup_becomes_the_same_broker_on_a_new_machine(release: Path, first: dict[str, list[object]]) -> None:
    shutil.copytree(release / "first/var/backups", release / "second/var/backups")
    password = (release / "first/srv/homerealm/first-password").read_text().strip()
    seen = walk(release, "second", [
        *chapters()["Restore on a new machine"],
        see("sign_in", "sign-in", "ada", f"'{password}'"),
        see("keys", "keys"),
    ])  # fmt: skip
    assert seen["sign_in"] == [{"page": "account"}]
    assert seen["keys"] == first["keys"][:1]
