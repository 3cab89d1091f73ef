"""Every built-in connection keeps the contract that we ship for authors of others."""

from __future__ import annotations

import pytest

from broker.testing.contracts import (
    Case,
    LocalResetContract,
    OpenIdCase,
    OpenIdContract,
    PasswordSignInContract,
    RedirectCase,
    RedirectSignInContract,
)
from broker.testing.tools import Workbench
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


class TestDatabase(PasswordSignInContract, LocalResetContract):
    @pytest.fixture
    def case(self, bench: Workbench) -> Case:
        cases.add_person(bench)
        return Case(cases.kind("database"), {}, bench)

    @pytest.fixture(params=["ada", "ADA", "ada@acme.test", "Ada@Acme.test", " ada "])
    def identifier(self, request: pytest.FixtureRequest) -> str:
        return request.param

    @pytest.fixture
    def password(self) -> str:
        return cases.PASSWORD
