"""The JSON Schema of the configuration, for editors: completion and mistakes while somebody types."""

from __future__ import annotations

import ast
import copy
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from broker.settings.connection import ConnectionSettings
from broker.settings.model import BrokerFile, TenantFile

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE = "#/$defs/Reference"
_BOUND = ("enum", "pattern", "format", "minLength", "maxLength")


def schema(types: Mapping[str, type[ConnectionSettings]]) -> dict[str, Any]:
    """For broker.yaml and for tenants/*.yaml at once: a file with the key `tenant` is a tenant's."""
    models = [(model, "validation") for model in dict.fromkeys([BrokerFile, TenantFile, *types.values()])]
    for model, _ in models:
        _document(model)
    names, document = models_json_schema(models, ref_template="#/$defs/{model}")  # type: ignore[arg-type]
    definitions: dict[str, Any] = document["$defs"]
    refs = {model: reference["$ref"].rpartition("/")[2] for (model, _), reference in names.items()}
    connections = []
    for name, model in sorted(types.items()):
        entry = copy.deepcopy(definitions[refs[model]])
        for key, info in model.model_fields.items():
            if words := meaning(model, key):
                entry["properties"][info.alias or key]["description"] = words
        entry["properties"]["type"] = {"const": name, "description": f"`{name}`"}
        entry["title"] = name
        definitions[f"connection-{name}"] = entry
        connections.append({"$ref": f"#/$defs/connection-{name}"})
    for model in dict.fromkeys(types.values()):
        definitions.pop(refs[model], None)
    definitions.pop("ConnectionSettings", None)
    definitions = {name: _take_references(definition) for name, definition in definitions.items()}
    tenant = definitions[refs[TenantFile]]
    tenant["properties"]["connections"]["items"] = {"oneOf": connections}
    tenant["properties"]["environments"]["additionalProperties"] = {"$ref": "#/$defs/Overlay"}
    definitions["Overlay"] = _overlay(tenant)
    definitions["Reference"] = {
        "type": "string",
        "pattern": r"\$\{(ENV|FILE):[^}]+\}",
        "description": "From an environment variable or a file.",
    }
    return {
        "$schema": DRAFT,
        "title": "Homerealm configuration",
        "if": {"required": ["tenant"]},
        "then": {"$ref": f"#/$defs/{refs[TenantFile]}"},
        "else": {"$ref": f"#/$defs/{refs[BrokerFile]}"},
        "$defs": dict(sorted(definitions.items())),
    }


def meaning(model: type[BaseModel], name: str) -> str | None:
    """The documentation of a key: its own, or that of the model it was inherited from with another default."""
    for ancestor in model.__mro__:
        if issubclass(ancestor, BaseModel) and (words := _docstrings(ancestor).get(name)):
            return words
    return None


@cache
def _docstrings(model: type[BaseModel]) -> Mapping[str, str]:
    """What stands below the attributes that a model itself has."""
    if not inspect.get_annotations(model) or model is BaseModel:
        return {}
    definition = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    found = {}
    for field, below in pairwise(definition.body if isinstance(definition, ast.ClassDef) else []):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            words = below.value.value if isinstance(below.value, ast.Constant) else None
            if isinstance(words, str):
                found[field.target.id] = inspect.cleandoc(words)
    return found


@cache
def _document(model: type[BaseModel]) -> None:
    """Give the fields of a model, and of the models in them, their documentation."""
    for ancestor in model.__mro__[1:]:
        if issubclass(ancestor, BaseModel) and ancestor is not BaseModel:
            _document(ancestor)
    for name, info in model.model_fields.items():
        for inner in _models(info.annotation):
            _document(inner)
        own = name in inspect.get_annotations(model)
        info.description = _docstrings(model).get(name) if own else meaning(model, name)
    model.model_rebuild(force=True)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _overlay(tenant: Mapping[str, Any]) -> dict[str, Any]:
    """What an environment may change: anything, in part."""
    properties = copy.deepcopy({k: v for k, v in tenant["properties"].items() if k not in ("tenant", "environments")})
    for key, id_key in (("connections", "id"), ("clients", "client_id")):
        properties[key]["items"] = {"type": "object", "required": [id_key]}
    return {
        "title": "Overlay",
        "description": "What differs from the tenant in one environment.",
        "type": ["object", "null"],
        "properties": {key: {"anyOf": [value, {"type": "null"}]} for key, value in properties.items()},
        "additionalProperties": False,
    }


def _take_references(node: Any) -> Any:
    """Wherever a value is bound to a form, `${ENV:NAME}` may stand in its place."""
    if isinstance(node, list):
        return [_take_references(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "const" in node:
        return node
    leaf = node.get("type") in ("integer", "number", "boolean")
    text = node.get("type") == "string" and node.get("format") != "password" and any(key in node for key in _BOUND)
    if leaf or text:
        around = {key: node[key] for key in ("title", "description", "default", "examples") if key in node}
        inner = {key: value for key, value in node.items() if key not in around}
        return {**around, "anyOf": [inner, {"$ref": _REFERENCE}]}
    return {
        key: {name: _take_references(value) for name, value in child.items()}
        if key == "properties"
        else _take_references(child)
        if key in ("items", "anyOf", "oneOf", "additionalProperties")
        else child
        for key, child in node.items()
    }
