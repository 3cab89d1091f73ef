"""Numbers: summed over processes, living and dead; and the dashboard, the alerts and the guide that are about them."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from broker.core import metrics
from broker.core.happenings import EVENTS
from broker.core.metrics import COUNTED, METRICS, OTHER, PROCESSES, exposed
from broker.lookout import Lookout
from broker.services.tally import Tally, total
from broker.testing.race import race
from tests.servers import homerealm

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "homerealm.json").read_text())
ALERTS = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text())["groups"][0]["rules"]
LOGIN = ("logins", "acme", "users", "finished")


def in_a_child(work) -> None:
    """A process that counts, and is killed."""
    child = os.fork()
    if child == 0:
        work()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def scrape(port: int) -> dict[tuple[str, ...], float]:
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with Lookout("127.0.0.1", 0, tmp_path) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_what_processes_counted_is_summed_also_when_they_are_dead(tmp_path: Path, port: int) -> None:
    for _ in range(2):
        in_a_child(lambda: Tally(tmp_path, "web").count(*LOGIN, amount=3))
    mine = Tally(tmp_path, "worker")
    mine.count(*LOGIN)
    mine.observe("http", 0.02, "/token", "POST", "2xx")
    mine.observe("http", 60, "/token", "POST", "2xx")
    mine.level("hash_callers", 4)
    for _ in range(2):
        seen = scrape(port)
        assert (
            seen[
                "homerealm_logins_total",
                *sorted(
                    (
                        "acme",
                        "users",
                        "finished",
                    )
                ),
            ]
            == 7
        )
        assert (
            seen[
                "homerealm_http_seconds_count",
                *sorted(
                    (
                        "/token",
                        "POST",
                        "2xx",
                    )
                ),
            ]
            == 2
        )
        assert (
            seen[
                "homerealm_http_seconds_bucket",
                *sorted(
                    (
                        "/token",
                        "POST",
                        "2xx",
                        "0.025",
                    )
                ),
            ]
            == 1
        )
        assert seen[
            "homerealm_http_seconds_sum",
            *sorted(
                (
                    "/token",
                    "POST",
                    "2xx",
                )
            ),
        ] == pytest.approx(60.02)
        assert seen["homerealm_hash_callers",] == 4
        assert seen["homerealm_processes", *sorted(("worker",))] == 1
        assert seen["homerealm_resident_memory_bytes", *sorted(("worker",))] > 1_000_000
    assert sorted(path.name for path in tmp_path.glob("*.tally")) == [f"worker-{os.getpid()}.tally"]


def test_a_gauge_of_the_dead_is_forgotten(tmp_path: Path) -> None:
    in_a_child(lambda: Tally(tmp_path, "web").level("hash_callers", 9))
    assert total(tmp_path) == ({}, {})


def test_a_child_has_numbers_of_its_own(tmp_path: Path) -> None:
    tally = Tally(tmp_path, "web")
    tally.count(*LOGIN)
    in_a_child(lambda: tally.count(*LOGIN))
    tally.count(*LOGIN)
    assert total(tmp_path)[0] == {LOGIN: 3}


def test_threads_lose_nothing_and_files_grow(tmp_path: Path) -> None:
    tally = Tally(tmp_path, "web")

    def count(caller: int) -> None:
        for number in range(500):
            tally.count(*LOGIN)
            tally.count("failures", f"code-{caller}-{number}")

    race(count, callers=4)
    sums, living = total(tmp_path)
    assert sums[LOGIN] == 2000
    assert len(sums) == 2001
    assert living == {"web": [os.getpid()]}


def test_there_is_an_end_to_new_series_and_the_sum_stays_right(tmp_path: Path) -> None:
    tally = Tally(tmp_path, "web")
    for number in range(metrics.SERIES + 100):
        tally.count("throttled", f"tenant-{number}")
    sums = total(tmp_path)[0]
    assert len(sums) <= metrics.SERIES + 1
    assert sums["throttled", OTHER] == 100
    assert sum(sums.values()) == metrics.SERIES + 100


def test_every_counted_event_and_label_exists() -> None:
    assert set(COUNTED) <= set(EVENTS)
    for metric, labels in COUNTED.values():
        assert len(labels) == len(METRICS[metric].labels)


def known_names() -> set[str]:
    names = set()
    for name, metric in {**METRICS, **PROCESSES}.items():
        shown = exposed(name)
        names |= {f"{shown}_{part}" for part in ("bucket", "sum", "count")} if metric.kind == "histogram" else {shown}
    return names


def expressions() -> dict[str, str]:
    found = {rule["alert"]: rule["expr"] for rule in ALERTS}
    found |= {panel["title"]: target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]}
    return found


@pytest.mark.parametrize("title", expressions())
def test_dashboard_and_alerts_ask_for_metrics_and_labels_that_exist(title: str) -> None:
    expression = expressions()[title]
    asked = re.findall(r"homerealm_\w+", expression)
    assert asked
    assert set(asked) <= known_names()
    for name, labels in re.findall(r"(homerealm_\w+)\{([^}]*)\}", expression):
        metric = next(m for n, m in {**METRICS, **PROCESSES}.items() if name.startswith(exposed(n)))
        assert set(re.findall(r"(\w+)(?:=~|=)", labels)) <= set(metric.labels)


def test_every_alert_has_its_paragraph_in_the_guide_and_the_other_way_round() -> None:
    guide = (ROOT / "docs" / "guides" / "operators.md").read_text()
    told = re.findall(r"^\*\*(Homerealm\w+)\*\* \((page|ticket)\): .{80,}", guide, re.MULTILINE)
    assert told == [(rule["alert"], rule["labels"]["severity"]) for rule in ALERTS]


def test_the_server_answers_on_its_internal_listener_and_nowhere_else() -> None:
    with homerealm() as server:
        file = server.config / "broker.yaml"
        other = server.port + 1
        file.write_text(file.read_text() + f'metrics: {{listen: "127.0.0.1:{other}"}}\n')
        with server.serving("--workers", "1"):
            urllib.request.urlopen(f"{server.origin}/t/acme/.well-known/openid-configuration").read()
            seen = scrape(other)
            route = "/.well-known/openid-configuration"
            assert (
                seen[
                    "homerealm_http_seconds_count",
                    *sorted(
                        (
                            route,
                            "GET",
                            "2xx",
                        )
                    ),
                ]
                == 1
            )
            assert seen["homerealm_processes", *sorted(("web",))] == 1
            assert seen["homerealm_worker_round_timestamp_seconds",] > 0
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"{server.origin}/metrics")
