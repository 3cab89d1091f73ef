"""`homerealm user`, every verb, against real stores: as JSON and in words, with its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from broker.cli import main
from broker.core.values import TenantId
from broker.wiring import running
from tests.engines import Pair

PASSWORD = "correct horse battery staple"
NEW = "a new and longer passphrase"
BROKER = """
base_url: http://localhost:8000
database: {database}
key_value: {key_value}
secret_key_file: var/secret.key
mail: {{from: "Homerealm <no-reply@localhost>", transport: "maildir:var/mail"}}
"""
ACME = """
tenant: acme
name: Acme
environments: {live: {}, test: {}}
connections:
  - {id: users, type: database, identifiers: [email, username]}
"""


@pytest.fixture(scope="session")
def key_value(engines: Pair) -> Iterator[str]:
    with engines.key_value() as address:
        yield address


def configured(folder: Path, key_value: str, database: str = "sqlite:///var/homerealm.db") -> Path:
    (folder / "config" / "tenants").mkdir(parents=True)
    (folder / "config" / "broker.yaml").write_text(BROKER.format(key_value=key_value, database=database))
    (folder / "config" / "tenants" / "acme.yaml").write_text(ACME)
    return folder / "config"


@pytest.fixture
def config(tmp_path: Path, key_value: str, engines: Pair) -> Path:
    return configured(tmp_path, key_value, engines.database(tmp_path / "homerealm.db"))


class Operator:
    def __init__(self, config: Path) -> None:
        self.config = config

    def run(self, verb: str, *arguments: str, stdin: str | bytes = "", tenant: str = "acme") -> Result:
        line = ["user", verb, "--config", str(self.config), "--tenant", tenant, *arguments]
        return CliRunner().invoke(main, line, input=stdin, catch_exceptions=False)

    def json(self, verb: str, *arguments: str, stdin: str = "", tenant: str = "acme") -> Any:
        done = self.run(verb, *arguments, "--json", stdin=stdin, tenant=tenant)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def check(self, password: str, identifier: str = "ada") -> bool:
        """Whether somebody can sign in with it."""
        with running(self.config) as runtime:
            tenant = runtime.settings.tenants[TenantId("acme")]
            connection = runtime.connection(tenant, tenant.connections[0].id)
            return connection is not None and connection.check_password(identifier, password) is not None  # type: ignore[attr-defined]

    def audited(self, target: str) -> list[tuple[str, str]]:
        with running(self.config) as runtime, runtime.database.reading() as work:
            directory = runtime.settings.tenants[TenantId("acme")].directory
            return [(one.action.value, one.actor.kind.value) for one in work.audit.read(directory, target=target)]


@pytest.fixture
def operator(config: Path) -> Operator:
    return Operator(config)


@pytest.fixture
def ada(operator: Operator) -> dict[str, Any]:
    added: dict[str, Any] = operator.json("add", "--email", "ada@acme.test", "--username", "ada", stdin=PASSWORD + "\n")
    return added


def test_add_takes_the_password_from_standard_input_and_counts_the_address_as_verified(
    operator: Operator, ada: dict[str, Any]
) -> None:
    assert ada["username"] == "ada"
    assert ada["email_verified"] is True
    assert ada["has_password"] is True
    assert PASSWORD not in json.dumps(ada)
    assert operator.check(PASSWORD)
    assert operator.audited(ada["id"]) == [("user.added", "command_line")]


def test_no_verb_takes_a_password_as_an_argument(operator: Operator) -> None:
    """`ps` shows arguments to everybody."""
    for verb in ("add", "set-password"):
        refused = operator.run(verb, "--password", PASSWORD, "ada")
        assert refused.exit_code == 2
        assert "No such option" in refused.stderr
    assert operator.run("set-password", "ada", PASSWORD).exit_code == 2


def test_an_empty_password_means_none_yet(operator: Operator) -> None:
    added = operator.json("add", "--username", "bob", "--name", "Bob")
    assert added["has_password"] is False
    assert added["name"] == "Bob"
    assert "no password" in operator.run("list").stdout


def test_add_says_the_id_and_refuses_what_cannot_be(operator: Operator, ada: dict[str, Any]) -> None:
    done = operator.run("add", "--username", "grace", stdin=PASSWORD)
    assert done.exit_code == 0
    assert done.stdout.strip() == operator.json("show", "grace")["id"]
    for arguments, stdin, code, words in (
        ((), PASSWORD, 2, "give --email, --username, or both"),
        (("--username", "ADA"), PASSWORD, 1, "somebody has this username or address already"),
        (("--email", "not an address"), PASSWORD, 1, "identifier"),
        (("--username", "linus"), "short", 1, "the limit is 15 characters"),
        (("--username", "linus"), "passwordpassword", 1, "the password is"),
        (("--username", "linus", "--connection", "nothing"), PASSWORD, 1, "no such database connection"),
    ):
        refused = operator.run("add", *arguments, stdin=stdin)
        assert refused.exit_code == code, refused.output
        assert words in refused.stderr
        assert not refused.stdout
    assert {one["username"] for one in operator.json("list")} == {"ada", "grace"}


def test_bytes_that_are_no_text_are_wrong_usage(operator: Operator) -> None:
    refused = operator.run("add", "--username", "linus", stdin=b"\xff\xfe" * 20)
    assert refused.exit_code == 2
    assert "UTF-8" in refused.stderr


@pytest.mark.parametrize("identifier", ["ada", "ADA", "ada@acme.test", "Ada@ACME.test"])
def test_somebody_is_found_by_username_address_or_id(operator: Operator, ada: dict[str, Any], identifier: str) -> None:
    shown = operator.json("show", identifier)
    assert shown["id"] == ada["id"]
    assert shown["sessions"] == 0
    assert operator.json("show", ada["id"]) == shown
    assert "ada@acme.test" in operator.run("show", identifier).stdout


def test_nobody_is_exit_1_and_a_wrong_tenant_says_which_there_are(operator: Operator, ada: dict[str, Any]) -> None:
    unknown = operator.run("show", "nobody")
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert "nobody is called 'nobody' in acme" in unknown.stderr
    # Another environment is another directory.
    assert operator.run("show", ada["id"], tenant="test-acme").exit_code == 1
    wrong = operator.run("show", "ada", tenant="globex")
    assert wrong.exit_code == 1
    assert "there are: acme, test-acme" in wrong.stderr


def test_list_shows_everybody_or_those_that_are_looked_for(operator: Operator, ada: dict[str, Any]) -> None:
    operator.run("add", "--username", "bob", stdin=PASSWORD)
    assert {one["username"] for one in operator.json("list")} == {"ada", "bob"}
    assert [one["id"] for one in operator.json("list", "--search", "ad")] == [ada["id"]]
    assert operator.run("list", "--search", "ad").stdout.split("\t")[:3] == [ada["id"], "ada", "ada@acme.test\n"]
    assert operator.json("list", tenant="test-acme") == []


def test_block_and_unblock(operator: Operator, ada: dict[str, Any]) -> None:
    assert operator.json("block", "ada")["blocked"] is True
    assert "blocked" in operator.run("list").stdout
    for verb in ("send-reset", "login-link"):
        refused = operator.run(verb, "ada")
        assert refused.exit_code == 1
        assert "unblock it first" in refused.stderr
    assert "may sign in again" in operator.run("unblock", "ada").stdout
    assert [name for name, _ in operator.audited(ada["id"])][:2] == ["user.unblocked", "user.blocked"]


def test_delete_is_for_good(operator: Operator, ada: dict[str, Any]) -> None:
    assert operator.json("delete", "ada", "--yes") == {"id": ada["id"], "deleted": True}
    assert operator.run("show", "ada").exit_code == 1
    assert operator.audited(ada["id"])[0] == ("user.deleted", "command_line")


def test_sign_out_ends_everything(operator: Operator, ada: dict[str, Any]) -> None:
    assert operator.json("sign-out", "ada") == {"id": ada["id"], "signed_out": True}
    assert operator.audited(ada["id"])[0] == ("user.signed_out_everywhere", "command_line")
    assert operator.check(PASSWORD), "signing out changes no password"


def test_set_password_from_standard_input(operator: Operator, ada: dict[str, Any]) -> None:
    changed = operator.json("set-password", "ada", "--must-change", stdin=NEW + "\n")
    assert changed["must_change_password"] is True
    assert operator.check(NEW)
    assert not operator.check(PASSWORD)
    assert operator.audited(ada["id"])[0] == ("password.set_by_operator", "command_line")
    for stdin, code, words in (("", 2, "no password"), ("short", 1, "too short")):
        refused = operator.run("set-password", "ada", stdin=stdin)
        assert refused.exit_code == code
        assert words in refused.stderr
    assert operator.check(NEW), "what was refused changed nothing"


def test_send_reset_queues_the_mail_that_the_user_could_ask_for(operator: Operator, ada: dict[str, Any]) -> None:
    assert operator.json("send-reset", "ada") == {"id": ada["id"], "mail": "reset"}
    assert operator.audited(ada["id"])[0] == ("reset.sent", "command_line")
    with running(operator.config) as runtime, runtime.database.reading() as work:
        assert work.outbox.depth()["new"] == 1
    again = operator.run("send-reset", "ada")
    assert again.exit_code == 1
    assert "nothing was sent" in again.stderr
    operator.run("add", "--username", "bob", stdin=PASSWORD)
    assert "no address" in operator.run("send-reset", "bob").stderr


def test_login_link_is_printed_alone_and_for_once(operator: Operator, ada: dict[str, Any]) -> None:
    done = operator.run("login-link", "ada")
    assert done.exit_code == 0
    assert done.stdout.startswith("http://localhost:8000/t/acme/link?ticket=")
    assert len(done.stdout.splitlines()) == 1
    assert "works once, for 30 minutes" in done.stderr
    assert operator.json("login-link", "ada")["url"] != done.stdout.strip()
    assert operator.audited(ada["id"])[0] == ("login_link.made", "command_line")


def test_it_works_beside_a_running_server_and_without_one(tmp_path: Path) -> None:
    """The embedded store: one that runs is used, and is still there afterwards; else one is started for the command."""
    operator = Operator(configured(tmp_path / "site", "embedded"))
    alone = operator.json("add", "--username", "ada", stdin=PASSWORD)
    with running(operator.config) as server:
        assert operator.json("show", "ada")["id"] == alone["id"]
        assert operator.run("sign-out", "ada").exit_code == 0
        server.engines.ping()
    assert operator.json("show", "ada")["sessions"] == 0


def test_a_whole_process_reads_the_password_from_a_pipe(config: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "broker", "user", "add", "--config", str(config), "--tenant", "acme",
         "--username", "ada"],
        input=PASSWORD, text=True, capture_output=True, check=False, env={**os.environ, "PYTHONWARNINGS": "error"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    assert Operator(config).check(PASSWORD)
