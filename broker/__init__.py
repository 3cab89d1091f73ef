"""Homerealm: a self-hosted identity broker that knows what to do when somebody cannot sign in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from broker.app import create_app
    from broker.extension import Broker

__version__ = "0.1.0"
__all__ = ["Broker", "__version__", "create_app"]


def __getattr__(name: str) -> Any:
    """Late, so that `import broker.core` and `homerealm --help` do not load Flask and SQLAlchemy."""
    if name == "Broker":
        from broker.extension import Broker

        return Broker
    if name == "create_app":
        from broker.app import create_app

        return create_app
    raise AttributeError(name)
