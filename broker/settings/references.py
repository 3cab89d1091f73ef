"""`${ENV:NAME}` and `${FILE:path}` in values: a whole value, or part of one. `$${` is a literal `${`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from broker.settings.problems import Position, Problems
from broker.settings.source import Items, Node, Scalar

MAX_FILE_BYTES = 1024 * 1024

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)(\})?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class _Unresolved(Exception):
    """Says what is wrong, and what would be right."""


class Found(NamedTuple):
    """What a reference led to. Counts as content, and as secret."""

    kind: str
    name: str
    value: str


class References:
    """Resolves what a tree refers to, in place.

    `found` is in the order of the files. `files` are those that were asked for, readable or not. `unresolved` holds
    the scalars that are wrong, by `id()`: the load fails, and nobody complains about them twice.
    """

    def __init__(self, root: Path, environ: Mapping[str, str], problems: Problems) -> None:
        self.root = root
        self.environ = environ
        self.problems = problems
        self.found: list[Found] = []
        self.files: set[Path] = set()
        self.unresolved: dict[int, Scalar] = {}

    def resolve(self, node: Node) -> None:
        """Every scalar below, each once: aliased nodes are shared."""
        seen: set[int] = set()
        waiting: list[tuple[str, Node]] = [("", node)]
        while waiting:
            key, node = waiting.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, Scalar):
                if "${" in node.text:
                    self._scalar(node, key)
            elif isinstance(node, Items):
                waiting.extend((key, item) for item in node.items)
            else:
                waiting.extend((name, value) for name, value in node.entries.items())

    def _scalar(self, node: Scalar, key: str) -> None:
        used = False

        def put(match: re.Match[str]) -> str:
            nonlocal used
            if match[1] is None:
                return "${"
            used = True
            if match[2] is None:
                raise _Unresolved("has a ${ without its }; $${ would be right for the two characters themselves")
            kind, colon, name = match[1].partition(":")
            if colon and kind in ("ENV", "FILE"):
                return self._look_up(kind, name)
            raise _Unresolved(
                "has a ${ that is neither ${ENV:NAME} nor ${FILE:path}; $${ would be right for a plain one"
            )

        try:
            node.text = _REFERENCE.sub(put, node.text)
        except _Unresolved as error:
            self._wrong(node.position, key, str(error))
            self.unresolved[id(node)] = node
            return
        node.plain = node.plain or used

    def _wrong(self, position: Position, key: str, message: str) -> None:
        self.problems.add(position, key, message)

    def still(self, found: Iterable[Found]) -> bool:
        """Whether references of an earlier time lead to the same values now. They then count as found here."""
        found = tuple(found)
        try:
            same = all(self._value(one.kind, one.name) == one.value for one in found)
        except _Unresolved:
            return False
        if same:
            self.found += found
        return same

    def _look_up(self, kind: str, name: str) -> str:
        value = self._value(kind, name)
        self.found.append(Found(kind, name, value))
        return value

    def _value(self, kind: str, name: str) -> str:
        return self._environment(name) if kind == "ENV" else self._file(name)

    def _environment(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise _Unresolved("names an environment variable that cannot exist; ${ENV:NAME} would be right")
        value = self.environ.get(name)
        if value is None:
            raise _Unresolved(f"needs the environment variable {name}, which is not set")
        if not value:
            raise _Unresolved(f"needs the environment variable {name}, which is empty")
        return self._text(value, f"the environment variable {name}")

    def _file(self, name: str) -> str:
        if not name or "\0" in name:
            raise _Unresolved("names no file; ${FILE:path} would be right")
        path = self.root / name
        self.files.add(path)
        try:
            with path.open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise _Unresolved(f"needs the file {path}, which cannot be read ({error.strerror})") from None
        if len(content) > MAX_FILE_BYTES:
            raise _Unresolved(f"needs the file {path}, which is larger than {MAX_FILE_BYTES // 1024} kB")
        try:
            value = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise _Unresolved(f"needs the file {path}, which is not UTF-8") from None
        # Editors end a file with a line break; no secret ends with one.
        value = value.removesuffix("\n").removesuffix("\r")
        if not value:
            raise _Unresolved(f"needs the file {path}, which is empty")
        return self._text(value, f"the file {path}")

    def _text(self, value: str, where: str) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _Unresolved(f"needs {where}, which is not UTF-8") from None
        self.problems.hide(value)
        return value
