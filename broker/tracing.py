"""Whether there are traces, and what is wrapped for them (docs/decisions/traces.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from broker.core.errors import ConfigurationError
from broker.core.watching import Spans

if TYPE_CHECKING:
    from broker.services.traces import Traces
    from broker.wiring import Engines


def traced(engines: Engines, kv: Any, spans: Spans) -> Engines:
    """The same engines; what takes time in the stores and in hashing is a span."""
    from broker.services.traces import TracedDatabase, TracedHasher, TracedRoute

    kv.route = TracedRoute(kv.route, spans)
    return replace(
        engines, hasher=TracedHasher(engines.hasher, spans), database=TracedDatabase(engines.database, spans)
    )


def open_traces(environ: Mapping[str, str]) -> Traces | None:
    """Where the standard variables of OpenTelemetry name a collector. Raises `ConfigurationError` without the extra."""
    wanted = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none"
    if not wanted or off:
        return None
    try:
        from broker.services.traces import Traces
    except ImportError as error:
        raise ConfigurationError(
            [f"OTEL_EXPORTER_OTLP_ENDPOINT asks for traces, which need {error.name}: install homerealm[otel], or set "
             "OTEL_TRACES_EXPORTER=none"]
        ) from None  # fmt: skip
    return Traces.by_environment()
