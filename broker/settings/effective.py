"""The configuration as it works: every default filled in, every secret masked. And what differs between two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import timedelta
from enum import Enum
from typing import Any

from pydantic import BaseModel

from broker.core.tenant import ConnectionEntry, MailRules, Settings, Tenant
from broker.core.values import Secret
from broker.settings.addresses import without_password
from broker.settings.types import SHOWN, format_duration


class _Masked:
    """Compared by what it is, shown as what may be seen."""

    def __init__(self, value: object, shown: str = SHOWN) -> None:
        self.value = value
        self.shown = shown

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Masked) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)


def effective(settings: Settings) -> dict[str, Any]:
    """JSON-able, in the words of the YAML."""
    return dict(_unmask(_settings(settings)))


def document(settings: Settings, digest: Callable[[object], str]) -> dict[str, Any]:
    """As `effective`, with `{"secret": digest, "shown": what may be seen}` in the place of each secret."""
    return dict(_digested(_settings(settings), digest))


def _digested(value: Any, digest: Callable[[object], str]) -> Any:
    if isinstance(value, _Masked):
        hidden = value.value.reveal() if isinstance(value.value, Secret) else value.value
        return {"secret": digest(hidden), "shown": value.shown}
    if isinstance(value, dict):
        return {key: _digested(item, digest) for key, item in value.items()}
    return [_digested(item, digest) for item in value] if isinstance(value, list) else value


def _settings(settings: Settings) -> dict[str, Any]:
    return {
        "base_url": settings.base_url,
        "database": _address(settings.database),
        "key_value": _address(settings.key_value),
        "secret_key": _Masked(settings.secret_key),
        "other_secret_keys": [_Masked(key) for key in settings.other_secret_keys],
        "trusted_proxies": list(settings.trusted_proxies),
        "egress": _value(settings.egress),
        "version": settings.version,
        "config_dir": settings.config_dir,
        "root": settings.root,
        "tenants": {id: _tenant(tenant) for id, tenant in settings.tenants.items()},
    }


def _tenant(tenant: Tenant) -> dict[str, Any]:
    shown = {field.name: _value(getattr(tenant, field.name)) for field in fields(tenant) if field.name != "id"}
    shown["mail"] = _mail(tenant.mail)
    shown["connections"] = {entry.id: _connection(entry) for entry in tenant.connections}
    shown["clients"] = {id: _value(client) for id, client in tenant.clients.items()}
    for client in shown["clients"].values():
        client["client_secret"] = [_Masked(digest) for digest in client.pop("secret_digests")]
        del client["internal"]
    return shown


def _mail(mail: MailRules) -> dict[str, Any]:
    return {"from": mail.sender, "transport": _address(mail.transport), "only_to": list(mail.only_to)}


def _connection(entry: ConnectionEntry) -> Any:
    return _value(entry.settings)


def _address(address: str) -> Any:
    return _Masked(address, without_password(address))


def _value(value: Any) -> Any:
    if isinstance(value, (Secret, bytes)):
        return _Masked(value)
    if isinstance(value, BaseModel):
        return {info.alias or name: _value(getattr(value, name)) for name, info in type(value).model_fields.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _value(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _value(item) for key, item in value.items()}
    if isinstance(value, (tuple, list, set, frozenset)):
        return [_value(item) for item in value]
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, Enum):
        return value.value
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)


def _unmask(value: Any) -> Any:
    if isinstance(value, _Masked):
        return value.shown
    if isinstance(value, dict):
        return {key: _unmask(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unmask(item) for item in value]
    return value
