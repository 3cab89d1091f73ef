"""The guides are run as their readers would run them: YAML is checked, commands are typed, apps are used."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import click
import httpx2
import pytest
import yaml

from broker.cli import main
from broker.testing.clock import FixedClock
from broker.testing.page import Page
from broker.testing.town import PASSWORD, Town
from tests.engines import Pair
from tests.servers import answers, free_port, program, running, short_folder

ROOT = Path(__file__).parents[2]
GUIDES = {path.stem: path.read_text() for path in (ROOT / "docs" / "guides").glob("*.md")}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"# (\S+)\n")
SECRETS = {name: f"{name.lower()}-0123456789" for name in
           ("SHOP_SECRET", "GOOGLE_SECRET", "GITHUB_SECRET", "ENTRA_SECRET", "STAFF_SECRET")}  # fmt: skip
SMALL = {
    "config/broker.yaml": "base_url: http://localhost:8000\n",
    "config/tenants/acme.yaml": "tenant: acme\nconnections:\n  - {id: users, type: database}\n",
}
"""For guides whose commands take a configuration for granted."""
RUN = ("operators", "support-desk", "tenants", "flask-apps", "app-developers")


def blocks(guide: str, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(GUIDES[guide]) if kind == language]


def files(guide: str, language: str) -> dict[str, str]:
    """Every block of that language; its first line names its file."""
    found = {}
    for text in blocks(guide, language):
        name = NAMED.match(text)
        assert name, f"{guide}: a block of {language} without the name of its file:\n{text}"
        found[name[1]] = text
    return found


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


def write(folder: Path, guide: str) -> None:
    for name, text in {**SMALL, **files(guide, "yaml"), **files(guide, "python")}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def run(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """A line of a guide, as its reader's shell takes it. Whoever asks for a password gets one."""
    path = f"{program().parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euc", command], cwd=folder,
        env={**os.environ, **SECRETS, "PATH": path, "HOMEREALM_CONFIG": "config"},
        input=f"{PASSWORD}\n", capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_every_guide_is_run() -> None:
    elsewhere = {"connection-authors": "tests/connections/test_guide.py", "fleet": "tests/fleet/test_the_guide.py"}
    assert set(GUIDES) == {*RUN, *elsewhere}
    assert all((ROOT / place).exists() for place in elsewhere.values())


@pytest.mark.parametrize("guide", RUN)
def test_the_configuration_of_a_guide_is_fine(guide: str, folder: Path) -> None:
    write(folder, guide)
    done = run(folder, "homerealm check")
    assert done.returncode == 0, done.stderr
    assert ": fine. " in done.stdout


@pytest.mark.parametrize("guide", [guide for guide in RUN if blocks(guide, "sh")])
def test_the_commands_of_a_guide_do_what_they_say(guide: str, folder: Path) -> None:
    write(folder, guide)
    for line in "".join(blocks(guide, "sh")).splitlines():
        done = run(folder, line)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def rotation() -> tuple[list[str], list[str]]:
    """The lines of the guide that replace the secret key: until it is time for the second restart, and after it."""
    [text] = [text for text in blocks("operators", "sh") if "next.key" in text]
    lines = text.splitlines()
    [second] = [number for number, line in enumerate(lines) if "# 2, and restart" in line]
    return lines[: second + 1], lines[second + 1 :]


def test_the_secret_key_of_a_single_serve_is_replaced_with_the_second_restart_alone(folder: Path) -> None:
    write(folder, "operators")
    before = published_keys(folder)
    until, after = rotation()
    for line in until:
        assert run(folder, line).returncode == 0, line
    assert published_keys(folder) == before, "it opens what the earlier key has sealed"
    for line in after:
        assert run(folder, line).returncode == 0, line
    broker = folder / "config" / "broker.yaml"
    broker.write_text(re.sub(r"^other_secret_key_files.*\n", "", broker.read_text(), flags=re.MULTILINE))
    (folder / "var" / "earlier.key").unlink()
    assert published_keys(folder) == before, "all of it is sealed with the next key"


@pytest.mark.parametrize("rotating", [False, True])
def test_a_backup_of_the_guide_brings_back_people_and_keys_into_an_empty_folder(folder: Path, rotating: bool) -> None:
    write(folder, "operators")
    assert run(folder, blocks("operators", "sh")[0].splitlines()[1]).returncode == 0
    before = published_keys(folder)
    for line in rotation()[0] if rotating else ():
        assert run(folder, line).returncode == 0, line
    backup, restore = [text for text in blocks("operators", "sh") if "backup/" in text]
    assert run(folder, backup).returncode == 0
    for lost in ("config", "var"):
        shutil.rmtree(folder / lost)
    assert run(folder, restore).returncode == 0
    assert published_keys(folder) == before, "they are sealed with the secret key"
    assert "ada@acme.example" in run(folder, "homerealm user show --tenant acme ada").stdout


def test_what_root_brings_back_belongs_to_the_user_of_the_service(folder: Path) -> None:
    """It has to write there, and it cannot where a file became root's on the way."""
    write(folder, "operators")
    assert run(folder, blocks("operators", "sh")[0].splitlines()[1]).returncode == 0
    owner = 12345 if os.geteuid() == 0 else os.geteuid()
    ours = ["var", "var/homerealm.db", "var/secret.key"]
    for name in ours:
        os.chown(folder / name, owner, -1)
    for line in rotation()[0]:
        assert run(folder, line).returncode == 0, line
    backup, restore = [text for text in blocks("operators", "sh") if "backup/" in text]
    assert run(folder, backup).returncode == 0
    shutil.rmtree(folder / "var")
    assert run(folder, restore).returncode == 0
    for name in [*ours, "var/earlier.key"]:
        assert (folder / name).stat().st_uid == owner, name


def published_keys(folder: Path) -> bytes:
    """Of a server that is ready, which it is when it can sign."""
    port, host = free_port(), "login.acme.example"
    command = [program(), "serve", "--config", "config", "--port", str(port), "--workers", "1"]
    with running(command, lambda: answers(port, "/readyz", host), log=folder / "log", cwd=folder):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/t/acme/jwks", headers={"Host": host})
            answer = connection.getresponse()
            assert answer.status == 200
            return answer.read()


@pytest.mark.parametrize("guide", GUIDES)
def test_a_command_that_is_only_shown_is_understood(
    guide: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a block or in a sentence: its subcommands, options and values are parsed as the command itself would."""
    monkeypatch.chdir(tmp_path)
    for line in commands(GUIDES[guide]):
        understood(shlex.split(line)[1:], line)


def commands(text: str) -> list[str]:
    """What begins with the name of the program, in `console` blocks and between backticks."""
    shown = "".join(text for kind, text in BLOCK.findall(text) if kind == "console")
    lines = [part for line in shown.splitlines() for part in re.split(r" && | \| | > |  +# ", line.removeprefix("$ "))]
    lines += [part.replace("\n", " ") for part in re.findall(r"`([^`]+)`", BLOCK.sub("", text))]
    return [line for line in lines if line.startswith("homerealm ")]


def understood(words: list[str], line: str) -> None:
    """Fails where a word is no subcommand, no option, or not what an option takes. A sentence may leave words out."""
    command: click.Command = main
    context = click.Context(command, info_name="homerealm")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"{words[0]}: {line}"
        command, words = found, words[1:]
        context = click.Context(command, parent=context)
    with contextlib.suppress(click.MissingParameter):
        try:
            command.parse_args(context, words)
        except (click.exceptions.Exit, click.exceptions.NoArgsIsHelpError):
            return  # --help, or a group by its name alone


@pytest.mark.parametrize(
    "line", ["audit verfy", "audit export --from 3", "keys rewrap --all", "keys revoke", "db copy --form x"]
)
def test_a_command_that_does_not_exist_would_be_found(line: str) -> None:
    with pytest.raises((click.UsageError, AssertionError)):
        understood(line.split(), line)


def test_prometheus_of_the_fleet_guide_asks_as_the_shipped_file_does() -> None:
    [told] = [yaml.safe_load(text) for text in blocks("fleet", "yaml")]
    shipped = yaml.safe_load((ROOT / "deploy" / "prometheus" / "scrape.yaml").read_text())
    assert told["rule_files"] == shipped["rule_files"]
    assert told["scrape_configs"] == [job for job in shipped["scrape_configs"] if job["job_name"] == "homerealm"]


@pytest.mark.parametrize("guide", ["operators", "fleet"])
def test_a_release_lies_where_the_next_one_of_either_guide_can_take_its_place(guide: str) -> None:
    """A link is replaced in one step; nothing can be moved onto a folder."""
    assert re.search(r"^(\$ )?(.+ && )?mv -T /opt/homerealm\.next /opt/homerealm$", GUIDES[guide], re.MULTILINE)
    assert not re.search(r"venv /opt/homerealm\s", GUIDES[guide])


def module(folder: Path, name: str) -> ModuleType:
    """The Python of a guide, executed."""
    loaded = ModuleType(name)
    code = compile((folder / f"{name}.py").read_text(), f"{name}.py", "exec")
    exec(code, loaded.__dict__)
    return loaded


@pytest.fixture
def key_values(engines: Pair) -> Iterator[tuple[str, str]]:
    with engines.key_values() as addresses:
        yield addresses


@pytest.fixture
def town(tmp_path: Path, key_values: tuple[str, str], engines: Pair) -> Iterator[Town]:
    """The broker of the guide for app developers, and its app at shop.test."""
    write(tmp_path, "app-developers")
    acme = files("app-developers", "yaml")["config/tenants/acme.yaml"]
    # The app looks at the real clock, so the broker's stands still at the present.
    databases = engines.database(tmp_path / "broker.db"), engines.database(tmp_path / "upstream.db")
    town = Town(tmp_path / "town", key_values, acme=acme, databases=databases, clock=FixedClock(datetime.now(UTC)))
    shop = module(tmp_path, "shop")
    shop.HTTP["transport"] = httpx2.WSGITransport(app=town.broker.app)
    town.world["shop.test"] = shop.app
    town.broker.add("acme", email="ada@acme.test", username="ada", name="Ada Lovelace")
    yield town
    town.close()


def signed_in(page: Page) -> Page:
    page = page.form(field="username").fill(username="ada").submit()
    return page.form(field="current-password").fill({"current-password": PASSWORD}).submit()


def test_the_app_of_the_guide_signs_in_refreshes_and_signs_out(town: Town) -> None:
    browser = town.browser()
    assert signed_in(browser.go("https://shop.test/login")).text == "Hello, ada@acme.test"
    for _ in range(2):
        assert "good for 600 seconds" in browser.post("https://shop.test/refresh", {}).text
    assert browser.go("https://shop.test/logout").text == "Signed out"
    assert "Sign in" in browser.go("https://shop.test/").text
    assert browser.go("https://shop.test/login").data_page == "login"


@pytest.mark.parametrize(
    ("wishes", "page"),
    [("screen_hint=signup", "signup"), ("screen_hint=reset", "forgot"), ("screen_hint=login", "login"),
     ("connection=users", "login"), ("login_hint=ada", "login")],
)  # fmt: skip
def test_the_wishes_of_the_guide_lead_where_it_says(town: Town, wishes: str, page: str) -> None:
    assert town.browser().go(f"https://shop.test/login?{wishes}").data_page == page


def test_an_answer_that_nobody_asked_for_begins_a_sign_in(town: Town) -> None:
    assert town.browser().go("https://shop.test/callback?code=x&state=y").data_page == "login"


def test_a_reset_on_another_device_comes_back_by_the_way_that_the_guide_gives(town: Town) -> None:
    page = town.browser().go("https://shop.test/login?screen_hint=reset")
    page.form(field="username").fill(username="ada@acme.test").submit()
    link = town.mail().last("ada@acme.test", "reset").link("/reset?ticket=")
    other = town.browser("198.51.100.7")
    done = other.go(link).form(field="new-password").fill({"new-password": "a new and longer passphrase"}).submit()
    assert "https://shop.test/login" in done.html or done.url.startswith("https://shop.test/")


def test_the_flask_app_of_the_guide_has_the_broker_inside(folder: Path) -> None:
    write(folder, "flask-apps")
    code = (
        "from shop import app\n"
        "page = app.test_client().get('/sso/t/acme/account', base_url='http://localhost:5000', follow_redirects=True)\n"
        "print(page.status_code, 'data-page=\"login\"' in page.text)\n"
        "known = app.test_client().get('/sso/t/acme/.well-known/openid-configuration', base_url='http://localhost:5000')\n"
        "print(known.json['issuer'], app.test_client().get('/').text)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}, timeout=60)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "200 True"
    assert done.stdout.splitlines()[1].startswith("http://localhost:5000/sso/t/acme <a")
