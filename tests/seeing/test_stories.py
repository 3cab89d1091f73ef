"""`homerealm explain`: every reference on a page has its story, and no story has a secret."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from broker.cli.explain import _normal, explain
from broker.core.policy import POLICY
from broker.core.story import CHECKS, Story, masked, sentences
from broker.stores.kv.embedded import EmbeddedValkey
from broker.testing.clock import START
from broker.testing.town import Town
from tests.stories.journeys import open_app, type_identifier, type_password

REFERENCE = re.compile(r"[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{2}")
WRONG = "not-the-password-CANARY-1"


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    servers = [EmbeddedValkey(tmp_path_factory.mktemp("kv")) for _ in range(2)]
    town = Town(tmp_path_factory.mktemp("town"), (servers[0].start(), servers[1].start()))
    town.broker.add("acme", email="ada@acme.test", username="ada")
    yield town
    town.close()
    for server in servers:
        server.stop()


def stories(town: Town, reference: str) -> list[Story]:
    return town.broker.runtime.engines.stories.find(reference)


def last(lines: list[dict[str, str]], event: str) -> dict[str, str]:
    return [line for line in lines if line["event"] == event][-1]


def test_a_wrong_password_is_told_with_the_checks_that_were_asked(town: Town) -> None:
    page = type_identifier(open_app(town.browser()), "ada@acme.test")
    with capture_logs() as lines:
        type_password(page, WRONG)
    line = last(lines, "login.refused")
    (story,) = stories(town, line["reference"])
    assert (story.code, story.status, story.connection) == ("password.wrong", 422, "users")
    assert story.identifier == "a***@acme.test"
    assert story.checks == (("connection", "met"), ("identity", "unmet"))
    assert story.step == "sign_in"
    told = "\n".join(sentences(story))
    assert "+ connection: a way to sign in was chosen" in told
    assert "- identity: nobody was signed in yet" in told
    assert "the password was wrong" in told
    assert WRONG not in repr(lines) + told
    assert "ada@acme.test" not in told


def test_the_stories_of_one_login_are_found_together(town: Town) -> None:
    page = type_identifier(open_app(town.browser()), "ada")
    with capture_logs() as lines:
        type_password(type_password(page, WRONG), WRONG)
    first, second = [line["reference"] for line in lines if line["event"] == "login.refused"]
    town.broker.runtime.engines.stories.find(first)
    assert [one.reference for one in stories(town, second)] == [first, second]


@pytest.mark.parametrize("path", ["/t/acme/login?tx=gone", "/t/acme/nothing", "/t/nobody/login", "/t/acme/authorize"])
def test_whatever_page_shows_a_reference_it_can_be_explained(town: Town, path: str) -> None:
    shown = town.browser().go(f"https://login.test{path}")
    found = REFERENCE.search(shown.text)
    assert found, shown.text
    (story,) = stories(town, found[0])
    assert story.status == shown.status
    assert story.path == path.partition("?")[0]
    assert list(sentences(story))[-1].startswith("The person saw on")


def test_a_finished_login_is_one_line_with_no_secret(town: Town) -> None:
    page = type_identifier(open_app(town.browser()), "ada")
    with capture_logs() as lines:
        type_password(page)
    assert [line["event"] for line in lines] == ["login.finished"]
    assert set(lines[0]) == {"event", "log_level", "reference", "tenant", "client", "connection", "user"}


def test_the_command_finds_it_from_another_process_and_as_it_was_read_aloud(tmp_path: Path) -> None:
    from broker.wiring import running

    config = tmp_path / "config"
    (config / "tenants").mkdir(parents=True)
    (config / "broker.yaml").write_text("base_url: http://localhost:8000\n")
    (config / "tenants" / "acme.yaml").write_text("tenant: acme\n")
    story = Story("7K3Q-XW92-40", START, "login.refused", "password.wrong", 422, tenant="acme", path="/t/acme/login")
    with running(config) as runtime:
        runtime.keep(story)
        runtime.engines.stories.find("7K3Q-XW92-40")
        log = tmp_path / "log"
        log.write_text("noise\n" + json.dumps({"reference": "7K3Q-XW92-40", "said": "in the log"}) + "\n")
        run = CliRunner()
        done = run.invoke(explain, ["7k3q xw92 4o", "--config", str(config)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert "at acme" in done.output
        assert "the password was wrong" in done.output
        told = json.loads(
            run.invoke(explain, ["7K3Q-XW92-40", "--config", str(config), "--json", "--log", str(log)]).stdout
        )
        assert [Story.from_dict(one) for one in told["stories"]] == [story]
        assert told["log"][0]["said"] == "in the log"
        unknown = run.invoke(explain, ["AAAA-AAAA-AA", "--config", str(config)])
        assert unknown.exit_code == 1
        assert "Nothing is known of AAAA-AAAA-AA" in unknown.output
        assert run.invoke(explain, ["nonsense", "--config", str(config)]).exit_code == 2


def test_a_flood_is_bounded_and_counted(town: Town) -> None:
    keeper = town.broker.runtime.engines.stories
    before = keeper.dropped
    for number in range(400):
        keeper.keep(Story(f"FL00-D{number:03}-AA", town.clock.now(), "login.refused", "password.wrong", 422))
    assert 100 <= keeper.dropped - before < 400
    town.later(minutes=5)


def test_every_check_of_the_policy_has_its_words() -> None:
    assert set(CHECKS) == {check.name for check in POLICY}


def test_identifiers_are_masked() -> None:
    assert [masked(text) for text in ("ada@acme.test", "ada", "", "@x")] == ["a***@acme.test", "a***", "", "***@x"]


def test_a_reference_is_understood_as_people_say_it() -> None:
    assert _normal("7k3q xw92 4t") == "7K3Q-XW92-4T"
    assert _normal("7K3QXW924O") == "7K3Q-XW92-40"
