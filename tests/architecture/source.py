"""The source tree as the architecture tests read it: files, and what each of them imports."""

from __future__ import annotations

import ast
import functools
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHIPPED = ("broker", "connections")


@dataclass(frozen=True)
class Module:
    """One Python file, by its path from the root of the project."""

    path: str
    text: str
    tree: ast.Module

    def imports(self) -> Iterator[str]:
        """Full names of what is imported anywhere in the file, late imports and those for type checkers included."""
        package = self.path.removesuffix("/__init__.py").removesuffix(".py").split("/")
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                above = ".".join(package[: len(package) - node.level + self.path.endswith("/__init__.py")])
                origin = ".".join(filter(None, [above if node.level else "", node.module or ""]))
                yield from (f"{origin}.{alias.name}" for alias in node.names)

    def __str__(self) -> str:
        return self.path


@functools.cache
def files() -> tuple[str, ...]:
    """Every file of the project, new ones included, without what git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return tuple(sorted(name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()))


def copy_to(folder: Path) -> None:
    """The project as git has it, new files included."""
    for name in files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)


@functools.cache
def modules(*folders: str) -> tuple[Module, ...]:
    """The Python files under these folders (default: everything that is shipped)."""
    tops = tuple(f"{folder}/" for folder in folders or SHIPPED)
    found = []
    for name in files():
        if name.endswith(".py") and name.startswith(tops):
            text = (ROOT / name).read_text(encoding="utf-8")
            found.append(Module(name, text, ast.parse(text, name)))
    return tuple(found)
