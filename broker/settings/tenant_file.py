"""One tenant file: every environment in it, validated, and what of other files it depends on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from broker.core.errors import ConfigurationError
from broker.core.tenant import Tenant
from broker.settings import build
from broker.settings.checks import check_tenant
from broker.settings.connection import ConnectionSettings, SettingsModel
from broker.settings.fit import fit, shape_of_model
from broker.settings.model import BrokerFile, TenantFile
from broker.settings.overlay import NULLS, merge
from broker.settings.problems import Position, Problems, guess
from broker.settings.references import Found, References
from broker.settings.source import Items, Node, Scalar, Table
from broker.settings.wording import entry_id, report

SettingsOf = Callable[[str], type[ConnectionSettings] | None]
M = TypeVar("M", bound=SettingsModel)

_NOT_IN_OVERLAYS = ("tenant", "environments")


class Types:
    """The types of connections, each looked up once: a type may be another package's, and looking for it reads the
    metadata of every installed distribution."""

    def __init__(self, settings_of: SettingsOf, known: Callable[[], Iterable[str]]) -> None:
        self.settings_of = cache(settings_of)
        self.known = cache(lambda: sorted(known()))


@dataclass(frozen=True, slots=True)
class Placed:
    """A tenant in one environment, and where what other files must not repeat was written."""

    tenant: Tenant
    id: Position
    issuer: Position


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A tenant file as it was read: usable again while nothing that went into it has changed."""

    digest: bytes = field(repr=False)
    broker: BrokerFile = field(repr=False)
    found: tuple[Found, ...] = field(repr=False)
    placed: tuple[Placed, ...]


def validate(model: type[M], node: Table, problems: Problems, references: References, prefix: str = "") -> M | None:
    """None when it is wrong; what is wrong is among the problems."""
    shape = shape_of_model(model)
    try:
        return model.model_validate_json(json.dumps(fit(node, shape)), strict=True)
    except ValidationError as error:
        report(error, node, shape, problems, prefix=prefix, unresolved=references.unresolved)
        return None


class TenantReader:
    """Reads the tree of one tenant file."""

    def __init__(
        self, types: Types, problems: Problems, references: References, broker: BrokerFile, root: Path
    ) -> None:
        self.types = types
        self.problems = problems
        self.references = references
        self.broker = broker
        self.root = root
        # Environments share the entries that they do not change: each is validated once.
        self.connections: dict[int, tuple[Node, ConnectionSettings | None]] = {}

    def tenants(self, node: Table) -> list[Placed]:
        """Those without a mistake."""
        found = [self._tenant(environment, merged) for environment, merged in self._environments(node)]
        return [one for one in found if one is not None]

    def _environments(self, node: Table) -> Iterator[tuple[str, Table]]:
        """Every environment of a tenant with its tree: the tenant's own, with the overlay merged in."""
        base = Table(node.position, dict(node.entries), dict(node.keys))
        environments = base.entries.pop("environments", None)
        overlays: dict[str, Table] = {build.LIVE: Table(node.position)}
        if isinstance(environments, Table):
            for name, overlay in environments.entries.items():
                if isinstance(overlay, Scalar) and overlay.plain and overlay.text in NULLS:
                    overlay = Table(overlay.position)
                if isinstance(overlay, Table):
                    overlays[name] = self._without_forbidden(name, overlay)
        if environments is not None:
            self._validate_names(node, environments)
        for name, overlay in overlays.items():
            below = base
            if name != build.LIVE:
                # An issuer belongs to one environment: two with the same one would accept each other's tokens.
                below = Table(base.position, {k: v for k, v in base.entries.items() if k != "issuer"}, base.keys)
            yield name, merge(below, overlay)

    def _without_forbidden(self, name: str, overlay: Table) -> Table:
        kept = Table(overlay.position, dict(overlay.entries), dict(overlay.keys))
        for key in _NOT_IN_OVERLAYS:
            if key in overlay.entries:
                self.problems.add(
                    overlay.keys[key],
                    f"environments.{name}.{key}",
                    "is the same in every environment; any other key would be right",
                )
                del kept.entries[key]
        return kept

    def _validate_names(self, node: Table, environments: Node) -> None:
        """The names of the environments, by the model of the whole file."""
        shape = shape_of_model(TenantFile)
        data = {"tenant": "x", "environments": fit(environments, (shape.fields or {})["environments"])}
        try:
            TenantFile.model_validate_json(json.dumps(data), strict=True)
        except ValidationError as error:
            report(error, node, shape, self.problems, unresolved=self.references.unresolved)

    def _tenant(self, environment: str, node: Table) -> Placed | None:
        own = Table(node.position, {k: v for k, v in node.entries.items() if k != "connections"}, node.keys)
        file = validate(TenantFile, own, self.problems, self.references)
        connections = self._connections(node.entries.get("connections"))
        check_tenant(node, self.problems)
        if file is None or connections is None:
            return None
        tenant = build.tenant(file, connections, environment, self.broker, self.root)
        position, issuer = node.entries["tenant"].position, node.entries.get("issuer")
        return Placed(tenant, position, issuer.position if issuer else position)

    def _connections(self, node: Node | None) -> list[ConnectionSettings] | None:
        """None when any of them is wrong."""
        if node is None or (isinstance(node, Scalar) and node.plain and node.text in NULLS):
            return []
        if not isinstance(node, Items):
            self.problems.add(node.position, "connections", "is not a list; entries that begin with - would be right")
            return None
        found = [self._connection(item, index) for index, item in enumerate(node.items)]
        complete = [settings for settings in found if settings is not None]
        return complete if len(complete) == len(found) else None

    def _connection(self, node: Node, index: int) -> ConnectionSettings | None:
        if id(node) in self.connections:
            return self.connections[id(node)][1]
        settings = self._validate_connection(node, f"connections[{entry_id(node) or index}]")
        self.connections[id(node)] = node, settings
        return settings

    def _validate_connection(self, node: Node, prefix: str) -> ConnectionSettings | None:
        if not isinstance(node, Table):
            self.problems.add(
                node.position,
                prefix,
                "is no mapping; keys and values such as {id: users, type: database} would be right",
            )
            return None
        type_node = node.entries.get("type")
        if not isinstance(type_node, Scalar) or not type_node.text:
            position = type_node.position if type_node else node.position
            self.problems.add(
                position, f"{prefix}.type", f"is missing; one of {', '.join(self.types.known())} would be right"
            )
            return None
        try:
            model = self.types.settings_of(type_node.text)
        except (ConfigurationError, ImportError) as error:
            message = f"is a type that cannot be used here: {error}"
            self.problems.add(type_node.position, f"{prefix}.type", message)
            return None
        if model is None:
            known = self.types.known()
            hint = guess(type_node.text, known)
            listed = f"types that exist: {', '.join(known)}"
            message = "is not a type of connection that exists; " + (
                f"{hint} {listed}" if hint.endswith("?") else listed
            )
            self.problems.add(type_node.position, f"{prefix}.type", message)
            return None
        return validate(model, node, self.problems, self.references, prefix)
