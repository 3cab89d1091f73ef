"""More patience than the product has, for tests that are not about that: a busy machine may stand still for seconds."""

from __future__ import annotations

import pytest


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command is repeated for as long as it takes to start a killed server again."""
    monkeypatch.setattr("broker.stores.kv.redis.REPEAT_SECONDS", 20.0)
