"""What the stories about faults stand on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults import fleet
from tests.postgresql import Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with fleet.postgres() as server:
        yield server
