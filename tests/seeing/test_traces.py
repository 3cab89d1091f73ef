"""Traces: where the time of a login went, and no secret in any of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from broker.core.errors import ConfigurationError
from broker.core.watching import Spans
from broker.services.event_log import redact
from broker.services.traces import Traces
from broker.stores.kv.embedded import EmbeddedValkey
from broker.testing.town import PASSWORD, Town
from broker.tracing import open_traces
from tests.stories.journeys import NEW, at_the_app, choose_password, forget, open_app, reset_link, sign_in

ROOT = Path(__file__).parents[2]


@pytest.fixture
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Town, InMemorySpanExporter, Traces]]:
    exporter = InMemorySpanExporter()
    traces = Traces(exporter)
    servers = [EmbeddedValkey(tmp_path_factory.mktemp("kv")) for _ in range(2)]
    town = Town(tmp_path_factory.mktemp("town"), (servers[0].start(), servers[1].start()), spans=traces)
    town.broker.add("acme", email="ada@acme.test", username="ada")
    town.upstream.add("contoso", email="carol@contoso.test", name="Carol Shaw")
    yield town, exporter, traces
    town.close()
    for server in servers:
        server.stop()
    traces.close()


def test_a_reset_and_logins_are_spans_and_nothing_secret_is_in_spans_lines_or_tables(
    traced: tuple[Town, InMemorySpanExporter, Traces],
) -> None:
    town, exporter, traces = traced
    browser = town.browser()
    with capture_logs() as lines:
        assert not at_the_app(sign_in(town.browser(), "ada@acme.test", "a wrong password, CANARY"), "ada")
        forget(open_app(browser), "ada@acme.test")
        link = reset_link(town, "ada@acme.test")
        assert at_the_app(choose_password(browser.go(link)), "ada")
        assert at_the_app(sign_in(town.browser(), "ada", NEW), "ada")
        assert at_the_app(sign_in(town.browser(), "carol@contoso.test"), "carol")
    traces.flush()
    spans = exporter.get_finished_spans()
    assert {"GET /authorize", "POST /login", "POST /reset", "POST /token", "policy", "key_value", "password.verify",
            "database.writing", "upstream", "job recover", "job mail"} <= {span.name for span in spans}  # fmt: skip
    by_id = {span.context.span_id: span for span in spans}
    verify = next(span for span in spans if span.name == "password.verify")
    assert by_id[verify.parent.span_id].name.startswith("POST /"), "spans lie in one another"
    told = "".join(span.to_json() for span in spans)
    said = json.dumps([redact(None, "info", line) for line in lines], default=str)
    secrets = {
        "passwords": [PASSWORD, NEW, "a wrong password, CANARY"],
        "the ticket": [link.partition("ticket=")[2]],
        "client secrets": ["demo-app-secret-91f0c6d3", "upstream-secret-0123456789"],
        "cookies": [cookie.value for cookie in browser.cookies if len(cookie.value) > 15],
        "codes, states and tokens": ["code=", "state=", "eyJ", "ticket="],
    }
    assert secrets["cookies"]
    for what, values in secrets.items():
        for value in values:
            assert value not in told, f"{what} in a span"
            assert value not in said, f"{what} in the log"
    assert "ada@" not in told
    assert "carol@" not in told
    files = b"".join(path.read_bytes() for path in (town.folder / "broker" / "var").glob("broker.db*"))
    assert files
    for value in (*secrets["passwords"], *secrets["client secrets"], *secrets["cookies"]):
        assert value.encode() not in files
    assert secrets["the ticket"][0].encode() not in files, "the queue forgets what it has sent"


def test_the_text_of_an_error_is_in_no_span() -> None:
    exporter = InMemorySpanExporter()
    traces = Traces(exporter)
    spans: Spans = traces
    with pytest.raises(ValueError, match="CANARY"), spans.span("policy"):
        raise ValueError("CANARY")
    traces.close()
    (span,) = exporter.get_finished_spans()
    assert "CANARY" not in span.to_json()
    assert dict(span.attributes or {}) == {"error.type": "ValueError"}


def test_without_a_collector_nothing_of_it_is_imported() -> None:
    code = "import sys, broker.wsgi, broker.app, broker.wiring; print([m for m in sys.modules if 'opentelemetry' in m])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert open_traces({}) is None
    assert open_traces({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c.test:4318", "OTEL_SDK_DISABLED": "true"}) is None


def test_without_the_extra_the_operator_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "broker.services.traces")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigurationError, match=r"homerealm\[otel\]"):
        open_traces({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c.test:4318"})
