"""The internal listener: metrics of all processes of this machine, and why something is not ready.

A process of its own, so that it answers also when the others do not, and costs them nothing:
`python -m broker.lookout HOST:PORT FOLDER [ROOT OF THE WEB SERVER]`. It has no way to the stores.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from broker import tether
from broker.core.metrics import METRICS, PREFIX, PROCESSES, SECONDS, Metric
from broker.services.tally import Key, total

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


class Lookout(ThreadingHTTPServer):
    """`GET /metrics` for Prometheus."""

    daemon_threads = True

    def __init__(self, host: str, port: int, folder: Path) -> None:
        """Raises `OSError`."""
        self.registry = CollectorRegistry()
        self.registry.register(Numbers(folder))
        super().__init__((host, port), _Answers)


class _Answers(BaseHTTPRequestHandler):
    server: Lookout
    timeout = 10

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404)
            return
        body = generate_latest(self.server.registry)
        self.send_response(200)
        self.send_header("Content-Type", TEXT)
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
