"""Secrets take the place of others while people sign in: nobody notices, on replicas that know different things."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from broker.app import create_app
from broker.core.values import GrantId
from broker.services.hashing import Argon2Hasher
from broker.services.secrets import read_or_make_key
from broker.testing.entropy import SeededEntropy
from broker.testing.town import ACME, Town
from broker.wiring import Runtime, load_settings, open_engines
from tests.stories.journeys import (
    NEW,
    at_the_app,
    choose_password,
    forget,
    open_app,
    reset_link,
    sign_in,
    type_identifier,
    type_password,
)

FIRST, SECOND = "var/secret.key", "var/second.key"


class InTurn:
    """Two replicas behind a proxy that has no favourite."""

    def __init__(self, *apps: Any) -> None:
        self.apps = cycle(apps)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        answer: Iterable[bytes] = next(self.apps)(environ, start_response)
        return answer


def replica(town: Town, name: str, key: str, others: tuple[str, ...]) -> Runtime:
    """Another process of the same installation, with other keys."""
    root = Path(town.broker.runtime.settings.root)
    config = root / name
    (config / "tenants").mkdir(parents=True)
    for tenant in (town.broker.config / "tenants").iterdir():
        (config / "tenants" / tenant.name).write_text(tenant.read_text())
    text = (town.broker.config / "broker.yaml").read_text().replace(FIRST, key)
    (config / "broker.yaml").write_text(f"{text}other_secret_key_files: [{', '.join(others)}]\n")
    settings = load_settings(config)
    engines = open_engines(
        settings, clock=town.clock, entropy=SeededEntropy(name), fetcher=town.fetcher,
        hasher=Argon2Hasher(workers=1, memory_kib=8, time_cost=1),
    )  # fmt: skip
    town.closing.append(engines)
    return Runtime(settings, engines)


@pytest.fixture
def mounted() -> bool:
    return False


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param((FIRST, ()), (FIRST, (SECOND,)), id="the-second-becomes-known"),
        pytest.param((FIRST, (SECOND,)), (SECOND, (FIRST,)), id="the-second-is-used"),
        pytest.param((SECOND, (FIRST,)), (SECOND, ()), id="the-first-is-dropped-after-a-rewrap"),
    ],
)
def test_people_sign_in_and_reset_passwords_over_replicas_at_each_step_of_a_new_secret_key(
    town: Town, one: tuple[str, tuple[str, ...]], other: tuple[str, tuple[str, ...]]
) -> None:
    root = Path(town.broker.runtime.settings.root)
    read_or_make_key(root / SECOND)
    assert at_the_app(sign_in(town.browser(), "ada"), "ada")  # signing keys are sealed with the first
    left = replica(town, "left", *one)
    if one[0] == SECOND:
        done = left.database.reseal()
        assert done["signing_keys"] == 2
        assert set(left.database.reseal().values()) == {0}
    right = replica(town, "right", *other)
    apps = create_app(left), create_app(right)
    town.world["login.test"] = InTurn(*apps)
    for rotated in (InTurn(*apps), InTurn(*reversed(apps))):
        town.world["login.test"] = rotated
        assert at_the_app(sign_in(town.browser(), "ada"), "ada")
        page = open_app(town.browser(), connection="contoso")
        assert at_the_app(type_password(type_identifier(page, "carol@contoso.test")), "carol")
    browser = town.browser()
    forget(open_app(browser), "ada@acme.test")
    town.broker.worker = type(town.broker.worker)(right)
    assert at_the_app(choose_password(browser.go(reset_link(town, "ada@acme.test"))), "ada")
    assert at_the_app(sign_in(town.browser(), "ada", NEW), "ada")


def test_a_refresh_token_of_the_earlier_key_is_taken_while_that_key_is_known(town: Town) -> None:
    read_or_make_key(Path(town.broker.runtime.settings.root) / SECOND)
    before, during = town.broker.runtime, replica(town, "during", SECOND, (FIRST,))
    after = replica(town, "after", SECOND, ())
    grants = before.engines.grants
    token = grants.refresh_for(GrantId("g1"), "r1")
    other = during.engines.grants.refresh_for(GrantId("g1"), "r2")
    assert after.engines.grants.peek_refresh(token) is None
    assert token.split(".")[0] == other.split(".")[0]
    assert not before.vault.is_mac(other.split(".")[2], "refresh token", "g1", "r2", length=22)
    assert during.vault.is_mac(token.split(".")[2], "refresh token", "g1", "r1", length=22)
    assert not after.vault.is_mac(token.split(".")[2], "refresh token", "g1", "r1", length=22)


def test_the_audit_log_stays_verifiable_through_a_new_secret_key(town: Town) -> None:
    read_or_make_key(Path(town.broker.runtime.settings.root) / SECOND)
    town.broker.runtime.ledger.seal()
    during = replica(town, "during", SECOND, (FIRST,))
    assert not during.ledger.verify().problem
    after = replica(town, "after", SECOND, ())
    assert "not written by this installation" in after.ledger.verify().problem
    assert during.database.reseal()["audit"] > 0
    assert not after.ledger.verify().problem


def test_what_no_key_opens_is_an_error_and_stays_as_it_is(town: Town) -> None:
    read_or_make_key(Path(town.broker.runtime.settings.root) / SECOND)
    assert at_the_app(sign_in(town.browser(), "ada"), "ada")
    stranger = replica(town, "stranger", SECOND, ())
    with pytest.raises(ValueError, match="sealed with another key"):
        stranger.database.reseal()
    assert at_the_app(sign_in(town.browser(), "ada"), "ada")


def test_a_client_has_two_secrets_while_one_takes_the_place_of_the_other(town: Town) -> None:
    old = "demo-app-secret-91f0c6d3"
    assert town.broker.write(ACME.replace(f"client_secret: {old}", f"client_secret: [a-new-secret-0123456789, {old}]"))
    assert at_the_app(sign_in(town.browser(), "ada"), "ada")
    assert town.broker.write(ACME.replace(old, "a-new-secret-0123456789"))
    assert not at_the_app(sign_in(town.browser(), "ada"), "ada")


def test_an_upstream_secret_changes_by_a_reload(town: Town) -> None:
    new = "upstream-secret-9876543210"
    assert town.upstream.write(
        town.contoso.replace("client_secret: upstream", f"client_secret: [{new}, upstream")
        .replace("0123456789\n    redirect", "0123456789]\n    redirect")
        .replace("@broker@", town.broker.base),
        "tenants/contoso.yaml",
    )
    departed = open_app(town.browser(), connection="contoso")
    assert town.broker.write(ACME.replace("upstream-secret-0123456789", new))
    assert at_the_app(type_password(type_identifier(departed, "carol@contoso.test")), "carol")
    page = open_app(town.browser(), connection="contoso")
    assert at_the_app(type_password(type_identifier(page, "carol@contoso.test")), "carol")
