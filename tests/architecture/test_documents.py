"""Documents that a program can hold to the truth."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.architecture.source import ROOT, files

LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


def _generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_generated_in_the_docs_is_fresh() -> None:
    stale = [
        str(path.relative_to(ROOT))
        for path, text in _generate().generated().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    assert stale == [], "make docs"


def test_the_architecture_page_is_three_pages_at_most() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    prose = re.sub(r"(?s)<!-- generated.*?<!-- end -->", "", text)
    assert len(prose.split()) <= 1500


def test_the_readme_fits_on_one_screen() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 45


@pytest.mark.parametrize("page", [name for name in files() if name.endswith(".md") and "peers/node" not in name])
def test_a_link_between_documents_leads_somewhere(page: str) -> None:
    text = re.sub(r"(?s)```.*?```", "", (ROOT / page).read_text())
    broken = [link for link in LINK.findall(text) if not (ROOT / page).parent.joinpath(link).exists()]
    assert broken == []


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    index = set(LINK.findall((folder / "README.md").read_text()))
    pages = {path.name for path in folder.glob("*.md")} - {"README.md"}
    assert pages == index


def test_every_folder_of_the_tree_is_on_the_architecture_page() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    tree = text[text.index("## The tree") : text.index("## Floors")]
    folders = [path.name for path in Path(ROOT / "broker").iterdir() if (path / "__init__.py").exists()]
    assert [name for name in folders if f"{name}/" not in tree] == []
