"""Traces by OpenTelemetry: imported only where somebody asked for them (the extra `otel`; docs/decisions/traces.md).

A span has a name, and facts from tables and configurations of ours. No address with its query, no statement with its
values, no key of a store, no text of an error ever gets into one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Status, StatusCode

from broker.core.errors import BrokerError
from broker.core.ports import Fetcher, Hasher, Response
from broker.core.watching import Spans

T = TypeVar("T")


class Traces:
    """Implements `broker.core.watching.Spans`."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._provider = TracerProvider()
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("homerealm")

    @classmethod
    def by_environment(cls) -> Traces:
        """To the collector that the standard variables name (`OTEL_EXPORTER_OTLP_ENDPOINT`, ...)."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return cls(OTLPSpanExporter())

    @contextmanager
    def span(self, name: str, **facts: str) -> Iterator[Callable[[str, str], None]]:
        # What an exception says may quote what somebody sent: its type, or our code of it, is enough.
        with self._tracer.start_as_current_span(
            name, attributes=facts, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span.set_attribute
            except Exception as error:
                span.set_status(Status(StatusCode.ERROR))
                span.set_attribute("error.type", error.code if isinstance(error, BrokerError) else type(error).__name__)
                raise

    def flush(self) -> None:
        """Hand over what is there."""
        self._provider.force_flush()

    def close(self) -> None:
        self._provider.shutdown()


class Through:
    """Something that does what another one does; each of its own methods is named in a subclass."""

    def __init__(self, inner: Any, spans: Spans) -> None:
        self.inner, self._spans = inner, spans

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class TracedHasher(Through):
    """Implements `broker.core.ports.Hasher` by another one."""

    inner: Hasher

    def hash(self, password: str) -> str:
        with self._spans.span("password.hash"):
            return self.inner.hash(password)

    def verify(self, password: str, stored: str | None) -> bool:
        with self._spans.span("password.verify"):
            return self.inner.verify(password, stored)


class TracedFetcher:
    """Implements `broker.core.ports.Fetcher` by another one."""

    def __init__(self, inner: Fetcher, spans: Spans) -> None:
        self.inner, self._spans = inner, spans

    def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> Response:
        with self._spans.span("upstream", **_called("GET", url)) as note:
            return _noted(self.inner.get(url, headers=headers), note)

    def post(self, url: str, data: Mapping[str, str], *, headers: Mapping[str, str] | None = None) -> Response:
        with self._spans.span("upstream", **_called("POST", url)) as note:
            return _noted(self.inner.post(url, data, headers=headers), note)


class TracedRoute(Through):
    """Implements `broker.stores.kv.routes.Route` by another one: an exchange with the key-value store."""

    def exchange(self, commands: Sequence[Any], *, once: bool = False) -> list[Any]:
        with self._spans.span("key_value"):
            found: list[Any] = self.inner.exchange(commands, once=once)
            return found


class TracedDatabase(Through):
    """Implements `broker.core.ports.Database` by another one: a transaction, or a question."""

    @contextmanager
    def writing(self) -> Iterator[Any]:
        with self._spans.span("database.writing"), self.inner.writing() as work:
            yield work

    def enqueue(self, job: Any) -> None:
        with self._spans.span("database.writing"):
            self.inner.enqueue(job)

    @contextmanager
    def reading(self) -> Iterator[Any]:
        with self._spans.span("database.reading"), self.inner.reading() as work:
            yield work

    @contextmanager
    def asking(self) -> Iterator[Any]:
        with self._spans.span("database.asking"), self.inner.asking() as work:
            yield work


def _called(method: str, url: str) -> dict[str, str]:
    """The host alone: a path may hold an identifier."""
    return {"http.request.method": method, "server.address": urlsplit(url).hostname or ""}


def _noted(response: Response, note: Callable[[str, str], None]) -> Response:
    note("http.response.status_code", str(response.status))
    return response
