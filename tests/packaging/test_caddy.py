"""The Caddyfile of deploy/compose in Caddy itself, before a real replica."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers import BROKER_YAML, ROOT, TENANT_YAML, Homerealm, free_ports, homerealm, running

pytestmark = [pytest.mark.packaging, pytest.mark.xdist_group("shipped")]
FOLDER = ROOT / "deploy" / "compose"
CADDYFILE = (FOLDER / "Caddyfile").read_text()
CADDY = Path(sys.executable).with_name("caddy")
SERVICES = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]


def adapted(name: str) -> dict[str, Any]:
    """What Caddy makes of the file for this public name. Raises `CalledProcessError` for a file that it refuses."""
    done = subprocess.run(
        [CADDY, "adapt", "--config", FOLDER / "Caddyfile", "--adapter", "caddyfile"],
        env=os.environ | {"HOMEREALM_NAME": name}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    [server] = json.loads(done.stdout)["apps"]["http"]["servers"].values()
    return dict(server)


def test_it_serves_the_public_name_alone_and_every_replica_of_compose() -> None:
    server = adapted("login.example.org")
    assert server["listen"] == [":443"], "and :80, which leads there"
    [route] = server["routes"]
    assert route["match"] == [{"host": ["login.example.org"]}]
    [inner] = route["handle"][0]["routes"]
    [proxy] = inner["handle"]
    replicas = {
        f"{name}:8000"
        for name, one in SERVICES.items()
        if one.get("image", "").startswith("homerealm") and name != "upgrade"
    }
    assert {one["dial"] for one in proxy["upstreams"]} == replicas
    assert proxy["health_checks"]["active"]["uri"] == "/readyz"
    assert set(SERVICES["proxy"]["depends_on"]) == {name.partition(":")[0] for name in replicas}


@dataclass
class Behind:
    """A replica behind Caddy."""

    replica: Homerealm
    port: int
    trust: ssl.SSLContext

    def get(self, path: str) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=10, context=self.trust)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response, response.read()


def certified(port: int, authority: Path) -> bool:
    """Whether Caddy has made its certificates."""
    with contextlib.suppress(OSError):
        trust = ssl.create_default_context(cafile=str(authority))
        with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
            trust.wrap_socket(plain, server_hostname="localhost").close()
        return True
    return False


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Behind]:
    """The file as it is shipped, but for ports and addresses: broker1 is dead, broker2 lives."""
    dead = free_ports(3)
    plain, tls = dead + 1, dead + 2
    authority = tmp_path / "data/caddy/pki/authorities/local/root.crt"
    with homerealm() as replica:
        broker = BROKER_YAML.replace("http://localhost:{port}", f"https://localhost:{tls}")
        replica.configure({"acme": TENANT_YAML}, broker + "trusted_proxies: [127.0.0.1/32]\n")
        file = tmp_path / "Caddyfile"
        ours = f"{{\n\tadmin off\n\tskip_install_trust\n\thttp_port {plain}\n\thttps_port {tls}\n}}\n"
        places = {"broker1:8000": f"127.0.0.1:{dead}", "broker2:8000": f"127.0.0.1:{replica.port}"}
        text = CADDYFILE
        for shipped, here in places.items():
            text = text.replace(shipped, here)
        file.write_text(ours + text)
        environment = {"HOMEREALM_NAME": "localhost", "XDG_DATA_HOME": str(tmp_path / "data"),
                       "XDG_CONFIG_HOME": str(tmp_path / "config")}  # fmt: skip
        with (
            replica.serving("--workers", "1", "--no-worker"),
            running([CADDY, "run", "--config", file, "--adapter", "caddyfile"],
                    lambda: certified(tls, authority), log=tmp_path / "caddy.log", env=environment),
        ):  # fmt: skip
            yield Behind(replica, tls, ssl.create_default_context(cafile=str(authority)))


def test_a_sign_in_page_comes_through_tls_although_a_replica_is_dead(behind: Behind) -> None:
    for _ in range(6):  # whichever of the two is asked first
        answer, body = behind.get("/t/acme/.well-known/openid-configuration")
        assert answer.status == 200, body
        assert json.loads(body)["issuer"] == f"https://localhost:{behind.port}/t/acme"
    page, _ = behind.get("/t/acme/login")
    assert page.status == 200
    cookies = page.headers.get_all("Set-Cookie") or []
    assert cookies
    assert all("; Secure" in cookie for cookie in cookies), "Homerealm knows that it is behind TLS"
