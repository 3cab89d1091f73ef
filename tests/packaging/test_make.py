"""The two commands, and the others."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.servers import ROOT


def test_make_alone_lists_what_it_can_do() -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make"], cwd=ROOT, env=plain, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    listed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("make ")]
    benchmarks = ["bench", "bench-peers", "bench-growth"]
    assert sorted(listed) == sorted(
        ["help", "demo", "test", "test-deep", "check", "fix", "docs", "dist", "faults", *benchmarks]
    )
    assert listed[0] == "help"


def test_make_demo_says_so_when_there_is_no_python_that_is_new_enough(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "requirements.txt").touch()
    done = subprocess.run(
        ["make", "-f", ROOT / "Makefile", "demo", "PYTHON="], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "Python 3.11 or later" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("script", [".ci/run", "tests/prerequisites.sh", "tests/scratch.sh"])
def test_a_shell_script_is_a_shell_script(script: str) -> None:
    assert subprocess.run(["sh", "-n", ROOT / script], timeout=60).returncode == 0


def test_ci_runs_check_and_test_and_forbids_skips() -> None:
    commands = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line[:1] not in ("", "#")]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert commands[0] == "set -eu", "what fails ends it"
    assert commands[-3:] == ["export CI=1", "make static", "make test"]
