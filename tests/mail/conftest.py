"""A house and a mail server for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.testing.mail_server import MailServer
from tests.engines import Pair
from tests.mail.house import House


@pytest.fixture
def house(tmp_path: Path, engines: Pair) -> Iterator[House]:
    house = House(tmp_path, "maildir:mail", engines.database(tmp_path / "db.sqlite"))
    yield house
    house.database.close()


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer().running() as running:
        yield running
