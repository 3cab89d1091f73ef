"""What people read about the configuration, generated from its models: the commented example and the reference."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from enum import Enum
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from broker.settings.client import ClientSettings
from broker.settings.connection import ConnectionSettings, ResetSettings, SettingsModel
from broker.settings.model import AdminSettings, BrokerFile, TenantFile
from broker.settings.schema import meaning, schema
from broker.settings.types import DURATION_PATTERN, format_duration

_WIDTH = 100
_COMMON_KEYS = frozenset(ConnectionSettings.model_fields)


def schema_text(types: Mapping[str, type[ConnectionSettings]]) -> str:
    """config/broker.schema.json."""
    return json.dumps(schema(types), indent=1, ensure_ascii=False) + "\n"


# --- the example ---------------------------------------------------------------------------------------------------


def example(types: Mapping[str, type[ConnectionSettings]]) -> str:
    """Both files with every key: what has a default is commented out, with `#` right before the key."""
    lines = [
        "# ---- config/broker.yaml ----",
        "# Every value can be ${ENV:NAME} or ${FILE:path}. A key with # right before it stands here with its default",
        "# or an example.",
        "",
        *_example_fields(BrokerFile, 0),
        "# ---- config/tenants/acme.yaml ----",
        "",
        *_example_fields(TenantFile, 0, skip=("connections", "clients", "admins")),
        *_prose("The ways to sign in, in the order of their buttons. Every type takes the keys of the first one.", 0),
        "connections:",
    ]
    first = "database" if "database" in types else next(iter(sorted(types)), None)
    for name in sorted(types, key=lambda name: (name != first, name)):
        lines += _example_entry(types[name], name, disabled=name != first, common=name == first)
    for key, model in (("clients", ClientSettings), ("admins", AdminSettings)):
        lines += ["", *_prose(meaning(TenantFile, key), 0), f"#{key}:"]
        lines += _disabled(_entry_lines(model, 2, {}))
    return "\n".join(lines) + "\n"


def _example_entry(model: type[ConnectionSettings], name: str, *, disabled: bool, common: bool) -> Iterator[str]:
    hidden = () if common else tuple(_COMMON_KEYS - {"id", "type"})
    known = {"id": "users" if name == "database" else name, "type": name}
    lines = _entry_lines(model, 2, known, hidden)
    if not common:
        lines = ["", *lines[next(i for i, line in enumerate(lines) if line.startswith("  - ")) :]]
    yield from (_disabled(lines) if disabled else lines)


def _entry_lines(
    model: type[BaseModel], indent: int, known: Mapping[str, Any], hidden: Sequence[str] = ()
) -> list[str]:
    """One entry of a list: its first key carries the dash."""
    lines = list(_example_fields(model, indent + 2, known=known, skip=hidden))
    place = next((i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), None)
    if place is None:
        return lines
    lines[place] = " " * indent + "- " + lines[place].lstrip()
    return [line[2:] for line in lines[:place]] + lines[place:]


def _disabled(lines: Sequence[str]) -> list[str]:
    return [line if not line.strip() or line.lstrip().startswith("#") else _comment_out(line) for line in lines]


def _comment_out(line: str) -> str:
    return line[: len(line) - len(line.lstrip())] + "#" + line.lstrip()


def _example_fields(
    model: type[BaseModel], indent: int, *, known: Mapping[str, Any] | None = None, skip: Sequence[str] = ()
) -> Iterator[str]:
    known = known or {}
    for name, info in model.model_fields.items():
        key = info.alias or name
        if key in skip:
            continue
        yield from _prose(meaning(model, name), indent)
        inner = _model_in(info.annotation)
        spaces = " " * indent
        if key in known:
            yield f"{spaces}{key}: {_yaml(known[key])}"
        elif inner is not None and not _is_list(info):
            yield f"{spaces}#{key}:"
            yield from _disabled(list(_example_fields(inner, indent + 2)))
        else:
            yield f"{spaces}{'' if info.is_required() else '#'}{key}: {_yaml(_sample(info))}"
        if indent == 0:
            yield ""


def _prose(text: str | None, indent: int) -> Iterator[str]:
    words = " ".join((text or "").split())
    for line in textwrap.wrap(words, _WIDTH - indent, break_long_words=False, break_on_hyphens=False):
        yield f"{' ' * indent}# {line}"


def _sample(info: FieldInfo) -> Any:
    default = info.get_default(call_default_factory=True) if not info.is_required() else None
    if default in (None, (), {}) and info.examples:
        return info.examples[0]
    return "..." if default is None and info.is_required() else default


def _yaml(value: Any) -> str:
    """A value on one line. JSON's notation of texts and lists is YAML's, too."""
    value = _plain(value)
    if isinstance(value, str) and value.replace("-", "").replace("_", "").isalnum() and not value[0].isdigit():
        return value
    return json.dumps(value, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def _model_in(annotation: Any) -> type[Any] | None:
    """The model that a field holds, directly, in a list, or optionally."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for argument in get_args(annotation) if (found := _model_in(argument))), None)


def _is_list(info: FieldInfo) -> bool:
    return isinstance(info.default, tuple)


# --- the reference -------------------------------------------------------------------------------------------------

_INTRODUCTION = """\
# Configuration

`homerealm --config DIR`, else `$HOMEREALM_CONFIG`, else `./config`: a folder with `broker.yaml` and a file for each
tenant in `tenants/`. `homerealm check` finds every mistake, with its line and column; `homerealm config example` prints
both files with every key; `homerealm config schema` prints the JSON Schema for editors, which is also
`config/broker.schema.json`. Generated by `make docs` from the models in `broker/settings`.

* **Secrets.** Every value, or a part of one, can be `${ENV:NAME}` or `${FILE:path}`; a variable or a file that is
  missing or empty is a mistake. `$${` is a literal `${`.
* **Strict.** Unknown keys, duplicate keys, wrong types and unresolved references are refused. A text stays what was
  written: `client_id: 0123` is `0123`, and `on`, `no` or `12:30` are texts where a text is expected. Booleans are
  `true` and `false`; numbers and booleans stand without quotes. There are no merge keys (`<<`) and no tags.
* **Relative paths** start at the folder that holds the configuration folder: `sqlite:///`, `maildir:`, `${FILE:}`,
  `secret_key_file`, `ca_bundle`.
* **Durations** are a number with its unit: `60s`, `30m`, `12h`, `30d`.
"""


def reference(types: Mapping[str, type[ConnectionSettings]]) -> str:
    """docs/reference/configuration.md."""
    definitions = schema(types)["$defs"]
    parts = [_INTRODUCTION, "## broker.yaml\n", _table(BrokerFile, definitions["BrokerFile"], definitions)]
    parts += ["## tenants/*.yaml\n", _table(TenantFile, definitions["TenantFile"], definitions)]
    parts.append("## connections[]\n\nEvery connection has these keys; its type adds its own.\n")
    common = ConnectionSettings.model_json_schema(ref_template="#/$defs/{model}")
    parts.append(_table(ConnectionSettings, common, definitions | common["$defs"], skip=("reset",)))
    parts += [
        "### reset\n",
        f"{ResetSettings.__doc__}\n",
        _table(ResetSettings, common["$defs"]["ResetSettings"], definitions | common["$defs"]),
    ]
    for name, model in sorted(types.items()):
        about = (model.__doc__ or "").strip().partition("\n\n")[0]
        parts.append(f"### type: {name}\n\n{' '.join(about.split())}\n")
        own = _table(model, definitions[f"connection-{name}"], definitions, skip=tuple(_COMMON_KEYS))
        parts.append(own or "No further keys.\n")
    return "\n".join(parts)


def _table(
    model: type[BaseModel],
    definition: Mapping[str, Any],
    definitions: Mapping[str, Any],
    prefix: str = "",
    skip: Sequence[str] = (),
) -> str:
    rows = list(_rows(model, definition, definitions, prefix, skip))
    if not rows:
        return ""
    return "\n".join(["| key | value | default | meaning |", "|---|---|---|---|", *rows]) + "\n"


def _rows(
    model: type[BaseModel],
    definition: Mapping[str, Any],
    definitions: Mapping[str, Any],
    prefix: str,
    skip: Sequence[str],
) -> Iterator[str]:
    for name, info in model.model_fields.items():
        key = info.alias or name
        if key in skip:
            continue
        inner = _model_in(info.annotation)
        listed = inner is not None and _is_list(info)
        words = _cell(meaning(model, name))
        if inner is ConnectionSettings:
            yield f"| `{prefix}{key}` | list of mappings | | {words} See [below](#connections). |"
            continue
        value = (
            "list of mappings" if listed else "mapping" if inner else _words(definition["properties"][key], definitions)
        )
        yield f"| `{prefix}{key}` | {value} | {_default(info, inner)} | {words} |"
        if inner is not None and issubclass(inner, SettingsModel):
            below = definitions[inner.__name__]
            yield from _rows(inner, below, definitions, f"{prefix}{key}{'[]' if listed else ''}.", ())


def _default(info: FieldInfo, inner: type[Any] | None) -> str:
    if info.is_required():
        return "required"
    default = info.get_default(call_default_factory=True)
    if inner is not None or default in (None, (), {}):
        return ""
    return f"`{_yaml(default)}`"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


_FORMATS = {"uri": "address", "email": "e-mail address", "password": "secret"}


def _words(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """A JSON Schema in a few words."""
    if "$ref" in node:
        return _words(definitions[node["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in node:
        branches = [n for n in node["anyOf"] if n.get("$ref") != "#/$defs/Reference" and n.get("type") != "null"]
        return " or ".join(dict.fromkeys(_words(branch, definitions) for branch in branches))
    for key in ("enum", "const"):
        if key in node:
            return " or ".join(f"`{value}`" for value in (node["enum"] if key == "enum" else [node["const"]]))
    kind = node.get("type")
    if kind == "array":
        item = _words(node.get("items") or next(iter(node.get("prefixItems", [])), {}), definitions)
        return f"list of {item}"
    if kind == "integer":
        return _bounded(node)
    if kind == "object":
        return "mapping"
    if kind == "string":
        if node.get("pattern") == DURATION_PATTERN:
            return "duration"
        return _FORMATS.get(node.get("format", ""), "text")
    return str(kind or "anything")


def _bounded(node: Mapping[str, Any]) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    if low is not None and high is not None:
        return f"integer, {low} to {high}"
    return f"integer, at least {low}" if low is not None else "integer"
