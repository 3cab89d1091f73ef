"""Every built-in connection keeps the contract that we ship for authors of others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.core.values import ConnectionId, User, UserId
from broker.services.hashing import Argon2Hasher
from broker.services.secrets import SecretVault
from broker.stores.sql.database import SqlDatabase
from broker.testing.clock import FixedClock
from broker.testing.contracts import (
    Case,
    LocalResetContract,
    OpenIdCase,
    OpenIdContract,
    PasswordSignInContract,
    RedirectCase,
    RedirectSignInContract,
)
from broker.testing.entropy import SeededEntropy
from broker.testing.tools import ACME, Workbench
from tests.connections import cases


class TestOidc(OpenIdContract):
    @pytest.fixture
    def case(self) -> OpenIdCase:
        return cases.oidc()


class TestGoogle(OpenIdContract):
    @pytest.fixture
    def case(self) -> OpenIdCase:
        return cases.google()


class TestMicrosoft(OpenIdContract):
    @pytest.fixture
    def case(self) -> OpenIdCase:
        return cases.microsoft()


class TestMicrosoftForOneTenant(OpenIdContract):
    @pytest.fixture
    def case(self) -> OpenIdCase:
        return cases.microsoft(cases.TENANT)


class TestGitHub(RedirectSignInContract):
    @pytest.fixture
    def case(self) -> RedirectCase:
        return cases.github()


class TestGitHubEnterprise(RedirectSignInContract):
    @pytest.fixture
    def case(self) -> RedirectCase:
        return cases.github("github.acme.test")


class TestOAuth2(RedirectSignInContract):
    @pytest.fixture
    def case(self) -> RedirectCase:
        return cases.oauth2()


def add_person(bench: Workbench, **facts: object) -> User:
    """Ada, who signs in as `ada` or `ada@acme.test` with cases.PASSWORD."""
    now = bench.clock.now()
    user = User(
        UserId("user-ada"), ACME.directory, now, now, connection=ConnectionId("tried"), username="ada",
        email="ada@acme.test", email_verified=True, **facts,
    )  # fmt: skip
    with bench.database.writing() as work:
        return work.users.add(user, hash=bench.hasher.hash(cases.PASSWORD), kinds=("email", "username"))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    clock, entropy = FixedClock(), SeededEntropy()
    database = SqlDatabase(f"sqlite:///{tmp_path / 'people.db'}", clock, entropy, SecretVault(b"k" * 32))
    database.upgrade()
    hasher = Argon2Hasher(memory_kib=8, time_cost=1)
    yield Workbench(clock=clock, entropy=entropy, database=database, hasher=hasher)
    hasher.close()
    database.close()


class TestDatabase(PasswordSignInContract, LocalResetContract):
    @pytest.fixture
    def case(self, bench: Workbench) -> Case:
        add_person(bench)
        return Case(cases.kind("database"), {}, bench)

    @pytest.fixture(params=["ada", "ADA", "ada@acme.test", "Ada@Acme.test", " ada "])
    def identifier(self, request: pytest.FixtureRequest) -> str:
        return request.param

    @pytest.fixture
    def password(self) -> str:
        return cases.PASSWORD
