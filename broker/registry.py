"""Connection types by name: those that we ship, and those that other packages bring.

The built-in ones are texts, so that nothing here imports a connection before somebody uses it, and a checkout needs
no entry points. Other packages announce theirs in the entry point group `broker.connections`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

from broker.core.connection import Connection
from broker.core.errors import ConfigurationError
from broker.sdk import ConnectionSettings

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "broker.connections"
BUILT_IN: Mapping[str, str] = {
    "database": "connections.database:Database",
    "oidc": "connections.oidc:Oidc",
    "oauth2": "connections.oauth2:OAuth2",
    "google": "connections.social.google:Google",
    "microsoft": "connections.social.microsoft:Microsoft",
    "github": "connections.social.github:GitHub",
}


def known() -> list[str]:
    """Every type that a configuration may name, sorted. Loads none of them."""
    return sorted({*BUILT_IN, *(point.name for point in metadata.entry_points(group=GROUP))})


def resolve(name: str) -> type[Connection[Any]] | None:
    """The class behind a type; None when there is no such type. A built-in name cannot be taken by another package.

    Raises `ConfigurationError` for another package's type that cannot be used; all others go on working.
    """
    if target := BUILT_IN.get(name):
        module, _, attribute = target.partition(":")
        found: type[Connection[Any]] = getattr(import_module(module), attribute)
        return found
    points = list(metadata.entry_points(group=GROUP, name=name))
    if not points:
        return None
    if len({point.value for point in points}) > 1:
        packages = " and ".join(sorted(_package(point) for point in points))
        raise _unusable(name, f"two packages bring it, {packages}; one of them has to be removed")
    return _load(name, points[0])


def settings_of(name: str) -> type[ConnectionSettings] | None:
    """The model of a type's settings; None when there is no such type. Raises as `resolve`."""
    kind = resolve(name)
    return None if kind is None else _settings(name, kind)


def _load(name: str, point: EntryPoint) -> type[Connection[Any]]:
    package = _package(point)
    try:
        kind = point.load()
    except Exception as error:  # whatever another package's import may raise
        raise _unusable(name, f"{package} cannot be loaded ({type(error).__name__}: {error})") from error
    if not (isinstance(kind, type) and issubclass(kind, Connection)):
        raise _unusable(name, f"{point.value} of {package} is not a subclass of broker.sdk.Connection")
    _settings(name, kind)
    return kind


def _settings(name: str, kind: type[Connection[Any]]) -> type[ConnectionSettings]:
    settings: Any = getattr(kind, "Settings", None)
    if not (isinstance(settings, type) and issubclass(settings, ConnectionSettings)):
        raise _unusable(name, f"{kind.__qualname__}.Settings is not a subclass of broker.sdk.ConnectionSettings")
    return settings


def _package(point: EntryPoint) -> str:
    return f"the package {point.dist.name}" if point.dist else "a package without a name"


def _unusable(name: str, why: str) -> ConfigurationError:
    return ConfigurationError([f"connection type {name}: {why}"])
