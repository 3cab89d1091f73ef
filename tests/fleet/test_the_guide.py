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
SECTION = re.compile(r"^## (?:\d+\. )?(.+)$", re.MULTILINE)
HERE = Path(__file__).parent
PYTHON = "/usr/bin/python3"
"""Debian's, as the guide has it: ours may lie where a service's user cannot look."""


def chapters() -> dict[str, str]:
    """The commands of each chapter, in order."""
    parts = SECTION.split(GUIDE)[1:]
    found = {}
    for title, text in zip(parts[::2], parts[1::2], strict=True):
        found[title] = "".join(re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
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


def test_an_operator_gets_to_two_replicas_and_back_from_a_backup(release: Path) -> None:
    """Install, configure, start, TLS; people sign in while replicas come and go; a backup, a disaster, a restore."""
    told = chapters()
    visitor = f"{sys.executable} -m tests.fleet.visitor"
    first = '"$(cat /srv/homerealm/first-password)"'
    script = [
        "set -eu",
        *(told[title] for title in ("Install", "PostgreSQL and Redis", "Configure", "Two replicas", "TLS")),
        f"cd {ROOT}; echo; echo SEEN first $({visitor} sign-in ada {first})",
        f"echo SEEN across $({visitor} across ada {first})",
        "systemctl start homerealm@8002",
        told["Change the configuration"],
        told["Stop, upgrade, scale"],
        told["Back up"],
        f"cd {ROOT}; echo SEEN keys $({visitor} keys)",
        # The disaster: other keys, another password, and somebody who was not there.
        "cd /srv/homerealm",
        "homerealm keys rotate --tenant acme --at-once",
        "echo another-password-of-hers | homerealm user set-password --tenant acme ada",
        "rm -rf /srv/homerealm/config /srv/homerealm/secrets/secret_key",
        "install -d -o root -g homerealm -m 0750 /srv/homerealm/config",
        told["Restore"],
        f"cd {ROOT}; echo; echo SEEN restored $({visitor} sign-in ada {first})",
        f"echo SEEN keys $({visitor} keys)",
        "systemctl stop homerealm@8001 homerealm@8002",
    ]
    walk = release / "walk.sh"
    walk.write_text("\n".join(script))
    done = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", HERE / "machine.sh", release, "bash", walk],
        capture_output=True, text=True, timeout=300, cwd=ROOT,
    )  # fmt: skip
    logs = {path.name: path.read_text()[-3000:] for path in (release / "root/var/log").glob("homerealm@*.log")}
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{logs}"
    seen: dict[str, list[object]] = {}
    for name, what in re.findall(r"^SEEN (\w+) (.*)$", done.stdout, re.MULTILINE):
        seen.setdefault(name, []).append(json.loads(what))
    assert seen["first"] == seen["across"] == seen["restored"] == [{"page": "account"}]
    before, after = seen["keys"]
    assert before == after, "the restored broker signs with other keys"
