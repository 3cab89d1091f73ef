"""`check`, `config` and `tenant`, with the connections that we ship."""

from __future__ import annotations

import json
import re
import socket
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from broker import registry, resources
from broker.cli import config as commands
from broker.cli import main
from broker.cli.config import read_settings
from broker.core.values import ConnectionId, DirectoryId, User, UserId
from broker.services.secrets import SecretVault
from broker.settings.changes import publish
from broker.settings.schema import meaning
from broker.stores.kv.redis import RedisKeyValue
from broker.stores.sql.database import SqlDatabase
from broker.testing.clock import FixedClock
from broker.testing.entropy import SeededEntropy
from broker.testing.samples import an_identity
from tests.kv_engines import server

LIVE, USERS = DirectoryId("acme/live"), ConnectionId("users")
TENANT = """\
tenant: acme
name: Acme
connections:
  - {id: users, type: database}
clients:
  - {client_id: shop, client_secret: canary-9f2c51, redirect_uris: ["https://shop.example/callback"]}
environments: {test: {}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good configuration, in `$HOMEREALM_CONFIG`."""
    path = tmp_path / "config"
    (path / "tenants").mkdir(parents=True)
    (path / "broker.yaml").write_text("database: sqlite:///var/db\n")
    (path / "tenants" / "acme.yaml").write_text(TENANT)
    monkeypatch.setenv("HOMEREALM_CONFIG", str(path))
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def test_check_says_what_was_found(folder: Path) -> None:
    done = run("check")
    assert (done.exit_code, done.stdout) == (0, f"{folder}: fine. 2 tenants, 2 connections, 2 clients.\n")


def test_check_makes_no_files(folder: Path) -> None:
    run("check")
    assert sorted(path.name for path in folder.parent.rglob("*")) == ["acme.yaml", "broker.yaml", "config", "tenants"]


def test_check_prints_every_mistake_on_standard_error_and_exits_with_2(folder: Path) -> None:
    (folder / "tenants" / "acme.yaml").write_text(
        "tenant: acme\nzork: 1\nconnections: [{id: a, type: carrier_pigeon}]\n"
    )
    done = run("check", "--config", folder)
    assert done.exit_code == 2
    assert done.stdout == ""
    first, second = done.stderr.splitlines()
    assert first.startswith(f"{folder}/tenants/acme.yaml:2:1: zork: is not a key that exists here;")
    assert second.startswith(f"{folder}/tenants/acme.yaml:3:29: connections[a].type: is not a type of connection")
    for name in registry.known():
        assert name in second


def test_check_tells_programs_in_json(folder: Path) -> None:
    assert json.loads(run("check", "--json").stdout) == {
        "problems": [],
        "found": {"tenants": 2, "connections": 2, "clients": 2},
        "stores": [],
        "passwords": [],
        "warnings": [],
    }
    (folder / "broker.yaml").write_text("zork: 1\n")
    done = run("check", "--json")
    assert done.exit_code == 2
    (problem,) = json.loads(done.stdout)["problems"]
    assert problem.startswith(f"{folder}/broker.yaml:1:1: zork: ")


def test_check_names_a_folder_that_is_not_there(tmp_path: Path) -> None:
    done = run("check", "--config", tmp_path / "nowhere")
    assert done.exit_code == 2
    assert f"{tmp_path}/nowhere/broker.yaml:1:1: cannot be read (No such file or directory)" in done.stderr


def test_check_finds_another_package_that_installs_the_same_modules(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    foreign = tmp_path / "site" / "message_broker-1.0.dist-info"
    foreign.mkdir(parents=True)
    (foreign / "METADATA").write_text("Metadata-Version: 2.1\nName: message-broker\nVersion: 1.0\n")
    (foreign / "top_level.txt").write_text("broker\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    done = run("check")
    assert done.exit_code == 2
    assert done.stderr == (
        "broker: is installed by message-broker, too, and one overwrites the other; "
        "an environment of its own for homerealm would be right\n"
    )


def test_the_configuration_that_we_ship_is_right() -> None:
    done = run("check", "--config", resources.config())
    assert done.exit_code == 0, done.output


def test_show_prints_effective_values_with_secrets_masked(folder: Path) -> None:
    done = run("config", "show")
    assert done.exit_code == 0
    shown = yaml.safe_load(done.stdout)
    assert shown["database"] == f"sqlite:///{folder.parent}/var/db"
    assert shown["tenants"]["test-acme"]["issuer"] == "http://localhost:8000/t/test-acme"
    assert shown["tenants"]["acme"]["rules"]["password"]["min_length"] == 15
    assert shown["tenants"]["acme"]["clients"]["shop"]["client_secret"] == ["***"]
    assert "canary" not in done.output
    assert json.loads(run("config", "show", "--json").stdout) == shown


def test_diff_prints_what_would_change(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "tenants").mkdir(parents=True)
    (other / "broker.yaml").write_text("database: sqlite:///var/other.db\n")
    (other / "tenants" / "acme.yaml").write_text(
        TENANT.replace("name: Acme", "name: Acme & sons").replace("canary", "new")
    )
    done = run("config", "diff", "--config", other, "--against", folder)
    assert done.exit_code == 1
    assert '- tenants.acme.name: "Acme"\n+ tenants.acme.name: "Acme & sons"\n' in done.stdout
    assert '- tenants.acme.clients.shop.client_secret: ["***"]' in done.stdout
    assert "9f2c51" not in done.output
    changed = json.loads(run("config", "diff", "--config", other, "--against", folder, "--json").stdout)
    assert {
        "key": "tenants.acme.name", "change": "changed", "old": "Acme", "new": "Acme & sons", "restart": False,
        "loses": None,
    } in changed  # fmt: skip
    assert "(the secret changed)" in done.stdout
    assert "(needs a restart" in done.stdout


def test_diff_compares_with_what_the_worker_said_that_it_runs(folder: Path) -> None:
    assert "no background worker has run here" in run("config", "diff").stderr
    publish(read_settings(folder))
    described = (folder.parent / "var" / "running.json").read_text()
    assert "canary" not in described
    assert run("config", "diff").exit_code == 0
    tenant = folder / "tenants" / "acme.yaml"
    tenant.write_text(TENANT.replace("canary", "another"))
    told = run("config", "diff")
    assert told.exit_code == 1
    assert "the secret changed" in told.stdout
    assert "another" not in told.stdout
    tenant.write_text(TENANT[: TENANT.index("clients:")])
    assert "refresh tokens end" in run("config", "diff").stdout


def test_diff_counts_whom_a_removed_connection_or_tenant_leaves_without_a_way_in(folder: Path) -> None:
    tenant = folder / "tenants" / "acme.yaml"
    (folder / "tenants" / "globex.yaml").write_text("tenant: globex\nname: G\nconnections: [{id: u, type: database}]\n")
    publish(read_settings(folder))
    (folder / "tenants" / "globex.yaml").unlink()
    tenant.write_text(TENANT.replace("id: users", "id: people"))
    told = run("config", "diff")
    assert told.stdout.count("(people without another way in: unknown, the database does not answer)") == 3
    assert not (folder.parent / "var" / "db").exists()

    settings = read_settings(folder)
    (folder.parent / "var").mkdir(exist_ok=True)
    vault, now = SecretVault(settings.secret_key), FixedClock().now()
    with closing(SqlDatabase(settings.database, FixedClock(), SeededEntropy(1), vault)) as database:
        database.upgrade()
        with database.writing() as work:
            for name in ("ada", "bob"):
                user = User(UserId(name), LIVE, now, now, connection=USERS, username=name)
                work.users.add(user, hash="x", kinds=("username",))
            work.users.link(UserId("bob"), LIVE, an_identity(now, connection="people"), now)
    told = run("config", "diff")
    assert told.exit_code == 1
    lines = told.stdout.splitlines()
    for key, people in (("tenants.acme.connections.users", 1), ("tenants.globex", 0)):
        at = next(n for n, line in enumerate(lines) if line.startswith(f"- {key}:"))
        assert f"  (people without another way in: {people})" in lines[at : at + 3]
    rows = {row["key"]: row for row in json.loads(run("config", "diff", "--json").stdout)}
    assert rows["tenants.acme.connections.users"]["people"] == 1
    assert "people" not in rows["tenants.acme.connections.people"], "it comes"

    path = folder / "broker.yaml"
    path.write_text("database: postgresql://nobody@127.0.0.1:1/nothing\n")
    told = run("config", "diff")
    assert "people are not counted: " in told.stderr
    assert "unknown, the database does not answer" in told.stdout


def test_diff_says_when_nothing_would_change(folder: Path) -> None:
    done = run("config", "diff", "--against", folder)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "No differences.\n")


def test_tenants_are_listed_with_their_environments(folder: Path) -> None:
    lines = run("tenant", "list").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["TENANT", "ENVIRONMENT", "ISSUER", "CONNECTIONS", "CLIENTS"],
        ["acme", "live", "http://localhost:8000/t/acme", "1", "1"],
        ["test-acme", "test", "http://localhost:8000/t/test-acme", "1", "1"],
    ]
    rows = json.loads(run("tenant", "list", "--json").stdout)
    assert [row["directory"] for row in rows] == ["acme/live", "acme/test"]


def test_the_schema_and_the_example_know_every_connection_that_we_ship() -> None:
    definitions = json.loads(run("config", "schema").stdout)["$defs"]
    shown = run("config", "example").stdout
    for name in registry.BUILT_IN:
        assert f"connection-{name}" in definitions
        assert f"type: {name}\n" in shown


def test_the_example_for_the_connections_that_we_ship_is_right(tmp_path: Path) -> None:
    broker, _, tenant = run("config", "example").stdout.partition("# ---- config/tenants/acme.yaml ----")
    folder = tmp_path / "config"
    (folder / "tenants").mkdir(parents=True)
    (folder / "broker.yaml").write_text(f"{broker}\n{{}}\n")
    (folder / "tenants" / "acme.yaml").write_text(tenant)
    done = run("check", "--config", folder)
    assert done.exit_code == 0, done.output


def test_every_key_of_every_connection_is_documented() -> None:
    missing = [
        f"{name}.{key}"
        for name, model in commands.connection_types().items()
        for key in model.model_fields
        if not meaning(model, key)
    ]
    assert missing == []


def test_check_live_tries_the_stores_the_mail_server_and_every_connection(folder: Path) -> None:
    with socket.socket() as deaf:
        # Bound and not listening: whoever connects is refused, and nobody else gets the port meanwhile.
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        (folder / "broker.yaml").write_text(f"mail: {{transport: 'smtp://127.0.0.1:{port}'}}\n")
        (folder / "tenants" / "acme.yaml").write_text(
            TENANT.replace(
                "clients:", "  - {id: sso, type: oidc, issuer: 'https://127.0.0.1:1', client_id: a}\nclients:"
            )
        )
        assert run("check").exit_code == 0
        done = run("check", "--live")
    assert done.exit_code == 2
    mail, live, test = done.stderr.splitlines()
    assert mail.startswith(f"mail.transport: smtp://127.0.0.1:{port}: ")
    assert live.startswith("acme: connections[sso]: ")
    assert test.startswith("test-acme: connections[sso]: ")


def test_check_live_says_what_store_it_found_and_what_of_it_should_be_otherwise(folder: Path) -> None:
    done = run("check", "--live")
    assert done.exit_code == 0, done.stderr
    assert "appends every write to a file, maxmemory-policy noeviction, 0 replicas" in done.stdout
    assert "warning" not in done.stderr
    with server("redis") as url:
        kv = RedisKeyValue.connect(url)
        kv.everywhere("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        kv.everywhere("CONFIG", "SET", "appendonly", "no")
        kv.close()
        (folder / "broker.yaml").write_text(f"key_value: {url}\n")
        done = run("check", "--live")
    assert done.exit_code == 0, done.stderr
    assert "Redis" in done.stdout
    eviction, restart = done.stderr.splitlines()
    assert eviction.startswith("warning: key_value: ")
    assert "maxmemory-policy noeviction would be right" in eviction
    assert "appendonly yes would be right" in restart


def test_check_live_says_how_many_passwords_this_machine_verifies_and_what_would_be_more(folder: Path) -> None:
    done = run("check", "--live")
    assert done.exit_code == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith("passwords: ")]
    assert re.search(
        r"19 MiB, 2 passes, by [\w-]+: [1-9]\d* verifications a second on one core, [1-9]\d* on all", told[0]
    )
    assert "twice the cores" in told[1]
    assert json.loads(run("check", "--live", "--json").stdout)["passwords"]
    assert "passwords" not in run("check").stdout


def test_check_live_says_that_the_secret_key_is_a_wrong_one(folder: Path) -> None:
    assert run("keys", "list").exit_code == 0, "it makes the first ones"
    assert run("check", "--live").exit_code == 0
    key = folder.parent / "var" / "secret.key"
    earlier = key.rename(key.with_name("earlier.key"))
    done = run("check", "--live")
    assert done.exit_code == 2
    [said] = done.stderr.splitlines()
    assert said.startswith("signing keys of acme: ")
    assert "a wrong or missing secret key: put it back, or list it under other_secret_key_files" in said
    broker = folder / "broker.yaml"
    broker.write_text(f"{broker.read_text()}other_secret_key_files: [var/{earlier.name}]\n")
    done = run("check", "--live")
    assert done.exit_code == 0, done.stderr


def test_check_live_says_which_store_is_out_of_reach(folder: Path) -> None:
    (folder / "broker.yaml").write_text("database: sqlite:///broker.yaml/db\nkey_value: redis://127.0.0.1:1\n")
    (folder.parent / "broker.yaml").write_text("a file where a folder is needed")
    done = run("check", "--live")
    assert done.exit_code == 2
    assert done.stderr.startswith("stores: ")
    assert len(done.stderr.splitlines()) == 1
