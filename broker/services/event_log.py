"""One JSON event a line on standard error, for processes that are ours; a host application keeps its own logging."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

import structlog

from broker.core.values import Secret


class Lines(structlog.PrintLogger):
    """One line an event. When it cannot be written (a full disk, a closed pipe) the event is lost, not the request."""

    def msg(self, message: str) -> None:
        with suppress(OSError):
            super().msg(message)

    log = debug = info = warn = warning = fatal = failure = err = error = critical = exception = msg


def configure() -> None:
    """Set structlog up for this process: JSON, UTC times, tracebacks as text, secrets never."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=lambda *_: Lines(sys.stderr),
        cache_logger_on_first_use=True,
    )


def logger(name: str) -> Any:
    """For what stands above every floor."""
    return structlog.get_logger(name)


def redact(_logger: Any, _method: str, event: Any) -> Any:
    """By type: whatever is a Secret is written as `***` (SECURITY 19)."""
    return {key: "***" if isinstance(value, Secret) else value for key, value in event.items()}
