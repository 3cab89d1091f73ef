"""The configuration folder to `broker.core.tenant.Settings`, or to a list of everything that is wrong with it."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from broker.core.errors import BrokerError
from broker.core.tenant import Settings, Tenant
from broker.core.values import TenantId
from broker.settings import build
from broker.settings.addresses import database_under
from broker.settings.model import SHORTEST_SECRET_KEY, BrokerFile
from broker.settings.problems import Position, Problems
from broker.settings.references import References
from broker.settings.source import Table, find, parse, read_bytes
from broker.settings.tenant_file import Placed, ReadFile, SettingsOf, TenantReader, Types, validate

BROKER_FILE = "broker.yaml"
TENANTS_FOLDER = "tenants"
BRANDING_FOLDER = "branding"


def load(
    config_dir: Path,
    connection_settings: SettingsOf,
    known_types: Callable[[], Iterable[str]],
    environ: Mapping[str, str],
    read_or_make_key: Callable[[Path], bytes],
) -> Settings:
    """Read a configuration folder once; the arguments and errors are those of `Loader`."""
    return Loader(config_dir, connection_settings, known_types, environ, read_or_make_key).load()


class Loader:
    """Reads a configuration folder, as often as it changes.

    Files that did not change are not parsed again; what holds between files is checked every time.
    """

    def __init__(
        self,
        config_dir: Path,
        connection_settings: SettingsOf,
        known_types: Callable[[], Iterable[str]],
        environ: Mapping[str, str],
        read_or_make_key: Callable[[Path], bytes],
    ) -> None:
        """`connection_settings` gives the model of a connection type, None if there is no such type; `known_types`
        names those that exist, for the report. `read_or_make_key` gives the content of `secret_key_file`, and is
        called only when nothing else is wrong."""
        self.config_dir = config_dir
        self.root = config_dir.absolute().parent
        self.environ = environ
        self.types = Types(connection_settings, known_types)
        self.read_or_make_key = read_or_make_key
        self.files: dict[str, ReadFile] = {}
        """Tenant files without a mistake, by path."""
        self.broker: BrokerFile | None = None
        self.positions: Mapping[str, Position] = {}
        """Where the keys of `broker.yaml` stand, for those who have to complain about one later."""
        self.parsed = 0
        """How many files were parsed so far."""
        self.outside: frozenset[Path] = frozenset()
        """Files beyond `broker.yaml`, `tenants/` and `branding/` that the last attempt read, or would have read."""

    def load(self) -> Settings:
        """Raises `ConfigurationError` with every mistake; then nothing is remembered of this attempt but `outside`."""
        attempt = _Attempt(self)
        try:
            settings = attempt.load()
        finally:
            self.outside = frozenset(attempt.outside | attempt.references.files)
        self.files = attempt.files
        return settings


class _Attempt:
    def __init__(self, loader: Loader) -> None:
        self.loader = loader
        self.config_dir, self.root = loader.config_dir, loader.root
        self.problems = Problems()
        self.references = References(self.root, loader.environ, self.problems)
        self.contents: list[bytes] = []
        self.files: dict[str, ReadFile] = {}
        self.outside: set[Path] = set()

    def load(self) -> Settings:
        broker_node, broker = self._broker_file()
        tenants: dict[TenantId, Tenant] = {}
        issuers: dict[str, Position] = {}
        ids: dict[str, Position] = {}
        for path in self._tenant_files():
            for placed in self._tenant_file(path, broker or BrokerFile()):
                self._unlike_others(placed, ids, issuers)
                tenants[placed.tenant.id] = placed.tenant
        if broker is not None and broker_node is not None:
            self._check_ca_bundle(broker, broker_node)
        if self.problems or broker is None or broker_node is None:
            raise self.problems.error()
        key, others = self._secret_key(broker, broker_node), self._other_secret_keys(broker, broker_node)
        return Settings(
            base_url=broker.base_url,
            database=database_under(self.root, broker.database),
            key_value=broker.key_value,
            secret_key=key,
            tenants=tenants,
            version=self._version(key),
            root=str(self.root),
            config_dir=str(self.config_dir.absolute()),
            other_secret_keys=others,
            trusted_proxies=broker.trusted_proxies,
            egress=build.egress(broker.egress, self.root),
            metrics=broker.metrics.listen,
        )

    # --- files ---

    def _read(self, path: Path) -> bytes | None:
        content = read_bytes(path, self.problems)
        self.contents.append(os.fsencode(path.name) + b"\0" + (content or b""))
        return content

    def _parse(self, path: Path, content: bytes) -> Table | None:
        self.loader.parsed += 1
        node = parse(path, content, self.problems)
        if node is not None:
            self.references.resolve(node)
        return node

    def _broker_file(self) -> tuple[Table | None, BrokerFile | None]:
        path = self.config_dir / BROKER_FILE
        content = self._read(path)
        node = self._parse(path, content) if content is not None else None
        if node is None:
            return None, None
        self.loader.positions = {key: node.keys[key] for key in node.entries}
        broker = validate(BrokerFile, node, self.problems, self.references)
        if broker is not None and broker == self.loader.broker:
            broker = self.loader.broker  # the same object: comparing it with that of each file costs nothing
        self.loader.broker = broker or self.loader.broker
        return node, broker

    def _tenant_files(self) -> list[Path]:
        folder = self.config_dir / TENANTS_FOLDER
        try:
            paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        except OSError as error:
            self.problems.add(
                Position(str(folder), 1, 1),
                "",
                f"cannot be read ({error.strerror}); a folder with a file for each tenant would be right",
            )
            return []
        for path in paths:
            if path.suffix == ".yml":
                self.problems.add(
                    Position(str(path), 1, 1), "", f"would be ignored; {path.with_suffix('.yaml').name} would be right"
                )
        files = [path for path in paths if path.suffix == ".yaml"]
        if not files:
            self.problems.add(Position(str(folder), 1, 1), "", "has no tenant; a file such as acme.yaml would be right")
        return files

    def _tenant_file(self, path: Path, broker: BrokerFile) -> tuple[Placed, ...]:
        content = self._read(path)
        if content is None:
            return ()
        digest = hashlib.sha256(content).digest()
        known = self.loader.files.get(str(path))
        if (
            known is not None
            and known.digest == digest
            and (known.broker is broker or known.broker == broker)
            and self.references.still(known.found)
        ):
            self.files[str(path)] = known
            return known.placed
        wrong, start = len(self.problems), len(self.references.found)
        node = self._parse(path, content)
        if node is None:
            return ()
        reader = TenantReader(self.loader.types, self.problems, self.references, broker, self.root)
        placed = tuple(reader.tenants(node))
        if len(self.problems) == wrong:
            found = tuple(self.references.found[start:])
            self.files[str(path)] = ReadFile(digest, broker, found, placed)
        return placed

    # --- what holds between files ---

    def _unlike_others(self, placed: Placed, ids: dict[str, Position], issuers: dict[str, Position]) -> None:
        tenant = placed.tenant
        self._once(ids, tenant.id, placed.id, "tenant", f"makes a second tenant {tenant.id}")
        self._once(issuers, tenant.issuer, placed.issuer, "issuer", "is the issuer of another tenant")

    def _once(self, seen: dict[str, Position], value: str, position: Position, key: str, message: str) -> None:
        first = seen.setdefault(value, position)
        if first is not position:
            self.problems.add(
                position, key, f"{message} (the other: {first.file}:{first.line}); a different one would be right"
            )

    # --- values ---

    def _secret_key(self, broker: BrokerFile, node: Table) -> bytes:
        if broker.secret_key is not None:
            return broker.secret_key.reveal().encode()
        written = node.entries.get("secret_key_file")
        position = written.position if written else node.position
        return self._key_in(broker.secret_key_file or "var/secret.key", position, "secret_key_file")

    def _other_secret_keys(self, broker: BrokerFile, node: Table) -> tuple[bytes, ...]:
        keys = [key.reveal().encode() for key in broker.other_secret_keys]
        for index, name in enumerate(broker.other_secret_key_files):
            key = "other_secret_key_files"
            _, position = find(node, (key, index))
            if not (self.root / name).is_file():
                # Never made here: a key that nothing was sealed with opens nothing.
                self.problems.add(position, key, f"is no file ({self.root / name}); the file of a key would be right")
                raise self.problems.error()
            keys.append(self._key_in(name, position, key))
        return tuple(keys)

    def _key_in(self, name: str, position: Position, key: str) -> bytes:
        """The key in a file. Raises `ConfigurationError`."""
        try:
            found = self.loader.read_or_make_key(self.root / name)
            if len(found) >= SHORTEST_SECRET_KEY:
                return found
            message = f"is too short; at least {SHORTEST_SECRET_KEY} random bytes would be right"
        except OSError as error:
            message = (
                f"cannot be read or made ({error.strerror}); a file in a folder that we may write to would be right"
            )
        except (ValueError, BrokerError) as error:
            message = f"cannot be used: {error}"
        self.problems.add(position, key, message)
        raise self.problems.error()

    def _check_ca_bundle(self, broker: BrokerFile, node: Table) -> None:
        name = broker.egress.ca_bundle
        if name is None:
            return
        self.outside.add(self.root / name)
        if not (self.root / name).is_file():
            _, position = find(node, ("egress", "ca_bundle"))
            self.problems.add(
                position, "egress.ca_bundle", f"is no file ({self.root / name}); a file of certificates would be right"
            )

    def _version(self, key: bytes) -> str:
        """Keyed, since it is shown: a plain digest would let anybody test guesses of a short secret in it."""
        parts = [*self.contents, *(one.value.encode() for one in self.references.found)]
        digest = hmac.new(key, digestmod="sha256")
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.hexdigest()[:16]
