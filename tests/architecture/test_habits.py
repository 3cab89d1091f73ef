"""The habits of the house that a program can check."""

from __future__ import annotations

import ast
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.source import ROOT, files, modules

DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "managers"}
LONGEST = 500  # lines; the aim is 400, and what is longer than this has two jobs
WAITING = {  # where another process sets the pace; a deadline ends each of these loops
    "tests/servers.py",  # a server starts
    "tests/postgresql.py",  # so does this one
    "tests/kv_servers.py",  # a server starts, a replica is promoted
    "tests/crash/processes.py",  # a server starts, or dies
    "tests/crash/test_kill_nine.py",  # the moment of the kill is what is tested
    "tests/browser/journeys/people.py",  # the worker delivers a mail
}

TRACES = re.compile(
    "|".join(
        [
            r"/[w]ork/(?:main|shared|\.)",  # paths of one particular machine
            r"/tmp/[b]rief",
            r"/opt/[w]heels",
            r"/(?:root|home/[a-z]+)/\.[a-z]",
            r"[f]iles\.pythonhosted|[p]ypi\.org/simple|[r]egistry\.npmjs|[P]IP_(?:FIND_LINKS|INDEX)|--[f]ind-links|--[i]ndex-url",
            r"(?i:[c]laude|[a]nthropic|[c]hatgpt|[c]opilot|\b[l]lm\b|[g]enerated by (?:an? )?AI)",
        ]
    )
)


def test_no_file_is_called_after_a_drawer() -> None:
    named = [name for name in files() if DRAWERS & set(re.split(r"[/_.\-]", name.lower())) and name.endswith(".py")]
    assert named == []


@pytest.mark.parametrize("module", modules("broker", "connections", "tests", "benchmarks", "docs"), ids=str)
def test_a_module_has_one_job_and_a_length_to_match(module) -> None:
    assert len(module.text.splitlines()) <= LONGEST


def test_shipped_code_raises_and_never_asserts() -> None:
    found = [
        f"{module}:{node.lineno}"
        for module in modules()
        if not module.path.startswith("broker/testing/")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Assert)
    ]
    assert found == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [m.path for m in modules() if m.text.strip() and not ast.get_docstring(m.tree)]
    assert silent == []


def test_every_public_function_of_the_core_says_what_it_does() -> None:
    silent = [
        f"{module}:{node.name}"
        for module in modules("broker/core")
        for node in module.tree.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    assert silent == []


def test_nothing_in_the_tree_tells_on_what_machine_it_was_made() -> None:
    told = []
    for name in files():
        content = (ROOT / name).read_bytes()
        if b"\0" in content[:1024]:
            continue
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
            if found := TRACES.search(line):
                told.append(f"{name}:{number}: {found[0]}")
    assert told == []


def test_test_names_are_sentences() -> None:
    mumbled = [
        f"{module}:{node.name}"
        for module in modules("tests", "broker/testing")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and len(node.name.split("_")) < 4
    ]
    assert mumbled == []


def test_tests_neither_sleep_nor_mock() -> None:
    found = [
        f"{module}:{getattr(node, 'lineno', 1)}"
        for module in modules("tests", "broker/testing")
        if module.path not in WAITING
        for node in ast.walk(module.tree)
        if (isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "sleep"})
        or (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unittest"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("file", "extras"), [("requirements.txt", []), ("requirements-dev.txt", ["test", "dev", "fast"])]
)
def test_the_lists_of_packages_are_what_pyproject_asks_for(file: str, extras: list[str]) -> None:
    pinned = {
        canonicalize_name(name): version
        for name, version in re.findall(r"(?m)^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;]+)", (ROOT / file).read_text())
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    requirements = [Requirement(line) for line in wanted]
    unmet = [
        str(requirement)
        for requirement in requirements
        if requirement.name != "homerealm"
        and not requirement.specifier.contains(pinned.get(canonicalize_name(requirement.name), "0"))
    ]
    assert unmet == [], "make lock"


def test_the_two_lists_of_packages_hold_versions_and_hashes_and_no_addresses() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        text = (ROOT / name).read_text()
        packages = re.findall(r"(?m)^[A-Za-z0-9].*$", text)
        assert packages
        assert all("==" in line and line.endswith("\\") for line in packages), name
        assert "://" not in text
    lock = (ROOT / "tests/peers/node/package-lock.json").read_text()
    assert '"integrity"' in lock
    assert '"resolved"' not in lock
