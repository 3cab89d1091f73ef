"""One JSON event a line on standard error, for processes that are ours; a host application keeps its own logging."""

from __future__ import annotations

import sys
from typing import Any

import structlog

from broker.core.values import Secret


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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def redact(_logger: Any, _method: str, event: Any) -> Any:
    """By type: whatever is a Secret is written as `***` (SECURITY 19)."""
    return {key: "***" if isinstance(value, Secret) else value for key, value in event.items()}
