"""The configuration folder to `broker.core.tenant.Settings`, or to a list of everything that is wrong with it."""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from broker.core.errors import BrokerError, ConfigurationError
from broker.core.tenant import Settings, Tenant
from broker.core.values import TenantId
from broker.settings import build
from broker.settings.addresses import database_under
from broker.settings.checks import check_tenant
from broker.settings.connection import ConnectionSettings, SettingsModel
from broker.settings.fit import fit, shape_of_model
from broker.settings.model import SHORTEST_SECRET_KEY, BrokerFile, TenantFile
from broker.settings.overlay import NULLS, merge
from broker.settings.problems import Position, Problems, guess
from broker.settings.references import References
from broker.settings.source import Items, Node, Scalar, Table, find, read
from broker.settings.wording import entry_id, report

SettingsOf = Callable[[str], type[ConnectionSettings] | None]
M = TypeVar("M", bound=SettingsModel)

BROKER_FILE = "broker.yaml"
TENANTS_FOLDER = "tenants"
_NOT_IN_OVERLAYS = ("tenant", "environments")


def load(
    config_dir: Path,
    connection_settings: SettingsOf,
    known_types: Callable[[], Iterable[str]],
    environ: Mapping[str, str],
    read_or_make_key: Callable[[Path], bytes],
) -> Settings:
    """Read a configuration folder.

    `connection_settings` gives the model of a connection type, None if there is no such type; `known_types` names
    those that exist, for the report. `read_or_make_key` gives the content of `secret_key_file`, and is called only
    when nothing else is wrong. Raises `ConfigurationError` with every mistake.
    """
    return _Loader(config_dir, connection_settings, known_types, environ).load(read_or_make_key)


class _Loader:
    def __init__(
        self,
        config_dir: Path,
        connection_settings: SettingsOf,
        known_types: Callable[[], Iterable[str]],
        environ: Mapping[str, str],
    ) -> None:
        self.config_dir = config_dir
        self.root = config_dir.absolute().parent
        # A type may be another package's, and looking for it reads the metadata of every installed distribution.
        self.connection_settings = cache(connection_settings)
        self.known_types = cache(lambda: sorted(known_types()))
        self.problems = Problems()
        self.references = References(self.root, environ, self.problems)
        self.contents: list[bytes] = []
        # Environments share the entries that they do not change: each is validated once.
        self.connections: dict[int, tuple[Node, ConnectionSettings | None]] = {}

    def load(self, read_or_make_key: Callable[[Path], bytes]) -> Settings:
        broker_node = self._read(self.config_dir / BROKER_FILE)
        broker = self._validate(BrokerFile, broker_node) if broker_node else None
        tenants: dict[TenantId, Tenant] = {}
        issuers: dict[str, Position] = {}
        ids: dict[str, Position] = {}
        for node in self._tenant_files():
            for environment, merged in self._environments(node):
                self._tenant(environment, merged, broker or BrokerFile(), tenants, ids, issuers)
        if broker is not None and broker_node is not None:
            self._check_ca_bundle(broker, broker_node)
        if self.problems or broker is None or broker_node is None:
            raise self.problems.error()
        key = self._secret_key(broker, broker_node, read_or_make_key)
        return Settings(
            base_url=broker.base_url,
            database=database_under(self.root, broker.database),
            key_value=broker.key_value,
            secret_key=key,
            tenants=tenants,
            version=self._version(key),
            root=str(self.root),
            config_dir=str(self.config_dir.absolute()),
            trusted_proxies=broker.trusted_proxies,
            egress=build.egress(broker.egress, self.root),
        )

    # --- files ---

    def _read(self, path: Path) -> Table | None:
        node, content = read(path, self.problems)
        self.contents.append(os.fsencode(path.name) + b"\0" + content)
        if node is not None:
            self.references.resolve(node)
        return node

    def _tenant_files(self) -> Iterator[Table]:
        folder = self.config_dir / TENANTS_FOLDER
        try:
            paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        except OSError as error:
            self.problems.add(
                Position(str(folder), 1, 1),
                "",
                f"cannot be read ({error.strerror}); a folder with a file for each tenant would be right",
            )
            return
        for path in paths:
            if path.suffix == ".yml":
                self.problems.add(
                    Position(str(path), 1, 1), "", f"would be ignored; {path.with_suffix('.yaml').name} would be right"
                )
        files = [path for path in paths if path.suffix == ".yaml"]
        if not files:
            self.problems.add(Position(str(folder), 1, 1), "", "has no tenant; a file such as acme.yaml would be right")
        for path in files:
            if (node := self._read(path)) is not None:
                yield node

    # --- tenants ---

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

    def _tenant(
        self,
        environment: str,
        node: Table,
        broker: BrokerFile,
        tenants: dict[TenantId, Tenant],
        ids: dict[str, Position],
        issuers: dict[str, Position],
    ) -> None:
        own = Table(node.position, {k: v for k, v in node.entries.items() if k != "connections"}, node.keys)
        file = self._validate(TenantFile, own)
        connections = self._connections(node.entries.get("connections"))
        check_tenant(node, self.problems)
        if file is None or connections is None:
            return
        tenant = build.tenant(file, connections, environment, broker, self.root)
        position = node.entries["tenant"].position
        self._once(ids, tenant.id, position, "tenant", f"makes a second tenant {tenant.id}")
        issuer = node.entries.get("issuer")
        self._once(
            issuers, tenant.issuer, issuer.position if issuer else position, "issuer", "is the issuer of another tenant"
        )
        tenants[tenant.id] = tenant

    def _once(self, seen: dict[str, Position], value: str, position: Position, key: str, message: str) -> None:
        first = seen.setdefault(value, position)
        if first is not position:
            self.problems.add(
                position, key, f"{message} (the other: {first.file}:{first.line}); a different one would be right"
            )

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
                position, f"{prefix}.type", f"is missing; one of {', '.join(self.known_types())} would be right"
            )
            return None
        try:
            model = self.connection_settings(type_node.text)
        except (ConfigurationError, ImportError) as error:
            message = f"is a type that cannot be used here: {error}"
            self.problems.add(type_node.position, f"{prefix}.type", message)
            return None
        if model is None:
            known = self.known_types()
            hint = guess(type_node.text, known)
            listed = f"types that exist: {', '.join(known)}"
            message = "is not a type of connection that exists; " + (
                f"{hint} {listed}" if hint.endswith("?") else listed
            )
            self.problems.add(type_node.position, f"{prefix}.type", message)
            return None
        return self._validate(model, node, prefix)

    # --- values ---

    def _validate(self, model: type[M], node: Table, prefix: str = "") -> M | None:
        shape = shape_of_model(model)
        try:
            return model.model_validate_json(json.dumps(fit(node, shape)), strict=True)
        except ValidationError as error:
            report(error, node, shape, self.problems, prefix=prefix, unresolved=self.references.unresolved)
            return None

    def _secret_key(self, broker: BrokerFile, node: Table, read_or_make_key: Callable[[Path], bytes]) -> bytes:
        if broker.secret_key is not None:
            return broker.secret_key.reveal().encode()
        path = self.root / (broker.secret_key_file or "var/secret.key")
        written = node.entries.get("secret_key_file")
        position = written.position if written else node.position
        try:
            key = read_or_make_key(path)
            if len(key) >= SHORTEST_SECRET_KEY:
                return key
            message = f"is too short; at least {SHORTEST_SECRET_KEY} random bytes would be right"
        except OSError as error:
            message = (
                f"cannot be read or made ({error.strerror}); a file in a folder that we may write to would be right"
            )
        except (ValueError, BrokerError) as error:
            message = f"cannot be used: {error}"
        self.problems.add(position, "secret_key_file", message)
        raise self.problems.error()

    def _check_ca_bundle(self, broker: BrokerFile, node: Table) -> None:
        name = broker.egress.ca_bundle
        if name is not None and not (self.root / name).is_file():
            _, position = find(node, ("egress", "ca_bundle"))
            self.problems.add(
                position, "egress.ca_bundle", f"is no file ({self.root / name}); a file of certificates would be right"
            )

    def _version(self, key: bytes) -> str:
        """Keyed, since it is shown: a plain digest would let anybody test guesses of a short secret in it."""
        parts = [*self.contents, *(value.encode() for value in self.references.values)]
        digest = hmac.new(key, digestmod="sha256")
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.hexdigest()[:16]
