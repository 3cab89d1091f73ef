"""From what was written to what a model expects.

A scalar stays the text that was written unless its place in the model wants something else: `client_id: 0123` is
"0123", and `no` or `12:30` are texts where a text is expected. Numbers and booleans are read by the core schema of
YAML 1.2 (`true` and `false` only), and only without quotes.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from broker.settings.overlay import NULLS
from broker.settings.source import Items, Node, Scalar

_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
# No leading zeros: 0123 is 83 in YAML 1.1 and 123 in YAML 1.2. No more digits than any of our numbers has.
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """What may stand in one place."""

    leaves: frozenset[type] = frozenset()
    """Of bool, int, float, NoneType and str."""
    fields: Mapping[str, Shape] | None = None
    """Of a model, by the key in the YAML."""
    item: Shape | None = None
    """Of a list."""
    value: Shape | None = None
    """Of a mapping with free keys."""

    @property
    def is_container(self) -> bool:
        return self.fields is not None or self.item is not None or self.value is not None


ANYTHING = Shape(frozenset({bool, int, float, type(None), str}))


@cache
def shape_of_model(model: type[BaseModel]) -> Shape:
    return Shape(fields={info.alias or name: shape_of(info.annotation) for name, info in model.model_fields.items()})


def shape_of(annotation: Any) -> Shape:
    """The shape that a type annotation describes. An annotation that we do not know takes a text."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return shape_of(arguments[0])
    if origin in (Union, types.UnionType):
        return _union([shape_of(argument) for argument in arguments])
    if origin is Literal:
        return Shape(frozenset(type(value) for value in arguments))
    if origin in (tuple, list, set, frozenset) or (isinstance(origin, type) and issubclass(origin, Iterable)):
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return Shape(value=shape_of(arguments[1]) if len(arguments) > 1 else ANYTHING)
        return Shape(item=shape_of(arguments[0]) if arguments else ANYTHING)
    if annotation is Any:
        return ANYTHING
    if isinstance(annotation, type):
        return _shape_of_class(annotation)
    return Shape(frozenset({str}))


def _shape_of_class(annotation: type) -> Shape:
    if issubclass(annotation, BaseModel):
        return shape_of_model(annotation)
    if issubclass(annotation, Enum):
        return Shape(frozenset(type(member.value) for member in annotation))
    if annotation is dict:
        return Shape(value=ANYTHING)
    if annotation in (list, tuple, set, frozenset):
        return Shape(item=ANYTHING)
    return Shape(frozenset({annotation})) if annotation in ANYTHING.leaves else Shape(frozenset({str}))


def _union(shapes: list[Shape]) -> Shape:
    return Shape(
        frozenset().union(*(shape.leaves for shape in shapes)),
        next((shape.fields for shape in shapes if shape.fields is not None), None),
        next((shape.item for shape in shapes if shape.item is not None), None),
        next((shape.value for shape in shapes if shape.value is not None), None),
    )


def fit(node: Node, shape: Shape) -> Any:
    """The value as JSON knows it. What does not fit comes out as it was written, and the model refuses it."""
    if isinstance(node, Scalar):
        return _fit_scalar(node, shape)
    if isinstance(node, Items):
        return [fit(item, shape.item or ANYTHING) for item in node.items]
    fields, rest = shape.fields or {}, shape.value or ANYTHING
    return {key: fit(value, fields.get(key, rest)) for key, value in node.entries.items()}


def _fit_scalar(node: Scalar, shape: Shape) -> Any:
    text, leaves = node.text, shape.leaves
    if not node.plain:
        return text
    if text in NULLS and (type(None) in leaves or not text or shape.is_container):
        if type(None) in leaves:
            return None
        # `connections:` with everything below it commented out is an empty list, not a mistake.
        return [] if shape.item else {} if shape.is_container else None
    if bool in leaves and text in _BOOLEANS:
        return _BOOLEANS[text]
    if int in leaves and _INTEGER.fullmatch(text):
        return int(text)
    if float in leaves and _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text
