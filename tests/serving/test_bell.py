"""What tells every process of an installation to read the configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from broker.processes import bell
from broker.processes.environment import RELOAD_BELL
from broker.processes.handed_down import inherited


def forbidden(*_: object) -> int:
    raise PermissionError("by a filter of system calls")


@pytest.fixture(params=["memory", "a temporary file"])
def environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    if request.param != "memory":
        monkeypatch.setattr(os, "memfd_create", forbidden)
    environment: dict[str, str] = {}
    bell.hang(environment)
    monkeypatch.setenv(RELOAD_BELL, environment[RELOAD_BELL])
    yield environment
    for descriptor in inherited(environment):
        os.close(descriptor)


def test_whoever_inherits_it_hears_every_ring(environment: dict[str, str]) -> None:
    heard = [bell.rung()]
    for _ in range(3):
        assert bell.ring(environment)
        heard.append(bell.rung())
    assert len(set(heard)) == 4
    child = os.fork()
    if child == 0:
        os._exit(0 if bell.rung() == heard[-1] else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_where_there_can_be_none_a_ring_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "memfd_create", forbidden)
    monkeypatch.setattr("tempfile.TemporaryFile", forbidden)
    environment: dict[str, str] = {}
    bell.hang(environment)
    assert environment == {}
    assert bell.ring(environment)
    assert bell.rung() == 0


@pytest.mark.parametrize("said", ["", "x", "9999:1", "/tmp/homerealm-reload-1", "0:1"])
def test_a_bell_that_was_lost_neither_rings_nor_fails(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv(RELOAD_BELL, said)
    assert bell.ring({RELOAD_BELL: said})
    assert bell.rung() == 0
