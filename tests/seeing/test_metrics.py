"""Numbers: summed over processes, living and dead; and the dashboard, the alerts and the guide that are about them."""

from __future__ import annotations

import ast
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from broker.core import metrics
from broker.core.happenings import EVENTS
from broker.core.metrics import COUNTED, METRICS, OTHER, PROCESSES, exposed
from broker.core.story import Story
from broker.services.tally import Tally, total
from broker.serving.lookout import Lookout, state
from broker.stores.kv.redis import RedisKeyValue
from broker.stores.kv.stories import KvStories
from broker.stores.sql.schema import HEAD
from broker.testing.clock import FixedClock
from broker.testing.race import race
from broker.wsgi import listen
from tests.crash.processes import wait_until
from tests.postgresql import as_root
from tests.servers import BROKER_YAML, TENANT_YAML, free_port, free_ports, homerealm, listens, program, running

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
    with Lookout(listen("127.0.0.1", 0), tmp_path) as server:
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


def readiness(port: int) -> tuple[int, dict[str, object]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def test_the_internal_listener_says_why_it_is_not_ready(tmp_path: Path, port: int) -> None:
    worker = Tally(tmp_path, "worker")
    worker.level("worker_round_timestamp_seconds", 1_000_000)
    worker.level("schema_unfit", 1)
    status, told = readiness(port)
    assert (status, told["ready"]) == (503, False)
    assert told["reasons"][0] == "no web process is alive"
    assert told["reasons"][1].startswith("the background worker did its last round ")
    assert told["reasons"][2].startswith("this version cannot work with the tables")
    worker.level("schema_unfit", 0)
    worker.level("schema_revision", 2)
    web = Tally(tmp_path, "web")
    web.level("config_refused", 1)
    worker.level("worker_round_timestamp_seconds", 100_000_000_000)
    assert readiness(port) == (200, {
        "ready": True, "reasons": [], "missing": [], "processes": {"web": 1, "worker": 1},
        "worker_round_age_seconds": 0.0, "schema_revision": 2,
        "configuration_refused": True,
    })  # fmt: skip


def test_whoever_should_be_there_and_is_not_is_a_reason(tmp_path: Path) -> None:
    web = Tally(tmp_path, "web")
    assert state(tmp_path, 0, ["web", "worker"])["reasons"] == ["no background worker is alive"]
    assert state(tmp_path, 0, ["web"])["ready"], "--no-worker"
    assert state(tmp_path, 0, ["worker"])["ready"] is False
    web.level("config_refused", 0)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200), ("10.0.0.7:9464", 200), ("[::1]:9464", 200), ("localhost:9464", 200), ("LOCALHOST", 200),
        ("broker:9464", 200), (socket.gethostname(), 200), ("metrics.internal", 200), ("metrics.internal:1", 200),
        ("rebound.example", 421), ("rebound.example:9464", 421), ("127.0.0.1.rebound.example", 421),
        ("localhost.rebound.example", 421), (f"{socket.gethostname()}.rebound.example", 421), ("rebound.example.", 421),
    ],
)  # fmt: skip
def test_a_page_of_a_stranger_cannot_read_the_numbers_by_a_name_of_its_own(
    host: str, status: int, port: int, tmp_path: Path
) -> None:
    with Lookout(listen("127.0.0.1", 0), tmp_path, name="metrics.internal") as server:
        assert server.is_called(host) is (status == 200)
    if host.startswith("metrics.internal"):
        return
    for path in ("/metrics", "/readyz?"):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        assert (answer.status == 421) is (status == 421)
        assert (b"homerealm" not in said and b"reasons" not in said) is (status == 421)


def test_on_an_address_of_the_network_it_answers_to_the_names_that_others_give_it(tmp_path: Path) -> None:
    with Lookout(listen("0.0.0.0", 0), tmp_path) as server:
        assert server.is_called("homerealm.identity.svc:9464")


def test_a_gauge_of_the_dead_is_forgotten(tmp_path: Path) -> None:
    in_a_child(lambda: Tally(tmp_path, "web").level("hash_callers", 9))
    assert total(tmp_path) == ({}, {})


def test_a_child_has_numbers_of_its_own(tmp_path: Path) -> None:
    tally = Tally(tmp_path, "web")
    tally.count(*LOGIN)
    in_a_child(lambda: tally.count(*LOGIN))
    tally.count(*LOGIN)
    assert total(tmp_path)[0] == {LOGIN: 3}


def test_processes_of_two_containers_with_one_number_count_both(tmp_path: Path) -> None:
    """Process 9 of each of them, on one volume."""
    first, second = Tally(tmp_path, "web"), Tally(tmp_path, "web")
    for tally in (first, second, first):
        tally.count(*LOGIN)
    assert total(tmp_path) == ({LOGIN: 3}, {"web": [os.getpid()] * 2})


def test_a_process_with_the_number_of_a_dead_one_leaves_its_counters_to_the_archive(tmp_path: Path) -> None:
    in_a_child(lambda: Tally(tmp_path, "web").count(*LOGIN, amount=3))
    (dead,) = tmp_path.glob("*.tally")
    dead.rename(tmp_path / f"web-{os.getpid()}.tally")
    living = Tally(tmp_path, "web")
    living.count(*LOGIN)
    assert [total(tmp_path) for _ in range(2)] == [({LOGIN: 4}, {"web": [os.getpid()]})] * 2


def test_whoever_begins_and_dies_while_others_look_is_counted_once(tmp_path: Path) -> None:
    def work(caller: int) -> None:
        for _ in range(30):
            if caller % 2:
                total(tmp_path)
            else:
                in_a_child(lambda: Tally(tmp_path, "web").count(*LOGIN))

    race(work, callers=4)
    assert total(tmp_path) == ({LOGIN: 60}, {})
    assert list(tmp_path.glob("*.tally")) == []


FULL = """
import os, sys
from pathlib import Path
from broker.core.watching import NO_METER
from broker.services import event_log
from broker.services.tally import Tally, total
from broker.wiring import open_meter
event_log.configure()
folder, login = Path(sys.argv[1]), ("logins", "acme", "users", "finished")
child = os.fork()
if child == 0:
    Tally(folder, "worker").count(*login, amount=3)
    os.kill(os.getpid(), 9)
os.waitpid(child, 0)
tally = Tally(folder, "web")
tally.count(*login)
with (folder / "filler").open("wb", buffering=0) as filler:
    try:
        while filler.write(bytes(4096)): pass
    except OSError:
        print("full")
for number in range(2000):
    tally.count("failures", f"code-{number}")
tally.count(*login)
print(*(total(folder)[0][login] for _ in range(2)))
print(open_meter({"HOMEREALM_METRICS": str(folder)}) is NO_METER)
if os.fork() == 0:
    tally.count(*login, amount=100)
    os._exit(0)
os.wait()
(folder / "filler").unlink()
tally.count("failures", "again")
sums, living = total(folder)
print(sums[login], sums["failures", "again"], ("failures", "code-1999") in sums, *living)
print(*sorted(path.name.partition("-")[0] for path in folder.iterdir()))
"""


def test_a_full_disk_costs_numbers_and_no_process(tmp_path: Path) -> None:
    """Memory that is mapped to what a full disk has no room for kills whoever touches it."""
    namespace = [*as_root(), "unshare", "--mount"]
    disk = 'mount -t tmpfs -o size=256k none "$1" && exec "$0" -c "$2" "$1"'
    done = subprocess.run([*namespace, "sh", "-c", disk, sys.executable, str(tmp_path), FULL], cwd=ROOT,
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.stdout.splitlines() == [
        "full", "5.0 5.0", "True", "5.0 1.0 False web", "archive.json lock web",
    ]  # fmt: skip
    assert done.returncode == 0
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["metrics.lost"] * 2


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


def counted_in_the_code() -> set[str]:
    """Metrics that somebody sets: by an event that is said, or by a call on a meter."""
    found = {metric for metric, _ in COUNTED.values()}
    for path in ROOT.glob("broker/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                first = node.args[0]
                if node.func.attr in ("count", "observe", "level") and isinstance(first, ast.Constant):
                    found.add(first.value)
    return found


def test_every_metric_is_set_by_something() -> None:
    assert set(METRICS) <= counted_in_the_code()


LOSES = """
import os
from broker.services import event_log
from broker.wiring import open_meter
event_log.configure()
open_meter(os.environ)
event_log.logger("homerealm").info("config.watched", version="v1")
"""


def test_lost_lines_of_the_log_are_a_number(tmp_path: Path, port: int) -> None:
    with Path("/dev/full").open("w") as full:
        subprocess.run([sys.executable, "-c", LOSES], cwd=ROOT, stderr=full, check=True, timeout=60,
                       env={**os.environ, "HOMEREALM_METRICS": str(tmp_path)})  # fmt: skip
    assert scrape(port)["homerealm_events_dropped_total",] == 1


def test_lost_stories_are_a_number(tmp_path: Path) -> None:
    nowhere = RedisKeyValue.connect(f"redis://127.0.0.1:{free_port()}")
    keeper = KvStories(nowhere, FixedClock(), meter=Tally(tmp_path, "web"))
    for _ in range(400):
        keeper.keep(Story("7K3Q-XW92-4T", FixedClock().now(), "login.refused", "password.wrong", 422))
    keeper.close()
    assert total(tmp_path)[0]["stories_dropped",] == keeper.dropped > 0


def until(port: int, said: Callable[[dict[tuple[str, ...], float]], bool]) -> dict[tuple[str, ...], float]:
    wait_until(lambda: said(scrape(port)), "what the listener should say", 20)
    return scrape(port)


def test_versions_and_refusals_of_the_configuration_are_numbers_of_all_processes() -> None:
    with homerealm() as server:
        server.port = free_ports(2)
        server.configure(
            {"acme": TENANT_YAML}, f'{BROKER_YAML}metrics: {{{{listen: "127.0.0.1:{server.port + 1}"}}}}\n'
        )
        listener, tenant = server.port + 1, server.config / "tenants" / "acme.yaml"

        def versions(seen: dict[tuple[str, ...], float]) -> dict[str, float]:
            return {key[1]: value for key, value in seen.items() if key[0] == "homerealm_config_info"}

        with server.serving("--workers", "2"):
            seen = until(listener, lambda seen: sum(versions(seen).values()) == 3)  # and the worker
            (before,) = versions(seen)
            assert seen["homerealm_config_refused",] == 0
            tenant.write_text("tenant: acme\nnobody: knows this\n")
            seen = until(listener, lambda seen: seen["homerealm_config_refused",] == 1)
            assert versions(seen) == {before: 3}
            tenant.write_text(TENANT_YAML.replace("name: Acme", "name: Acme & Sons"))
            seen = until(listener, lambda seen: seen["homerealm_config_refused",] == 0 and before not in versions(seen))
            assert list(versions(seen).values()) == [3]


def test_a_worker_alone_says_its_numbers_where_it_is_told_or_beside_a_server_in_the_sum_of_that_one() -> None:
    with homerealm() as server:
        server.port = free_ports(3)
        own, listener = server.port + 1, server.port + 2
        server.configure({"acme": TENANT_YAML}, f'{BROKER_YAML}metrics: {{{{listen: "127.0.0.1:{listener}"}}}}\n')
        command = [program(), "worker", "--config", server.config]

        def worker(*options: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
            listening = bool(options)
            return running(
                [*command, *options], lambda: not listening or listens(own), log=server.log, cwd=server.folder
            )

        with server.serving("--workers", "1", "--no-worker"):
            for port, options in ((own, ["--metrics", f"127.0.0.1:{own}"]), (listener, [])):
                with worker(*options):
                    seen = until(port, lambda seen: ("homerealm_worker_round_timestamp_seconds",) in seen)
                    assert seen["homerealm_processes", "worker"] == 1
                    status, told = readiness(port)
                    assert (status, told["reasons"]) == (200, [])
                    if port == own:
                        assert ("homerealm_processes", "worker") not in scrape(listener), "nothing is counted twice"


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
    assert asked or expression.startswith("up{"), "that one is Prometheus's own"
    assert set(asked) <= known_names()
    for name, labels in re.findall(r"(homerealm_\w+)\{([^}]*)\}", expression):
        metric = next(m for n, m in {**METRICS, **PROCESSES}.items() if name.startswith(exposed(n)))
        assert set(re.findall(r"(\w+)(?:=~|!~|!=|=)", labels)) <= set(metric.labels)


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
            # The worker begins when the web process answers.
            seen = until(other, lambda seen: ("homerealm_worker_round_timestamp_seconds",) in seen)
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
            assert seen["homerealm_schema_revision",] == int(HEAD)
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"{server.origin}/metrics")
