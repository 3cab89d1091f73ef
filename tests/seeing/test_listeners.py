"""The internal listeners of several replicas on one machine."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from broker.cli.lookout import counting
from broker.core.tenant import Settings
from broker.services.tally import ARCHIVE, Tally
from broker.serving.lookout import state
from tests.crash.processes import kill_nine, wait_until
from tests.kv_engines import server as key_value_server
from tests.kv_servers import processes
from tests.postgresql import Postgres
from tests.seeing.test_metrics import LOGIN, in_a_child, readiness, scrape, until
from tests.servers import BROKER_YAML, TENANT_YAML, Homerealm, free_ports, homerealm, listens, program, running
from tests.serving.test_serve import one, within_20_seconds

FLEET = f'{BROKER_YAML}metrics: {{{{listen: "127.0.0.1:LISTEN"}}}}\n'
DISCOVERY = "/.well-known/openid-configuration"


@pytest.fixture
def replicas() -> Iterator[tuple[Homerealm, Homerealm, int]]:
    """Two of one configuration, and the port that its `metrics.listen` names; the two after it are free, too."""
    with homerealm() as first, key_value_server("valkey") as key_value:
        first.port = free_ports(5)
        first.key_value = key_value
        first.configure({"acme": TENANT_YAML}, FLEET.replace("LISTEN", str(first.port + 2)))
        yield first, replace(first, port=first.port + 1), first.port + 2


def counted(port: int) -> tuple[float, float, float]:
    """Web processes, workers, and requests for the discovery document."""
    seen = scrape(port)
    asked = [value for key, value in seen.items() if key[0] == "homerealm_http_seconds_count" and DISCOVERY in key]
    web, worker = (seen.get(("homerealm_processes", role), 0) for role in ("web", "worker"))
    return web, worker, sum(asked)


def is_ready(port: int) -> None:
    """Raises `AssertionError` with the reasons, when it does not become so."""
    told: list[object] = []

    def yes() -> bool:
        told[:] = readiness(port)
        return told[0] == 200

    with contextlib.suppress(AssertionError):
        wait_until(yes, "the internal /readyz")
    assert told[0] == 200, told


def test_each_replica_of_a_machine_has_a_listener_and_numbers_of_its_own(
    replicas: tuple[Homerealm, Homerealm, int],
) -> None:
    first, second, listen = replicas
    with (
        first.serving("--workers", "1", "--metrics", f"127.0.0.1:{listen + 1}"),
        second.serving("--workers", "2", "--metrics", f"127.0.0.1:{listen + 2}"),
    ):
        for port in (listen + 1, listen + 2):
            is_ready(port)
        for _ in range(3):
            address = f"http://127.0.0.1:{second.port}/t/acme{DISCOVERY}"
            name = {"Host": f"localhost:{first.port}"}
            urllib.request.urlopen(urllib.request.Request(address, headers=name)).read()
        wait_until(lambda: counted(listen + 2)[0] == 2, "the second web process")
        assert counted(listen + 1) == (1, 1, 0)
        assert counted(listen + 2) == (2, 1, 3), "nothing is counted twice"
        assert not listens(listen), "the option is instead of what the file says"


def test_a_taken_address_is_refused_at_the_start_and_the_replica_that_has_it_goes_on(
    replicas: tuple[Homerealm, Homerealm, int],
) -> None:
    first, second, listen = replicas
    command = [program(), "serve", "--config", first.config, "--port", str(second.port)]
    with first.serving("--workers", "1"):
        for options, said_by in (
            ([], "`metrics.listen` in broker.yaml"),
            (["--metrics", f"127.0.0.1:{listen}"], "--metrics"),
        ):
            done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, cwd=first.folder)
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr.splitlines() == [
                f"homerealm: {said_by} 127.0.0.1:{listen}: this address is taken, something listens there already; "
                "give every `homerealm serve` and `homerealm worker` of a machine an address of its own with "
                "--metrics HOST:PORT"
            ]
        is_ready(listen)
        with second.serving("--workers", "1", "--metrics", f"127.0.0.1:{listen + 1}"):
            wait_until(lambda: counted(listen + 1)[:2] == (1, 1), "the processes of the second replica")
            assert counted(listen)[:2] == (1, 1), "what the file says holds for the first"


@pytest.mark.parametrize("command", ["serve", "worker"])
@pytest.mark.parametrize(
    ("metrics", "status", "said"),
    [
        ("9464", 2, "9464 is no address to listen on; write HOST:PORT, such as 127.0.0.1:9464"),
        ("127.0.0.1:118001", 2, "127.0.0.1:118001 is no address to listen on"),
        ("192.0.2.1:9464", 1, "--metrics 192.0.2.1:9464: cannot listen there: Cannot assign requested address"),
        ("nowhere.invalid:9464", 1, "nowhere.invalid is not an address of this machine"),
    ],
)
def test_an_address_that_cannot_be_listened_on_is_named(command: str, metrics: str, status: int, said: str) -> None:
    with homerealm() as server:
        where = ["--port", str(server.port)] if command == "serve" else []
        done = subprocess.run(
            [program(), command, "--config", server.config, *where, "--metrics", metrics],
            capture_output=True, text=True, timeout=60, cwd=server.folder,
        )  # fmt: skip
        assert done.returncode == status
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert [path.name for path in (server.folder / "var").glob("*")] in ([], ["secret.key"]), "nothing was started"


def test_a_listener_that_is_killed_is_started_again_on_its_socket() -> None:
    with homerealm() as server:
        server.port = free_ports(2)
        server.configure({"acme": TENANT_YAML})
        listen = server.port + 1
        with server.serving("--workers", "1", "--metrics", f"127.0.0.1:{listen}"):
            assert within_20_seconds(lambda: "Homerealm answers" in server.log.read_text())
            kill_nine([one(server, "broker metrics")])
            with pytest.raises(OSError, match="in use"):
                socket.create_server(("127.0.0.1", listen), reuse_port=False)
            assert counted(listen)[0] == 1, "who asks meanwhile waits"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def misses(port: int, store: str, reason: str, other: str) -> bool:
    """Whether the listener says that this store cannot be used, and does not accuse the other one."""
    status, told = readiness(port)
    said = f"{reason} cannot be used: `store.unavailable` in the log says why"
    return status == 503 and store in told["missing"] and said in told["reasons"] and other not in told["missing"]


@pytest.mark.crash
def test_a_store_that_is_stopped_is_a_reason_until_it_is_back(postgres: Postgres) -> None:
    with processes() as start, homerealm() as server:
        server.port = free_ports(4)
        serve, worker, kv = (server.port + place for place in (1, 2, 3))
        redis = start("valkey", kv)
        server.database, server.key_value = postgres.fresh(), f"redis://127.0.0.1:{kv}"
        server.configure({"acme": TENANT_YAML})
        alone = [program(), "worker", "--config", server.config, "--metrics", f"127.0.0.1:{worker}"]
        with (
            server.serving("--workers", "2", "--no-worker", "--metrics", f"127.0.0.1:{serve}"),
            running(alone, lambda: listens(worker), log=server.log, cwd=server.folder),
        ):
            # Before its first round a worker without a database ends, and says why.
            until(worker, lambda seen: ("homerealm_worker_round_timestamp_seconds",) in seen)
            for stop, again, seen in (
                (postgres.stop, postgres.start, ("database", "the database", "key_value")),
                (redis.kill, redis.start, ("key_value", "the key-value store", "database")),
            ):
                for port in (serve, worker):
                    is_ready(port)
                stop()
                for port in (serve, worker):  # what web processes say, and what a worker says without any
                    wait_until(lambda port=port, seen=seen: misses(port, *seen), f"{port} without {seen[1]}")
                again()
            for port in (serve, worker):
                is_ready(port)


def test_web_processes_that_say_nothing_are_a_reason(tmp_path: Path) -> None:
    web = Tally(tmp_path, "web")
    web.level("config_refused", 0)
    told = state(tmp_path, 0, ["web"], f"127.0.0.1:{free_ports(1)}")
    assert told["reasons"] == ["no web process said within 5 s what it misses"]


def test_what_dead_processes_have_counted_is_put_away_before_others_count_there(tmp_path: Path) -> None:
    settings = Settings(base_url="", database="", key_value="", secret_key=b"", tenants={}, version="",
                        root=str(tmp_path), config_dir="")  # fmt: skip
    folder = counting(settings, "127.0.0.1:9464")
    in_a_child(lambda: Tally(folder, "web").count(*LOGIN))
    assert len(list(folder.glob("*.tally"))) == 1
    assert counting(settings, "127.0.0.1:9464") == folder != counting(settings, None)
    assert sorted(path.name for path in folder.iterdir()) == [ARCHIVE, "lock"]
