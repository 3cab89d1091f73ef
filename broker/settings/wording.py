"""What pydantic found, in our words and at its place in the file. Never quotes a value: it may be a secret."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from pydantic import ValidationError

from broker.settings.fit import ANYTHING, Shape
from broker.settings.problems import Position, Problems, guess
from broker.settings.source import Items, Node, Scalar, Table, find

_KINDS: Mapping[type, str] = {Scalar: "a single value", Items: "a list", Table: "a mapping"}
_ID_KEYS = ("id", "client_id")


def _plural(count: int, one: str) -> str:
    return f"{count} {one}" if count == 1 else f"{count} {one}s"


_WORDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "int_type": lambda _: "is not an integer; digits without quotes would be right, such as 5",
    "int_parsing": lambda _: "is not an integer; digits without quotes would be right, such as 5",
    "int_from_float": lambda _: "is not an integer; digits without quotes would be right, such as 5",
    "float_type": lambda _: "is not a number; digits without quotes would be right, such as 0.5",
    "bool_type": lambda _: "is not a boolean; true or false, without quotes, would be right",
    "bool_parsing": lambda _: "is not a boolean; true or false, without quotes, would be right",
    "literal_error": lambda ctx: f"is not one of the values that exist; {ctx['expected']} would be right",
    "enum": lambda ctx: f"is not one of the values that exist; {ctx['expected']} would be right",
    "greater_than": lambda ctx: f"is too small; more than {ctx['gt']} would be right",
    "greater_than_equal": lambda ctx: f"is too small; at least {ctx['ge']} would be right",
    "less_than": lambda ctx: f"is too large; less than {ctx['lt']} would be right",
    "less_than_equal": lambda ctx: f"is too large; at most {ctx['le']} would be right",
    "string_too_short": lambda ctx: f"is too short; at least {_plural(ctx['min_length'], 'character')} would be right",
    "string_too_long": lambda ctx: f"is too long; at most {_plural(ctx['max_length'], 'character')} would be right",
    "too_short": lambda ctx: f"has too few entries; at least {ctx['min_length']} would be right",
    "too_long": lambda ctx: f"has too many entries; at most {ctx['max_length']} would be right",
    "string_pattern_mismatch": lambda ctx: (
        f"has not the right form; a text that matches {ctx['pattern']} would be right"
    ),
    "wrong": lambda ctx: str(ctx["message"]),
    "value_error": lambda ctx: str(ctx["error"]),
}
_WANTED: Mapping[str, str] = {
    "string_type": "a text",
    "tuple_type": "a list, such as [one, two],",
    "list_type": "a list, such as [one, two],",
    "set_type": "a list, such as [one, two],",
    "frozen_set_type": "a list, such as [one, two],",
    "dict_type": "a mapping of keys and values",
    "model_type": "a mapping of keys and values",
    "model_attributes_type": "a mapping of keys and values",
}


def report(
    error: ValidationError,
    node: Node,
    shape: Shape,
    problems: Problems,
    *,
    prefix: str = "",
    unresolved: Collection[int] = frozenset(),
) -> None:
    """Add every mistake that a model found in a tree. Of `unresolved` scalars, by `id()`, we know already."""
    for item in error.errors(include_url=False, include_input=False):
        kind, loc, ctx = item["type"], tuple(item["loc"]), item.get("ctx") or {}
        if kind == "wrong" and ctx.get("key"):
            loc += tuple(ctx["key"].split("."))
        bad_key = bool(loc) and loc[-1] == "[key]"
        if bad_key:
            loc = loc[:-1]
        found, position = find(node, loc)
        if id(found) in unresolved and kind != "extra_forbidden":
            continue
        key = join(prefix, name_of(node, loc))
        if kind == "extra_forbidden":
            position, message = _unknown_key(node, shape, loc)
        elif kind == "missing":
            message = "is missing; this key has no default"
        elif kind in _WANTED:
            message = f"is {_described(found)}; {_WANTED[kind]} would be right"
        else:
            message = _WORDS[kind](ctx) if kind in _WORDS else f"is not right: {item['msg']}"
        problems.add(_key_position(node, loc, position) if bad_key else position, key, message)


def _described(node: Node) -> str:
    return "empty" if isinstance(node, Scalar) and not node.text else _KINDS[type(node)]


def _unknown_key(node: Node, shape: Shape, loc: tuple[Any, ...]) -> tuple[Position, str]:
    key = str(loc[-1])
    _, position = find(node, loc[:-1])
    position = _key_position(node, loc, position)
    if key == "<<":
        return position, "is a merge key, which YAML 1.2 no longer has; writing the values out would be right"
    known = _shape_at(shape, loc[:-1]).fields or {}
    return position, f"is not a key that exists here; {guess(key, known)}"


def _key_position(node: Node, loc: tuple[Any, ...], otherwise: Position) -> Position:
    parent, _ = find(node, loc[:-1])
    return parent.keys.get(str(loc[-1]), otherwise) if isinstance(parent, Table) else otherwise


def _shape_at(shape: Shape, loc: tuple[Any, ...]) -> Shape:
    for step in loc:
        if isinstance(step, int) and shape.item is not None:
            shape = shape.item
        elif isinstance(step, str) and shape.fields is not None and step in shape.fields:
            shape = shape.fields[step]
        elif isinstance(step, str) and shape.value is not None:
            shape = shape.value
        else:
            return ANYTHING
    return shape


def join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix and name and not name.startswith("[") else f"{prefix}{name}"


def name_of(node: Node | None, loc: tuple[Any, ...]) -> str:
    """`clients[shop].redirect_uris[0]`: entries that have an id are called by it."""
    name = ""
    for step in loc:
        if isinstance(node, Items) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
            name += f"[{entry_id(node) or step}]"
        else:
            node = node.entries.get(step) if isinstance(node, Table) else None
            name = join(name, f"[{step}]" if isinstance(step, int) else str(step))
    return name


def entry_id(node: Node) -> str | None:
    """The id of an entry of a list, if it has a usable one."""
    if isinstance(node, Table):
        for key in _ID_KEYS:
            found = node.entries.get(key)
            if isinstance(found, Scalar) and found.text.isprintable() and 0 < len(found.text) <= 64:
                return found.text
    return None
