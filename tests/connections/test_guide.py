"""The guide for authors of connections is run as its reader would run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/guides/connection-authors.md").read_text()
FILES = dict(re.findall(r"```python\n# (\S+\.py)\n(.*?)```", GUIDE, re.DOTALL))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, code in FILES.items():
        (tmp_path / name).write_text(code)
    return tmp_path


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "MYPYPATH": str(folder)}
    return subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)


def test_the_preset_of_the_guide_passes_the_contract_of_the_guide(folder: Path) -> None:
    done = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_gitlab_connection.py")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > 100


def test_the_connection_of_the_guide_signs_people_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flask import Flask, jsonify, request

    from broker.core.values import ConnectionId
    from broker.testing.tools import Workbench

    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "loft_connection", raising=False)
    import loft_connection

    loft = Flask("loft")

    @loft.post("/check")
    def check():
        right = request.headers["Authorization"] == "Bearer k3y" and request.form["password"] == "coo"
        return jsonify(id=7) if right else ("", 401)

    bench = Workbench()
    bench.world["loft.test"] = loft
    written = {"id": "loft", "type": "loft", "url": "https://loft.test/check", "key": "k3y"}
    settings = loft_connection.LoftSettings.model_validate(written)
    connection = loft_connection.Loft(ConnectionId("loft"), settings, bench.tools)
    identity = connection.check_password("ada", "coo")
    assert identity is not None
    assert identity.subject == "7"
    assert connection.check_password("ada", "moo") is None


def test_the_code_of_the_guide_keeps_the_house_rules(folder: Path) -> None:
    names = sorted(name for name in FILES if not name.startswith("test_"))
    done = run(folder, "-m", "mypy", "--strict", *names)
    assert done.returncode == 0, done.stdout
