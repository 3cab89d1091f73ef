"""Options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from broker.processes.environment import CONFIG


def _folder(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> Path:
    return Path(value or os.environ.get(CONFIG) or "config")


def config_option(function: Any) -> Any:
    """`--config DIR`, else `$HOMEREALM_CONFIG`, else `./config`; the command gets a `Path` as `config`."""
    return click.option(
        "--config",
        metavar="DIR",
        callback=_folder,
        help="The configuration folder; else $HOMEREALM_CONFIG, else ./config.",
    )(function)


def json_option(function: Any) -> Any:
    """`--json`; the command gets a boolean as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="JSON on standard output, for programs.")(function)


def _address(_ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    host, _, port = (value or "").rpartition(":")
    if value is not None and (not host or not port.isdigit() or not 0 < int(port) < 65536):
        raise click.BadParameter(
            f"{value} is no address to listen on; write HOST:PORT, such as 127.0.0.1:9464", param=parameter
        )
    return value


def metrics_option(function: Any) -> Any:
    """`--metrics HOST:PORT`; the command gets it, or None, as `metrics`."""
    return click.option(
        "--metrics",
        metavar="HOST:PORT",
        callback=_address,
        help="Answer /metrics and /readyz there, for this command alone, whatever `metrics.listen` says.",
    )(function)
