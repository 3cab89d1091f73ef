"""The metrics of every deployment in deploy/: where they are answered, who reaches them, what Prometheus is told."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import yaml

from broker.cli.serve import serve
from tests.servers import ROOT

DEPLOY = ROOT / "deploy"
SCRAPE = yaml.safe_load((DEPLOY / "prometheus" / "scrape.yaml").read_text())
JOBS = {job["job_name"]: job for job in SCRAPE["scrape_configs"]}
COMPOSE = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
UNIT = (DEPLOY / "systemd" / "homerealm@.service").read_text()


def manifest(name: str) -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "kubernetes" / f"{name}.yaml").read_text())


def told(command: list[str]) -> dict[str, Any]:
    """What `homerealm serve` understands of a command line. Raises `click.UsageError` for what it does not."""
    assert command[0] == "serve"
    return serve.make_context("serve", command[1:]).params


def targets(job: str) -> list[str]:
    [group] = JOBS[job]["static_configs"]
    return group["targets"]


def test_prometheus_gets_the_alerts_that_are_beside_its_file() -> None:
    assert [(DEPLOY / "prometheus" / name).is_file() for name in SCRAPE["rule_files"]] == [True]
    assert len(JOBS) == len(SCRAPE["scrape_configs"]) == 3, "a job has a name of its own"


def unit(port: int) -> dict[str, Any]:
    [line] = re.findall(r"^ExecStart=\S+ (.+)$", UNIT, re.MULTILINE)
    return told(shlex.split(line.replace("%i", str(port))))


def test_replicas_under_systemd_are_scraped_where_they_listen() -> None:
    ports = [int(port) for port in re.findall(r"homerealm@(\d+)", UNIT)]
    assert targets("homerealm") == [unit(port)["metrics"] for port in ports] == ["127.0.0.1:18001", "127.0.0.1:18002"]


@pytest.mark.parametrize("port", [1024, 8001, 9999])
def test_every_port_of_four_digits_has_one_for_its_metrics(port: int) -> None:
    assert unit(port)["port"] == port
    assert unit(port)["metrics"] == f"127.0.0.1:{10_000 + port}"


def test_replicas_in_containers_are_scraped_by_name_and_publish_nothing() -> None:
    brokers = {name: one for name, one in COMPOSE["services"].items() if name.startswith("broker")}
    found = []
    for name, service in brokers.items():
        understood = told(service["command"])
        assert understood["port"] == 8000, "what the proxy asks"
        host, _, port = understood["metrics"].rpartition(":")
        assert host == "0.0.0.0"
        assert "ports" not in service
        assert "inside" in service["networks"]
        found.append(f"{name}:{port}")
    assert targets("homerealm-compose") == found
    assert COMPOSE["networks"]["inside"]["internal"]
    published = [name for name, service in COMPOSE["services"].items() if "ports" in service]
    assert published == ["proxy"]
    assert "9464" not in (DEPLOY / "compose" / "Caddyfile").read_text()


def test_pods_are_scraped_at_the_port_that_the_network_policy_opens_to_prometheus_alone() -> None:
    template = manifest("deployment")["spec"]["template"]
    [container] = template["spec"]["containers"]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    understood = told(container["args"])
    assert understood["metrics"] == f"0.0.0.0:{ports['metrics']}"
    assert understood["port"] == ports["http"]
    assert template["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true", "prometheus.io/port": str(ports["metrics"]), "prometheus.io/path": "/metrics",
    }  # fmt: skip
    assert [one["targetPort"] for one in manifest("service")["spec"]["ports"]] == ["http"]
    opened = {
        port["port"]: [one["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for one in rule["from"]]
        for rule in manifest("network")["spec"]["ingress"]
        for port in rule["ports"]
    }
    assert opened == {"http": ["ingress-nginx"], "metrics": ["monitoring"]}


def test_prometheus_keeps_the_one_port_of_a_pod_that_has_metrics() -> None:
    job = JOBS["homerealm-kubernetes"]
    [discovery] = job["kubernetes_sd_configs"]
    assert discovery == {"role": "pod", "namespaces": {"names": [manifest("kustomization")["namespace"]]}}
    [keep] = [one for one in job["relabel_configs"] if one.get("action") == "keep"]
    template = manifest("deployment")["spec"]["template"]
    [container] = template["spec"]["containers"]
    kept = [
        port["name"]
        for port in container["ports"]
        if re.fullmatch(keep["regex"], f"{template['metadata']['labels']['app.kubernetes.io/name']};{port['name']}")
    ]
    assert kept == ["metrics"]
