"""What stands in deploy/: checked as far as it can be without a container engine or a cluster."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate
import pytest
import redis
import yaml
from compose_spec import PyCompose

from broker.stores.kv.embedded import find_server
from tests.crash.processes import wait_until
from tests.postgresql import programs
from tests.servers import ROOT, answers, homerealm, program, running

pytestmark = [pytest.mark.packaging, pytest.mark.xdist_group("shipped")]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted(path for path in (DEPLOY / "kubernetes").glob("*.yaml") if path.name != "kustomization.yaml")
KUBERNETES = "1.31"
COMPOSE = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
CONTAINERFILE = (DEPLOY / "container" / "Containerfile").read_text()


def manifests(kind: str = "") -> list[dict[str, Any]]:
    every = [one for path in MANIFESTS for one in yaml.safe_load_all(path.read_text())]
    return [one for one in every if not kind or one["kind"] == kind]


def check(folder: Path, secrets: dict[str, str]) -> None:
    """`homerealm check` on a shipped configuration, with its secrets where the container would have them."""
    for path in folder.rglob("*.yaml"):
        text = path.read_text()
        for place, value in secrets.items():
            file = folder.parent / Path(place).name
            file.write_text(value)
            text = text.replace(f"${{FILE:{place}}}", f"${{FILE:{file}}}")
        path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "broker", "check", "--config", folder], cwd=folder.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- Kubernetes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_is_what_kubernetes_accepts(path: Path) -> None:
    for manifest in yaml.safe_load_all(path.read_text()):
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_every_manifest_is_applied() -> None:
    listed = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == [path.name for path in MANIFESTS]


def test_service_budget_and_network_policy_mean_the_pods_that_are_there() -> None:
    [deployment] = manifests("Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [deployment["spec"]["selector"]["matchLabels"]]
    selectors += [one["spec"]["selector"]["matchLabels"] for one in manifests("PodDisruptionBudget")]
    selectors += [one["spec"]["podSelector"]["matchLabels"] for one in manifests("NetworkPolicy")]
    selectors += [one["spec"]["selector"] for one in manifests("Service")]
    assert all(selector.items() <= labels.items() for selector in selectors)
    assert len(selectors) == 4


def test_pods_are_probed_where_homerealm_answers_and_have_time_to_drain() -> None:
    [deployment] = manifests("Deployment")
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == container["startupProbe"]["httpGet"]["path"] == "/healthz"
    slept = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= slept + 5, "TERM drains within five seconds"
    assert deployment["spec"]["replicas"] >= 2
    [budget] = manifests("PodDisruptionBudget")
    assert budget["spec"]["minAvailable"] < deployment["spec"]["replicas"]


def test_containers_have_no_rights_that_they_do_not_need() -> None:
    for kind in ("Deployment", "Job"):
        [manifest] = manifests(kind)
        pod = manifest["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["automountServiceAccountToken"] is False
        [container] = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip


def test_the_configuration_in_the_manifests_is_right(tmp_path: Path) -> None:
    maps = {one["metadata"]["name"]: one["data"] for one in manifests("ConfigMap")}
    [deployment] = manifests("Deployment")
    volumes = {one["name"]: one for one in deployment["spec"]["template"]["spec"]["volumes"]}
    config = tmp_path / "config"
    for source in volumes["config"]["projected"]["sources"]:
        data = maps[source["configMap"]["name"]]
        items = source["configMap"].get("items") or [{"key": key, "path": key} for key in data]
        for item in items:
            (config / item["path"]).parent.mkdir(parents=True, exist_ok=True)
            (config / item["path"]).write_text(data[item["key"]])
    place = "/run/secrets/homerealm"
    check(config, {
        f"{place}/database": "postgresql://homerealm:secret@db.example.org/homerealm",
        f"{place}/key_value": "rediss://:secret@kv.example.org:6379/0",
        f"{place}/secret_key": "0123456789abcdef" * 4,
    })  # fmt: skip


def test_the_secret_that_the_page_makes_is_the_one_that_the_configuration_reads() -> None:
    [config] = [one["data"]["broker.yaml"] for one in manifests("ConfigMap") if "broker.yaml" in one["data"]]
    made = set(re.findall(r"--from-literal=(\w+)=", (DEPLOY / "README.md").read_text()))
    assert made == set(re.findall(r"\$\{FILE:/run/secrets/homerealm/(\w+)\}", config))
    [deployment] = manifests("Deployment")
    volumes = {one["name"]: one for one in deployment["spec"]["template"]["spec"]["volumes"]}
    assert f"secret generic {volumes['secrets']['secret']['secretName']} " in (DEPLOY / "README.md").read_text()


def test_the_database_of_the_page_is_verified_by_a_list_of_authorities_that_is_a_file() -> None:
    """The bundled libpq finds no list by itself: neither without `sslrootcert` nor with `system`."""
    [address] = re.findall(r'--from-literal=database="([^"]+)"', (DEPLOY / "README.md").read_text())
    options = parse_qs(urlsplit(address).query)
    assert options["sslmode"] == ["verify-full"]
    assert Path(options["sslrootcert"][0]).is_absolute()


def test_the_image_that_pods_run_is_the_one_that_the_page_builds_and_of_this_version() -> None:
    images = {
        one["spec"]["template"]["spec"]["containers"][0]["image"]
        for one in [*manifests("Deployment"), *manifests("Job")]
    }
    [changed] = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())["images"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert images == {f"homerealm:{version}"}
    assert (changed["name"], changed["newTag"]) == ("homerealm", version)
    for text in ((DEPLOY / "README.md").read_text(), CONTAINERFILE):
        assert re.findall(r"docker build .*-t (\S+) ", text) == [f"homerealm:{version}"]


def test_a_pod_that_starts_before_the_job_refuses_and_serves_after_it() -> None:
    [pod], [job] = ([one["spec"]["template"]["spec"]["containers"][0]["args"] for one in manifests(kind)]
                    for kind in ("Deployment", "Job"))  # fmt: skip
    with homerealm() as server:
        local = {"0.0.0.0": "127.0.0.1", "8000": str(server.port)}
        command = [local.get(word, word) for word in pod]
        with pytest.raises(RuntimeError, match="homerealm db upgrade"):
            server.run(*command)
        server.run(*job)
        ready = lambda: answers(server.port, "/readyz")  # noqa: E731
        environment = {"HOMEREALM_CONFIG": str(server.config)}
        with running([program(), *command], ready, log=server.log, cwd=server.folder, env=environment):
            assert answers(server.port, "/healthz", seconds=20)


# --- Compose --------------------------------------------------------------------------------------------------------


def test_compose_has_only_keys_and_values_of_the_specification() -> None:
    every = PyCompose.from_yaml(yaml.safe_dump(COMPOSE))
    every.validate()
    assert set(every.service_names()) == set(COMPOSE["services"])
    for wrong in ({"read_onli": True}, {"restart": "sometimes"}, {"stop_grace_period": "10 parsecs"}):
        mistaken = COMPOSE | {"services": COMPOSE["services"] | {"broker1": COMPOSE["services"]["broker1"] | wrong}}
        with pytest.raises(ValueError, match="broker1"):
            PyCompose.from_yaml(yaml.safe_dump(mistaken))


def test_compose_names_nothing_that_it_does_not_define() -> None:
    for name, service in COMPOSE["services"].items():
        assert set(service.get("depends_on", ())) <= set(COMPOSE["services"]), name
        assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"]), name
        assert set(service.get("networks", ())) <= set(COMPOSE["networks"]), name
        assert {one["source"] for one in service.get("configs", ())} <= set(COMPOSE["configs"]), name
        named = {one.split(":")[0] for one in service.get("volumes", ()) if not one.startswith(".")}
        assert named <= set(COMPOSE["volumes"]), name
        conditions = service.get("depends_on", {})
        for other, wanted in conditions.items() if isinstance(conditions, dict) else ():
            if wanted["condition"] == "service_healthy":
                assert "healthcheck" in COMPOSE["services"][other], f"{name} waits for the health of {other}"


@pytest.fixture
def composed(tmp_path: Path) -> Path:
    """A copy of the folder, prepared."""
    folder = tmp_path / "compose"
    shutil.copytree(DEPLOY / "compose", folder)
    subprocess.run(
        [folder / "prepare"], check=True, env=os.environ | {"HOMEREALM_NAME": "login.example.org"}, capture_output=True
    )
    return folder


def test_what_prepare_makes_is_a_right_configuration(composed: Path) -> None:
    secrets = {f"/run/secrets/{path.name}": path.read_text() for path in (composed / "secrets").iterdir()}
    assert set(COMPOSE["secrets"]) == {Path(name).name for name in secrets}
    assert len(set(secrets.values())) == len(secrets)
    assert all(len(value) >= 43 for value in secrets.values())
    check(composed / "config", secrets)


def test_prepare_keeps_what_is_there(composed: Path) -> None:
    before = {path: path.read_text() for path in composed.rglob("*") if path.is_file()}
    subprocess.run([composed / "prepare"], check=True, capture_output=True)
    assert before == {path: path.read_text() for path in composed.rglob("*") if path.is_file()}


def test_the_proxy_gets_the_public_name_that_prepare_was_given(composed: Path) -> None:
    """Compose reads `.env` at each `up`, when the name is given to nobody any more."""
    given = dict(line.split("=") for line in (composed / ".env").read_text().splitlines())
    url = yaml.safe_load((composed / "config" / "broker.yaml").read_text())["base_url"]
    assert given == {"HOMEREALM_NAME": "login.example.org"}
    assert url == f"https://{given['HOMEREALM_NAME']}"
    assert "${HOMEREALM_NAME:-" in COMPOSE["services"]["proxy"]["environment"]["HOMEREALM_NAME"]


def test_the_store_of_compose_ends_when_it_is_told_to_and_shows_its_password_to_nobody(tmp_path: Path) -> None:
    socket, password = tmp_path / "socket", "a-password-of-this-test"
    (tmp_path / "data").mkdir()
    (tmp_path / "password").write_text(f"{password}\n")
    content = COMPOSE["configs"]["valkey"]["content"].replace("/data", str(tmp_path / "data"))
    (tmp_path / "valkey.conf").write_text(f"{content}port 0\nunixsocket {socket}\n")
    places = {
        "/etc/valkey.conf": tmp_path / "valkey.conf", "/run/secrets/key_value_password": tmp_path / "password",
        "/dev/shm/valkey.conf": tmp_path / "whole.conf", "exec valkey-server": f"exec {find_server()}", "$$": "$",
    }  # fmt: skip
    [shell, option, script] = COMPOSE["services"]["valkey"]["command"]
    for place, here in places.items():
        assert place in script
        script = script.replace(place, str(here))
    store = redis.Redis(unix_socket_path=str(socket), password=password)

    def answers_to_its_password() -> bool:
        try:
            return bool(store.ping())
        except redis.ConnectionError:
            return False

    with subprocess.Popen([shell, option, script], stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(answers_to_its_password, "the store is there")
            with pytest.raises(redis.AuthenticationError):
                redis.Redis(unix_socket_path=str(socket)).ping()
            assert store.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert password.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
            store.close()
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()


# --- Container, systemd --------------------------------------------------------------------------


def test_the_container_is_made_of_files_that_are_there_and_runs_without_rights() -> None:
    copied = [
        name for line in re.findall(r"^COPY (?!--from)(.+)$", CONTAINERFILE, re.MULTILINE) for name in line.split()[:-1]
    ]
    assert copied
    assert all((ROOT / name).exists() for name in copied), copied
    ignored = (DEPLOY / "container" / "Containerfile.dockerignore").read_text().splitlines()
    assert {name.removeprefix("!") for name in ignored if name.startswith("!")} == set(copied)
    last = CONTAINERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER (?!0)\d+:\d+$", last, re.MULTILINE)
    assert 'ENTRYPOINT ["homerealm"]' in last
    command = json.loads(re.findall(r"^CMD (\[.+\])$", last, re.MULTILINE)[0])
    told = subprocess.run([sys.executable, "-m", "broker", *command, "--help"], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


def test_the_container_has_the_python_that_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tested = [name.rpartition(" ")[2] for name in project["classifiers"] if ":: Python :: 3." in name]
    assert set(re.findall(r"^FROM \S+/python:([\d.]+)-", CONTAINERFILE, re.MULTILINE)) == set(tested)
    here = "{}.{}".format(*sys.version_info)
    if here not in tested:
        pytest.skip(f"the tests run on Python {here} here")


def test_compose_has_the_postgresql_that_is_tested() -> None:
    shipped = re.fullmatch(r".+/postgres:(\d+)-\w+", COMPOSE["services"]["postgres"]["image"])
    told = subprocess.run([programs() / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    here = re.search(r"\) (\d+)", told)
    assert shipped is not None and here is not None  # noqa: PT018
    if not Path("/etc/debian_version").exists() or not Path("/etc/debian_version").read_text().startswith("12"):
        pytest.skip(f"PostgreSQL {here[1]} here, which is not that of Debian 12")
    assert shipped[1] == here[1]


def test_the_unit_is_one_that_systemd_understands(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze here")
    unit = (DEPLOY / "systemd" / "homerealm@.service").read_text()
    # The program is not installed here; everything else is as it is shipped.
    (tmp_path / "homerealm@8001.service").write_text(unit.replace("/opt/homerealm/bin/homerealm", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / "homerealm@8001.service"], capture_output=True, text=True
    )
    said = [line for line in done.stderr.splitlines() if "homerealm" in line]
    assert said == [], done.stderr
