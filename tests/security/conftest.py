"""Attackers live in the same town as everybody else."""

import pytest

from tests.stories.conftest import build_town, key_values, town  # noqa: F401 - fixtures


@pytest.fixture
def mounted() -> bool:
    """Once is enough here: stories are told both ways."""
    return False
