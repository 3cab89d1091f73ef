"""Changes that concern the whole installation, or who may sign in as whom, are in the audit log, once each."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from broker.background.schedule import Worker
from broker.core.events import Action
from broker.flows.ledger import CONFIGURATION
from broker.stores.kv.embedded import EmbeddedValkey
from broker.testing.town import ACME, Town
from tests.crash.processes import wait_until
from tests.stories.journeys import open_app, type_identifier, type_password


@pytest.fixture
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    servers = [EmbeddedValkey(tmp_path_factory.mktemp("kv")) for _ in range(2)]
    town = Town(tmp_path_factory.mktemp("town"), (servers[0].start(), servers[1].start()))
    yield town
    town.close()
    for server in servers:
        server.stop()


def changes(town: Town) -> list[tuple[str, str]]:
    """Before and after, oldest first."""
    with town.broker.runtime.database.reading() as work:
        found = work.audit.search(target=CONFIGURATION)
    assert {one.action for one in found} <= {Action.CONFIGURATION_CHANGED}
    return [(one.detail["before"], one.detail["after"]) for one in reversed(found)]


@contextmanager
def workers(town: Town, count: int) -> Iterator[None]:
    stop = threading.Event()
    threads = [threading.Thread(target=Worker(lambda: town.broker.runtime).run, args=(stop,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_change_of_the_configuration_is_one_row_however_many_workers_there_are(town: Town) -> None:
    first = town.broker.runtime.settings.version
    with workers(town, 2):
        wait_until(lambda: len(changes(town)) == 1, "the first version")
        assert town.broker.write(ACME.replace("name: Acme", "name: Acme & Sons", 1))
        second = town.broker.runtime.settings.version
        wait_until(lambda: len(changes(town)) == 2, "the second version")
    with workers(town, 2):  # which is no change by itself
        assert town.broker.write(ACME)
        wait_until(lambda: len(changes(town)) == 3, "the third version")
    assert changes(town) == [("", first), (first, second), (second, town.broker.runtime.settings.version)]


def test_a_first_sign_in_by_a_provider_links_an_account_in_the_audit_log(town: Town) -> None:
    town.upstream.add("contoso", email="carol@contoso.test", name="Carol Shaw")
    type_password(type_identifier(open_app(town.browser(), connection="contoso"), "carol@contoso.test"))
    tenant = town.broker.tenant("acme")
    with town.broker.runtime.database.reading() as work:
        found = [one for one in work.audit.read(tenant.directory) if one.detail.get("connection") == "contoso"]
    assert {one.action for one in found} == {Action.USER_ADDED, Action.USER_LINKED}
    assert len({one.target for one in found}) == 1
