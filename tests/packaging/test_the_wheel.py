"""What people install is the wheel: it has everything, installs into an empty environment, and works there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.architecture.source import copy_to
from tests.crash.processes import wait_until
from tests.servers import ROOT, answers, free_ports, listens, running, short_folder

pytestmark = [pytest.mark.packaging, pytest.mark.xdist_group("packaging")]
DATA = ("templates", "config")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what git knows, so that nothing else can slip in."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    copy_to(source)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("homerealm-*.whl"))


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own with the wheel in it, and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    if uv := shutil.which("uv"):
        steps = [
            [uv, "venv", "-q", "--python", sys.executable, folder],
            [uv, "pip", "install", "-q", "--python", folder / "bin/python", wheel],
        ]
    else:
        steps = [[sys.executable, "-m", "venv", folder], [folder / "bin/python", "-m", "pip", "install", "-q", wheel]]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def _inside(environment: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HOMEREALM", "COV"))}
    return subprocess.run(
        [environment / "bin" / command[0], *command[1:]],
        cwd=folder, env=plain, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_every_module_and_every_data_file_is_in_the_wheel(names: set[str]) -> None:
    missing = []
    for top in ("broker", "connections"):
        missing += [
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / top).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts and path.relative_to(ROOT).as_posix() not in names
        ]
    for top in DATA:
        missing += [
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / top).rglob("*")
            if path.is_file() and f"broker/_data/{path.relative_to(ROOT).as_posix()}" not in names
        ]
    assert missing == []


def test_the_wheel_has_migrations_scripts_and_the_license(names: set[str]) -> None:
    assert any(name.startswith("broker/stores/sql/migrations/") and name.endswith(".py") for name in names)
    assert any(name.startswith("broker/stores/kv/") and name.endswith(".lua") for name in names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert "broker/py.typed" in names


def test_the_wheel_holds_nothing_but_the_product(names: set[str]) -> None:
    strays = [name for name in names if not name.startswith(("broker/", "connections/", "homerealm-"))]
    assert strays == []
    assert [name for name in names if name.endswith((".pyc", ".key", ".db")) or "/var/" in name] == []


def test_the_installed_command_says_its_version(environment: Path, tmp_path: Path) -> None:
    done = _inside(environment, tmp_path, "homerealm", "--version")
    assert done.returncode == 0, done.stderr
    assert "0.1.0" in done.stdout


def test_the_installed_packages_come_from_the_wheel(environment: Path, tmp_path: Path) -> None:
    done = _inside(environment, tmp_path, "python", "-W", "error", "-c", "import broker; print(broker.__file__)")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(environment)


def test_the_demo_runs_from_the_wheel_and_leaves_nothing_behind(environment: Path, tmp_path: Path) -> None:
    broker = free_ports(3)
    app, upstream = broker + 1, broker + 2
    with short_folder() as folder:
        command = [environment / "bin" / "homerealm", "demo", "--port", str(broker), "--folder", folder / "demo"]
        ready = lambda: answers(broker, "/healthz") and answers(app, "/") and answers(upstream, "/healthz")  # noqa: E731
        with running(command, ready, log=tmp_path / "demo.log", cwd=folder, seconds=60):
            for tenant in ("acme", "globex"):
                assert answers(broker, f"/t/{tenant}/.well-known/openid-configuration", seconds=20)
            assert answers(broker, "/dev/mailbox", seconds=20)
        printed = (tmp_path / "demo.log").read_text()
    assert f"http://localhost:{app}" in printed
    wait_until(lambda: not any(map(listens, (broker, app, upstream))), "nobody listens")
