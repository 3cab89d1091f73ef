"""What `make dist` makes: a source that is whole, a wheel made from it, and a list of all that it is made of."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.source import copy_to, files
from tests.servers import ROOT

pytestmark = [pytest.mark.packaging, pytest.mark.xdist_group("packaging")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOBODY_READS = {".gitignore"}
"""Of what git knows, what a source that is no checkout has no use for."""


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `make dist` fills, in a copy of what git knows, with the packages that are installed here."""
    source = tmp_path_factory.mktemp("source")
    copy_to(source)
    environment = Path(sys.prefix)
    done = subprocess.run(
        ["make", f"--assume-old={environment}/installed.dev", f"VENV={environment}", "dist"],
        cwd=source, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return source / "dist"


@pytest.fixture(scope="module")
def unpacked(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    [archive] = dist.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    [top] = folder.iterdir()
    return top


@pytest.fixture(scope="module")
def materials(dist: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((dist / "homerealm.cdx.json").read_text())
    return found


def test_it_leaves_a_wheel_a_source_and_a_bill_of_materials_and_nothing_else(dist: Path) -> None:
    stem = f"homerealm-{PROJECT['version']}"
    assert {path.name for path in dist.iterdir()} - {".gitignore"} == {
        f"{stem}-py3-none-any.whl", f"{stem}.tar.gz", "homerealm.cdx.json",
    }  # fmt: skip


def test_the_source_is_every_file_of_the_project(unpacked: Path) -> None:
    shipped = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert shipped - NOBODY_READS == {*files(), "PKG-INFO"} - NOBODY_READS


def test_every_page_that_a_page_of_the_source_leads_to_is_there(unpacked: Path) -> None:
    dead, found = [], 0
    for page in unpacked.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target and not target.startswith("mailto:"):
                found += 1
                if not (page.parent / target).exists():
                    dead.append(f"{page.relative_to(unpacked)}: {target}")
    assert dead == []
    assert found > 50


def test_every_file_that_the_makefile_names_is_in_the_source(unpacked: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"(?<![\w$/{(])[A-Za-z][\w./-]*\.(?:py|sh|txt|toml|md|json)\b", makefile))
    missing = {name for name in named if not (unpacked / name).exists()}
    assert missing <= {"dist/homerealm.cdx.json", "docs/benchmarks.md"}, "only what it makes itself"
    assert {"requirements-dev.txt", "benchmarks/run.py", "tests/prerequisites.sh"} <= named


def test_the_wheel_from_the_source_is_that_from_the_checkout(dist: Path) -> None:
    [wheel] = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    product = {name for name in files() if name.startswith(("broker/", "connections/"))}
    data = {f"broker/_data/{name}" for name in files() if name.startswith(("templates/", "config/"))}
    assert names == product | data


def test_the_bill_of_materials_is_ours(materials: dict[str, Any]) -> None:
    assert materials["bomFormat"] == "CycloneDX"
    ours = materials["metadata"]["component"]
    assert (ours["name"], ours["version"], ours["type"]) == ("homerealm", PROJECT["version"], "application")
    assert [one["license"]["id"] for one in ours["licenses"]] == [PROJECT["license"]]


def test_it_names_each_package_that_is_installed_with_us_its_version_and_its_licence(materials: dict[str, Any]) -> None:
    components = {canonicalize_name(one["name"]): one for one in materials["components"]}
    locked = dict(
        re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    )
    for text in PROJECT["dependencies"]:
        wanted = Requirement(text)
        if wanted.marker is None or wanted.marker.evaluate():
            version = components[canonicalize_name(wanted.name)]["version"]
            assert wanted.specifier.contains(version), wanted.name
    versions = {canonicalize_name(name): version for name, version in locked.items()}
    assert len(components) > len(PROJECT["dependencies"]), "what they need themselves is there, too"
    for name, one in components.items():
        assert one["version"] == versions[name], name
        licences = [found.get("expression") or found["license"].get("id") or found["license"]["name"]
                    for found in one["licenses"]]  # fmt: skip
        assert all(licences), name
        assert one["purl"] == f"pkg:pypi/{one['name'].lower().replace('_', '-')}@{one['version']}"


def test_it_says_who_needs_whom(materials: dict[str, Any]) -> None:
    needs = {one["ref"]: one.get("dependsOn", []) for one in materials["dependencies"]}
    direct = {canonicalize_name(ref.partition("==")[0]) for ref in needs[materials["metadata"]["component"]["bom-ref"]]}
    wanted = [Requirement(text) for text in PROJECT["dependencies"]]
    assert direct == {canonicalize_name(one.name) for one in wanted if one.marker is None or one.marker.evaluate()}
