"""The alerts of deploy/prometheus, as Prometheus itself understands them: each fires, and none without a reason."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers import ROOT

pytestmark = pytest.mark.peer

FILES = ROOT / "deploy" / "prometheus"
ALERTS = {alert["alert"]: alert for alert in yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"][0]["rules"]}
HEALTHY = {
    'homerealm_processes{role="web"}': "2x600",
    'up{job="homerealm",instance="127.0.0.1:18001"}': "1x600",
    'up{job="homerealm",instance="127.0.0.1:18002"}': "1x600",
    "homerealm_worker_round_timestamp_seconds": "0+60x600",
    "homerealm_schema_unfit": "0x600",
    'homerealm_store_missing{store="database"}': "0x600",
    'homerealm_store_missing{store="key_value"}': "0x600",
    'homerealm_http_seconds_count{route="/login"}': "0+600x600",
    'homerealm_http_seconds_count{route="/readyz"}': "0+60x600",
    'homerealm_failures_total{code="internal"}': "0+6x600",
    'homerealm_mail_server_down{tenant="acme"}': "0x600",
    'homerealm_mail_server_down{tenant="globex"}': "0x600",
    'homerealm_outbox_jobs{state="new"}': "2x600",
    "homerealm_outbox_oldest_seconds": "1x600",
    'homerealm_outbox_jobs{state="dead"}': "3x600",
    'homerealm_resets_total{tenant="acme",step="sent"}': "0+1x600",
    'homerealm_resets_total{tenant="acme",step="opened"}': "0+1x600",
    'homerealm_upstream_seconds_count{host="idp.example"}': "0+60x600",
    'homerealm_upstream_failures_total{host="idp.example"}': "0+1x600",
    'homerealm_busy_total{tenant="acme"}': "0+1x600",
    'homerealm_throttled_total{tenant="acme"}': "0+1x600",
    "homerealm_config_refused": "0x600",
    'homerealm_config_info{version="one"}': "2x600",
    "homerealm_events_dropped_total": "0x600",
}
"""One sample a minute, in the notation of promtool: the first, how much more each time, how many."""
ILL: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "HomerealmDown": ({'homerealm_processes{role="web"}': "2x299 0x300"}, {}),
    "HomerealmReplicaDown": (
        {'up{job="homerealm",instance="127.0.0.1:18002"}': "1x299 0x300"},
        {"job": "homerealm", "instance": "127.0.0.1:18002"},
    ),
    "HomerealmWorkerStopped": ({"homerealm_worker_round_timestamp_seconds": "0+60x299 17940x300"}, {}),
    "HomerealmTablesDoNotFit": ({"homerealm_schema_unfit": "0x299 1x300"}, {}),
    "HomerealmStoreMissing": ({'homerealm_store_missing{store="database"}': "0x299 1x300"}, {"store": "database"}),
    "HomerealmFailures": ({'homerealm_failures_total{code="internal"}': "0+60x600"}, {}),
    "HomerealmMailServerDown": ({'homerealm_mail_server_down{tenant="acme"}': "0x299 1x300"}, {"tenant": "acme"}),
    "HomerealmMailStuck": ({"homerealm_outbox_oldest_seconds": "0+60x600"}, {}),
    "HomerealmMailGivenUp": ({'homerealm_outbox_jobs{state="dead"}': "3x340 4x260"}, {}),
    "HomerealmResetsDoNotArrive": (
        {'homerealm_resets_total{tenant="acme",step="opened"}': "0x600"},
        {"tenant": "acme"},
    ),
    "HomerealmProviderFails": (
        {'homerealm_upstream_failures_total{host="idp.example"}': "0+30x600"},
        {"host": "idp.example"},
    ),
    "HomerealmHashingFull": ({'homerealm_busy_total{tenant="acme"}': "0+120x600"}, {}),
    "HomerealmThrottled": ({'homerealm_throttled_total{tenant="acme"}': "0+600x600"}, {"tenant": "acme"}),
    "HomerealmConfigurationRefused": ({"homerealm_config_refused": "0x299 1x300"}, {}),
    "HomerealmVersionsDiffer": ({'homerealm_config_info{version="two"}': "1x600"}, {}),
    "HomerealmLogLost": ({"homerealm_events_dropped_total": "0x355 7x245"}, {}),
}
"""By alert: what differs, and the labels that it names."""
GONE = {
    "HomerealmDown": 'homerealm_processes{role="web"}',
    "HomerealmWorkerStopped": "homerealm_worker_round_timestamp_seconds",
}
"""What nobody says any more is a reason as well."""


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("promtool") is None:
        pytest.skip("Prometheus is not installed")
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)


def judged(folder: Path, series: dict[str, str], firing: dict[str, dict[str, str]]) -> str:
    """What promtool has to say against exactly these alerts, with their labels, after six hours."""
    expected = [
        {
            "eval_time": "6h",
            "alertname": name,
            "exp_alerts": [
                {
                    "exp_labels": {**alert["labels"], **firing[name]},
                    "exp_annotations": alert["annotations"],
                }
            ]
            if name in firing
            else [],
        }
        for name, alert in ALERTS.items()
    ]
    story: dict[str, Any] = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": expected,
    }
    file = folder / "story.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(FILES / "alerts.yaml")], "tests": [story]}))
    done = promtool("test", "rules", file)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_a_day_like_any_other_wakes_nobody(tmp_path: Path) -> None:
    assert judged(tmp_path, HEALTHY, {}) == ""


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_fires_for_its_reason_and_no_other_one_does(tmp_path: Path, name: str) -> None:
    differs, labels = ILL[name]
    assert judged(tmp_path, {**HEALTHY, **differs}, {name: labels}) == ""


@pytest.mark.parametrize("name", GONE)
def test_an_alert_does_not_end_because_nobody_says_anything(tmp_path: Path, name: str) -> None:
    series = {one: values for one, values in HEALTHY.items() if one != GONE[name]}
    labels = {"role": "web"} if name == "HomerealmDown" else {}
    assert judged(tmp_path, series, {name: labels}) == ""


def test_a_server_that_was_down_wakes_nobody_when_no_mail_waits(tmp_path: Path) -> None:
    quiet = {'homerealm_mail_server_down{tenant="acme"}': "1x600", 'homerealm_outbox_jobs{state="new"}': "0x600"}
    assert judged(tmp_path, {**HEALTHY, **quiet}, {}) == ""


def test_links_that_nobody_has_ever_opened_do_not_arrive(tmp_path: Path) -> None:
    """A counter that was never counted up is no series, and a comparison with nothing is nothing."""
    never = 'homerealm_resets_total{tenant="acme",step="opened"}'
    series = {one: values for one, values in HEALTHY.items() if one != never}
    assert judged(tmp_path, series, {"HomerealmResetsDoNotArrive": {"tenant": "acme"}}) == ""


def test_probes_that_succeed_do_not_outweigh_people_who_meet_failures(tmp_path: Path) -> None:
    night = {
        'homerealm_http_seconds_count{route="/login"}': "0+6x600",
        'homerealm_http_seconds_count{route="/readyz"}': "0+600x600",
        'homerealm_http_seconds_count{route="/healthz"}': "0+600x600",
        'homerealm_failures_total{code="internal"}': "0+3x600",
    }
    assert judged(tmp_path, {**HEALTHY, **night}, {"HomerealmFailures": {}}) == ""


def test_prometheus_takes_the_file_that_says_where_the_numbers_are(tmp_path: Path) -> None:
    """Debian's is built without Kubernetes: its job is left out for it."""
    config = yaml.safe_load((FILES / "scrape.yaml").read_text())
    config["scrape_configs"] = [one for one in config["scrape_configs"] if "kubernetes_sd_configs" not in one]
    shutil.copy(FILES / "alerts.yaml", tmp_path)
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    done = promtool("check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout
