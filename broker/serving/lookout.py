"""The internal listener: metrics of all processes of this machine, and why something is not ready.

A process of its own, so that it answers also when the others do not, and costs them nothing:
`python -m broker.serving.lookout FD HOST WEB FOLDER ROLE...`, where FD is a listening socket, HOST what its address is
called in the configuration, WEB the address of the web processes, and the roles are those of the processes that should
live here.
It has no way to the stores: it asks a web process, and believes the background worker.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
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
PATIENCE = 5.0
"""Seconds that a web process has to say what it misses: it waits for its stores itself."""
STORES = {"database": "the database", "key_value": "the key-value store", "signing_keys": "the signing keys"}
ROLES = {"web": "web process", "worker": "background worker"}
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
        # One that appears with its first count has not grown, for Prometheus.
        for labels, value in (found or ({} if metric.labels else {(): 0.0})).items():
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


def missed_by_web(web: str) -> list[str] | None:
    """What the public `/readyz` names: a web process asks its stores now. None: there was no such answer in time."""
    host, _, port = web.rpartition(":")
    asking = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
    try:
        asking.request("GET", "/readyz", headers={"Host": "localhost"})
        return [str(store) for store in json.loads(asking.getresponse().read())["missing"]]
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        return None
    finally:
        asking.close()


def state(folder: Path, now: float, wanted: Sequence[str], web: str = "") -> dict[str, Any]:
    """What the processes of this machine say of themselves, `now` in seconds since 1970: who lives, which stores they
    miss, when the background worker did its last round, what the tables are, whether changed files are refused; and in
    words why it is not ready. `wanted` are the roles that must be there; `web` is where web processes are asked."""
    sums, living = total(folder)
    missing = {key[1] for key, value in sums.items() if key[0] == "store_missing" and value}
    round_at = sums.get(("worker_round_timestamp_seconds",))
    reasons = [f"no {ROLES[role]} is alive" for role in wanted if not living.get(role)]
    if web and living.get("web"):
        missed = missed_by_web(web)
        if missed is None:
            reasons.append(f"no web process said within {PATIENCE:.0f} s what it misses")
        missing.update(missed or ())
    reasons += [
        f"{STORES.get(store, store)} cannot be used: `store.unavailable` in the log says why"
        for store in sorted(missing)
    ]
    age = None if round_at is None else max(0.0, round(now - round_at, 1))
    if age is not None and age > LATE:
        reasons.append(f"the background worker did its last round {age:.0f} s ago")
    if sums.get(("schema_unfit",)):
        reasons.append("this version cannot work with the tables of the database: `homerealm db status` says why")
    revision = sums.get(("schema_revision",))
    return {
        "ready": not reasons,
        "reasons": reasons,
        "missing": sorted(missing),
        "processes": {role: len(pids) for role, pids in living.items()},
        "worker_round_age_seconds": age,
        "schema_revision": None if revision is None else int(revision),
        "configuration_refused": bool(sums.get(("config_refused",))),
    }


class Lookout(ThreadingHTTPServer):
    """`GET /metrics` for Prometheus, `GET /readyz` for people."""

    daemon_threads = True

    def __init__(
        self,
        listener: socket.socket,
        folder: Path,
        wanted: Sequence[str] = tuple(ROLES),
        *,
        name: str = "",
        web: str = "",
    ) -> None:
        """`wanted` are the roles that make this machine ready, `name` is what the listener's address is called, `web`
        is the HOST:PORT of web processes."""
        self.folder, self.wanted, self.web = folder, wanted, web
        self._name = name.lower()
        self.registry = CollectorRegistry()
        self.registry.register(Numbers(folder))
        self.address_family = listener.family
        super().__init__(listener.getsockname(), _Answers, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self._loopback = ipaddress.ip_address(str(self.server_address[0]).partition("%")[0]).is_loopback

    def is_called(self, host: str) -> bool:
        """Whether a Host header can be ours. A page of a stranger reaches us in an operator's browser by a name of
        its own that leads to a loopback address (DNS rebinding); no such name is an address, or without a dot. On
        other addresses we have names that we do not know: who may come there is the network's business."""
        if not self._loopback:
            return True
        name = host.lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0].removesuffix(".")
        if "." not in name and ":" not in name:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            machine = socket.gethostname().lower()
            # The full name may be a question to a server: asked only when it can be the answer.
            return name in {self._name, machine} or (
                name.startswith(f"{machine}.") and name == socket.getfqdn().lower()
            )
        return True


class _Answers(BaseHTTPRequestHandler):
    server: Lookout
    timeout = 10

    def do_GET(self) -> None:
        if not self.server.is_called(self.headers.get("Host", "")):
            self.send_error(421)
            return
        match self.path.partition("?")[0]:
            case "/metrics":
                self._answer(200, TEXT, generate_latest(self.server.registry))
            case "/readyz":
                here = self.server
                told = state(here.folder, SystemClock().now().timestamp(), here.wanted, here.web)
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


def run(descriptor: int, name: str, web: str, folder: Path, wanted: Sequence[str]) -> None:
    """Until the process is ended."""
    with Lookout(socket.socket(fileno=descriptor), folder, wanted, name=name, web=web) as server:
        server.serve_forever()


if __name__ == "__main__":
    if tether.tie(os.getppid()):
        run(int(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]), sys.argv[5:])
