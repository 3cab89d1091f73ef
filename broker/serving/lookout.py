"""The internal listener: metrics of all processes of this machine, and why something is not ready.

A process of its own, so that it answers also when the others do not, and costs them nothing:
`python -m broker.serving.lookout HOST:PORT FOLDER [ROOT OF THE WEB SERVER]`. It has no way to the stores.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from broker.core.metrics import METRICS, PREFIX, PROCESSES, SECONDS, Metric
from broker.processes import tether
from broker.services.clock import SystemClock
from broker.services.tally import Key, total

LATE = 120.0
"""Seconds without a round of the background worker that are too many; the alert says the same."""
TEXT = "text/plain; version=0.0.4; charset=utf-8"
_PAGE = os.sysconf("SC_PAGESIZE")
_EDGES = (*(repr(edge) for edge in SECONDS), "+Inf")


class Numbers(Collector):
    """The files of a folder as metrics."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Any]:
        sums, living = total(self._folder)
        by_metric: dict[str, dict[Key, float]] = {}
        for key, value in sums.items():
            by_metric.setdefault(key[0], {})[key[1:]] = value
        for name, metric in METRICS.items():
            yield _family(name, metric, by_metric.get(name, {}))
        for name, metric in PROCESSES.items():
            seen: dict[Key, float] = {
                (role,): float(sum(_PROCESS[name](pid) for pid in pids)) for role, pids in living.items()
            }
            yield _family(name, metric, seen)


def _family(name: str, metric: Metric, found: Mapping[Key, float]) -> Any:
    if metric.kind == "counter":
        counter = CounterMetricFamily(PREFIX + name, metric.help, labels=metric.labels)
        for labels, value in found.items():
            counter.add_metric(labels, value)
        return counter
    if metric.kind == "gauge":
        gauge = GaugeMetricFamily(PREFIX + name, metric.help, labels=metric.labels)
        for labels, value in found.items():
            if value or not name.endswith("_info"):
                gauge.add_metric(labels, value)
        return gauge
    histogram = HistogramMetricFamily(f"{PREFIX}{name}_seconds", metric.help, labels=metric.labels)
    parts: dict[Key, dict[str, float]] = {}
    for labels, value in found.items():
        parts.setdefault(labels[:-1], {})[labels[-1]] = value
    for labels, part in parts.items():
        running, buckets = 0.0, []
        for edge in _EDGES:
            running += part.get(edge, 0.0)
            buckets.append((edge, running))
        histogram.add_metric(labels, buckets, part.get("sum", 0.0))
    return histogram


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def _open_files(pid: int) -> int:
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return 0


_PROCESS = {"processes": lambda _: 1, "resident_memory_bytes": _resident, "open_files": _open_files}


def state(folder: Path, now: float) -> dict[str, Any]:
    """What the processes of this machine say of themselves, `now` in seconds since 1970: who lives, when the background
    worker did its last round, whether changed files are refused; and why it is not ready, in words."""
    sums, living = total(folder)
    round_at = sums.get(("worker_round_timestamp_seconds",))
    age = None if round_at is None else max(0.0, round(now - round_at, 1))
    reasons = []
    if not living.get("web"):
        reasons.append("no web process is alive")
    if age is not None and age > LATE:
        reasons.append(f"the background worker did its last round {age:.0f} s ago")
    return {
        "ready": not reasons,
        "reasons": reasons,
        "processes": {role: len(pids) for role, pids in living.items()},
        "worker_round_age_seconds": age,
        "configuration_refused": bool(sums.get(("config_refused",))),
    }


class Lookout(ThreadingHTTPServer):
    """`GET /metrics` for Prometheus, `GET /readyz` for people."""

    daemon_threads = True

    def __init__(self, host: str, port: int, folder: Path) -> None:
        """Raises `OSError`."""
        self.folder = folder
        self.registry = CollectorRegistry()
        self.registry.register(Numbers(folder))
        super().__init__((host, port), _Answers)


class _Answers(BaseHTTPRequestHandler):
    server: Lookout
    timeout = 10

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/metrics":
                self._answer(200, TEXT, generate_latest(self.server.registry))
            case "/readyz":
                told = state(self.server.folder, SystemClock().now().timestamp())
                self._answer(200 if told["ready"] else 503, "application/json", json.dumps(told).encode() + b"\n")
            case _:
                self.send_error(404)

    def _answer(self, status: int, type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """A scrape is no event."""


def run(listen: str, folder: Path) -> None:
    """Until the process is ended."""
    host, _, port = listen.rpartition(":")
    with Lookout(host.strip("[]"), int(port), folder) as server:
        server.serve_forever()


if __name__ == "__main__":
    if tether.tie(os.getppid()):
        run(sys.argv[1], Path(sys.argv[2]))
