"""YAML to a tree that knows where everything was written. Strict: what is ambiguous is refused (SECURITY 17).

The tree is built from parser events and not by PyYAML's composer: the composer calls itself for every level, and in
its C version a file of 100,000 opening brackets ends the process with a segmentation fault. Events also tell which
tags were written and which were only guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import yaml

from broker.settings.problems import Position, Problems

MAX_BYTES = 16 * 1024 * 1024
"""Of one file."""
MAX_DEPTH = 32
MAX_ALIASED = 10_000
"""How many nodes aliases may stand for in one file: "billion laughs" ends here."""

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True, eq=False)
class Scalar:
    position: Position
    text: str
    plain: bool
    """Written without quotes, or put together from references: may mean a number, a boolean or nothing."""
    size: int = 1


@dataclass(slots=True, eq=False)
class Items:
    position: Position
    items: list[Node] = field(default_factory=list)
    size: int = 1


@dataclass(slots=True, eq=False)
class Table:
    position: Position
    entries: dict[str, Node] = field(default_factory=dict)
    keys: dict[str, Position] = field(default_factory=dict)
    size: int = 1


Node = Scalar | Items | Table


class Unreadable(Exception):
    """The file cannot be read any further; why is among the problems."""


def read_bytes(path: Path, problems: Problems) -> bytes | None:
    """The content of one file; None when it cannot be read, and why is among the problems."""
    try:
        return path.read_bytes()
    except OSError as error:
        problems.add(
            Position(str(path), 1, 1), "", f"cannot be read ({error.strerror}); a readable file would be right"
        )
        return None


def parse(path: Path, content: bytes, problems: Problems) -> Table | None:
    """The tree of one file. None when nothing of it can be used; why is among the problems."""
    name = str(path)
    try:
        return _Builder(name, problems).build(_decode(content, name, problems))
    except Unreadable:
        return None


def _decode(content: bytes, name: str, problems: Problems) -> str:
    def fail(offset: int, message: str) -> NoReturn:
        before = content[:offset]
        line_start = before.rfind(b"\n") + 1
        column = len(before[line_start:].decode("utf-8", "replace")) + 1
        problems.add(Position(name, before.count(b"\n") + 1, column), "", message)
        raise Unreadable

    if len(content) > MAX_BYTES:
        fail(0, f"is larger than {MAX_BYTES // 1024 // 1024} MB; several smaller tenant files would be right")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        fail(error.start, "is not UTF-8 from here on; a text file saved as UTF-8 would be right")
    if control := _CONTROL.search(text):
        offset = len(text[: control.start()].encode())
        fail(offset, f"has the control character U+{ord(control[0]):04X} here; a text without it would be right")
    return text.removeprefix("\ufeff")


class _Frame(NamedTuple):
    node: Items | Table
    anchor: str | None
    key: list[tuple[str, Position]]
    """The key whose value comes next; empty while a key is expected."""


class _Builder:
    def __init__(self, name: str, problems: Problems) -> None:
        self.name = name
        self.problems = problems
        self.anchors: dict[str, Node | None] = {}
        self.stack: list[_Frame] = []
        self.aliased = 0
        self.root: Node | None = None

    def build(self, text: str) -> Table | None:
        documents = 0
        for event in self._events(text):
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._fail(event, "a second document begins here; one document a file would be right")
            elif isinstance(event, yaml.ScalarEvent):
                self._scalar(event)
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event)
            elif isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
                self._open(event)
            elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
                self._close()
        if self.root is None or (isinstance(self.root, Scalar) and self.root.plain and not self.root.text):
            self.problems.add(Position(self.name, 1, 1), "", "is empty; keys and values would be right")
            return None
        if not isinstance(self.root, Table):
            self.problems.add(self.root.position, "", "is not a mapping; keys and values would be right")
            return None
        return self.root

    def _events(self, text: str) -> Iterator[Any]:
        try:
            yield from yaml.parse(text, Loader=_LOADER)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            message = f"is not YAML: {error.problem or error.context}"
            written = text.splitlines()[line - 1 : line]
            if written and "\t" in written[0][: len(written[0]) - len(written[0].lstrip())]:
                column = written[0].index("\t") + 1
                message = "has a tab in the indentation; spaces would be right"
            self.problems.add(Position(self.name, line, column), "", message)
            raise Unreadable from None
        except (yaml.YAMLError, ValueError):
            self.problems.add(Position(self.name, 1, 1), "", "is not YAML; keys and values would be right")
            raise Unreadable from None

    def _at(self, event: Any) -> Position:
        return Position(self.name, event.start_mark.line + 1, event.start_mark.column + 1)

    def _fail(self, event: Any, message: str) -> NoReturn:
        self.problems.add(self._at(event), "", message)
        raise Unreadable

    def _check_tag(self, event: Any) -> None:
        if event.tag is not None and event.tag != "!":
            self._fail(event, f"has the tag {event.tag[:60]}; a value without a tag would be right")

    def _scalar(self, event: Any) -> None:
        frame = self.stack[-1] if self.stack else None
        if frame and isinstance(frame.node, Table) and not frame.key:
            self._check_tag(event)
            frame.key.append((event.value, self._at(event)))
            return
        self._check_tag(event)
        node = Scalar(self._at(event), event.value, plain=not event.style)
        if event.anchor:
            self.anchors[event.anchor] = node
        self._add(node)

    def _alias(self, event: Any) -> None:
        if self.stack and isinstance(self.stack[-1].node, Table) and not self.stack[-1].key:
            self._fail(event, "is an alias as a key; a text would be right")
        if event.anchor not in self.anchors:
            self._fail(event, f"refers to &{event.anchor[:40]}, which stands nowhere above")
        node = self.anchors[event.anchor]
        if node is None:
            self._fail(event, f"refers to &{event.anchor[:40]}, which contains it")
        self.aliased += node.size
        if self.aliased > MAX_ALIASED:
            self._fail(event, f"aliases stand for more than {MAX_ALIASED} values; writing them out would be right")
        self._add(node)

    def _open(self, event: Any) -> None:
        if self.stack and isinstance(self.stack[-1].node, Table) and not self.stack[-1].key:
            self._fail(event, "is a list or a mapping as a key; a text would be right")
        if len(self.stack) >= MAX_DEPTH:
            self._fail(event, f"is nested more than {MAX_DEPTH} levels deep")
        self._check_tag(event)
        position = self._at(event)
        node: Items | Table = Items(position) if isinstance(event, yaml.SequenceStartEvent) else Table(position)
        if event.anchor:
            self.anchors[event.anchor] = None
        self.stack.append(_Frame(node, event.anchor, []))

    def _close(self) -> None:
        frame = self.stack.pop()
        if frame.anchor:
            self.anchors[frame.anchor] = frame.node
        self._add(frame.node)

    def _add(self, node: Node) -> None:
        if not self.stack:
            self.root = node
            return
        parent, _, pending = self.stack[-1]
        parent.size += node.size
        if isinstance(parent, Items):
            parent.items.append(node)
            return
        key, position = pending.pop()
        if key in parent.entries:
            first = parent.keys[key]
            self.problems.add(position, key, f"is here twice; it stands in line {first.line} already")
        else:
            parent.entries[key] = node
            parent.keys[key] = position


def find(node: Node, path: tuple[Any, ...]) -> tuple[Node, Position]:
    """The node that a path leads to, or the last one on the way; and where its value stands.

    Path items that the file does not have (tags of unions, missing keys) are passed over.
    """
    for step in path:
        if isinstance(node, Table) and step in node.entries:
            node = node.entries[step]
        elif isinstance(node, Items) and isinstance(step, int) and 0 <= step < len(node.items):
            node = node.items[step]
    return node, node.position
