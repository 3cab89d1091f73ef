"""From SQLite to PostgreSQL by one command, and nobody notices."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine, func, select

from broker.cli import main
from broker.core.values import ClientId, User
from broker.stores.sql.engine import parse_url
from broker.stores.sql.tables import metadata
from broker.testing.town import Town
from tests.postgresql import shared
from tests.stories.journeys import NEW, at_the_app, choose_password, forget, open_app, reset_link, sign_in
from tests.stories.test_app_requests import answer_of, id_token, signed_in
from tests.stories.test_elsewhere import CAROL, signed_in_at_contoso
from tests.tokens import authorize_url


@pytest.fixture
def town(build_town: Callable[..., Town]) -> Town:
    town = build_town(databases=None)
    town.broker.add("acme", email="ada@acme.test", username="ada", name="Ada Lovelace")
    town.upstream.add("contoso", email=CAROL, name="Carol Shaw")
    return town


def person(town: Town, address: str = "ada@acme.test") -> User:
    with town.broker.runtime.database.reading() as work:
        return work.users.find_by_email(town.broker.tenant("acme").directory, address)[0]


def counts(address: str) -> dict[str, int]:
    engine = create_engine(parse_url(address))
    with engine.connect() as connection:
        found = {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in metadata.sorted_tables
        }
    engine.dispose()
    return found


def move(town: Town) -> dict[str, int]:
    """What an operator does: the new address into broker.yaml, and the command."""
    file = town.broker.config / "broker.yaml"
    file.write_text(file.read_text().replace("sqlite:///var/broker.db", shared().database()))
    arguments = ["db", "copy", "--config", str(town.broker.config), "--from", "sqlite:///var/broker.db", "--json"]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


def test_after_the_move_all_goes_on_as_if_nothing_had_happened(town: Town) -> None:
    browser = signed_in(town)
    token = id_token(town, answer_of(browser.go(authorize_url(town)))["code"])
    signed_in_at_contoso(town, town.browser())
    forget(open_app(town.browser()), "ada@acme.test")
    link = reset_link(town, "ada@acme.test")
    database = town.broker.runtime.database
    ada, carol = person(town).id, person(town, CAROL).id
    with database.writing() as work:
        work.consents.grant(ada, ClientId("demo"), frozenset({"openid"}), town.clock.now())
        end = work.audit.seal()
    assert end is not None
    sealed = end.place
    with database.reading() as work:
        marker, events, identities = database.marker(), work.audit.search(), work.users.identities(carol)
    assert identities
    there = f"sqlite:///{town.folder}/broker/var/broker.db"
    before = counts(there)
    assert all(before.values()), f"something of everything: {before}"

    done = move(town)
    town.restart()

    assert done == before == counts(there), "and nothing is taken away"
    database = town.broker.runtime.database
    assert database.marker() == marker
    with database.reading() as work:
        assert work.audit.search() == events
        assert work.users.identities(carol) == identities
        assert work.consents.granted(ada, ClientId("demo")) == {"openid"}
    verdict = town.broker.runtime.ledger.verify(None)
    assert (verdict.problem, verdict.last.place) == ("", sealed)
    # Who is signed in stays so, and an ID token of before is still ours.
    assert "code" in answer_of(browser.go(authorize_url(town, prompt="none", id_token_hint=token)))
    assert at_the_app(sign_in(town.browser(), "ada"), "ada@acme.test")
    signed_in_at_contoso(town, town.browser())
    # A link that was mailed before sets the password after.
    choose_password(town.browser().go(link))
    assert at_the_app(sign_in(town.browser(), "ada", NEW), "ada@acme.test")
    with database.reading() as work:
        newer = work.audit.search(after=events[0].number)
    assert newer, "what happens now gets numbers of its own"
