"""The broker as an app of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flask import Flask

from broker.extension import Broker
from broker.web import errors

if TYPE_CHECKING:
    from broker.reload import Live
    from broker.wiring import Runtime


def create_app(config: str | Path | Runtime | Live | None = None) -> Flask:
    """A Flask app with nothing but the broker. Raises `ConfigurationError`, `Unavailable`."""
    app = Flask("broker", static_folder=None, template_folder=None)
    Broker(app, config=config)
    errors.register(app)
    return app
