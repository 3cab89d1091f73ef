"""The database connection on a real SQLite."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from broker.core.errors import Busy
from broker.core.values import ConnectionId, UserId
from broker.services.hashing import Argon2Hasher
from broker.testing.contracts import Case
from broker.testing.tools import ACME, Workbench
from tests.connections import cases


@pytest.fixture
def case(bench: Workbench) -> Case:
    return Case(cases.kind("database"), {}, bench)


def test_the_identity_is_ours_and_says_no_more_than_it_must(case: Case) -> None:
    user = cases.add_person(case.bench)
    identity = case.make().check_password("ada", cases.PASSWORD)
    assert (identity.issuer, identity.subject, identity.methods) == (ACME.issuer, user.id, ("pwd",))
    assert (dict(identity.claims), dict(identity.private)) == ({}, {"epoch": str(user.epoch)})


@pytest.mark.parametrize(
    ("identifiers", "answers"),
    [(["email"], (False, True)), (["username"], (True, False)), (["username", "email"], (True, True))],
)
def test_people_sign_in_with_what_the_tenant_chose(
    case: Case, identifiers: list[str], answers: tuple[bool, bool]
) -> None:
    cases.add_person(case.bench)
    connection = case.make(identifiers=identifiers)
    found = tuple(connection.check_password(who, cases.PASSWORD) is not None for who in ("ada", "ada@acme.test"))
    assert found == answers


def test_blocked_people_are_recognised_here_and_stopped_by_the_policy(case: Case) -> None:
    cases.add_person(case.bench, blocked=True)
    assert case.make().check_password("ada", cases.PASSWORD) is not None
    assert case.make().check_password("ada", "wrong") is None


def test_people_of_another_directory_or_connection_are_nobody(case: Case) -> None:
    user = cases.add_person(case.bench)
    with case.bench.database.writing() as work:
        work.users.delete(user.id)
        for id, changes in (
            ("in-test", {"directory": "acme/test"}),
            ("other", {"connection": ConnectionId("others")}),
        ):
            other = replace(user, id=UserId(id), **changes)
            work.users.add(other, hash=case.bench.hasher.hash(cases.PASSWORD), kinds=("email", "username"))
    assert case.make().check_password("ada", cases.PASSWORD) is None
    assert case.make().find("ada@acme.test") == []


def test_somebody_without_a_password_cannot_sign_in_with_any(case: Case) -> None:
    user = cases.add_person(case.bench)
    with case.bench.database.writing() as work:
        work.users.delete(user.id)
        work.users.add(user, kinds=("username",))
    for password in ("", cases.PASSWORD, "None"):
        assert case.make().check_password("ada", password) is None


def test_an_outdated_hash_is_renewed_by_the_next_sign_in(case: Case) -> None:
    user = cases.add_person(case.bench)
    stronger = Argon2Hasher(memory_kib=16, time_cost=1)
    case.bench.tools = replace(case.bench.tools, hasher=stronger)
    connection = case.make()
    assert connection.check_password("ada", "wrong") is None
    with case.bench.database.reading() as work:
        before = work.users.hash_of(user.id)
    assert connection.check_password("ada", cases.PASSWORD) is not None
    with case.bench.database.reading() as work:
        after = work.users.hash_of(user.id)
    assert "m=8," in before
    assert "m=16," in after
    assert connection.check_password("ada", cases.PASSWORD) is not None
    stronger.close()


def test_a_busy_pool_renews_nothing_and_lets_the_person_in(case: Case) -> None:
    class Strained(Argon2Hasher):
        """Verifies, and has no room for more."""

        def hash(self, password: str) -> str:
            raise Busy

        def outdated(self, stored: str) -> bool:
            return True

    cases.add_person(case.bench)
    strained = Strained(memory_kib=8, time_cost=1)
    case.bench.tools = replace(case.bench.tools, hasher=strained)
    assert case.make().check_password("ada", cases.PASSWORD) is not None
    strained.close()


def test_the_worker_finds_people_by_the_address_that_mail_goes_to(case: Case) -> None:
    user = cases.add_person(case.bench)
    connection = case.make(identifiers=["username"])
    assert connection.find("ada@acme.test") == [user] or connection.find("ada@acme.test")[0].id == user.id
    assert [found.id for found in connection.find("ada")] == [user.id]


@pytest.mark.parametrize(
    "settings",
    [
        {"identifiers": []},
        {"identifiers": ["phone"]},
        {"identifiers": ["email", "email"]},
        {"signup": "perhaps"},
        {"reset": {"how": "deep_link", "url": "https://x.test/"}},
        {"reset": {"url": "https://x.test/"}},
        {"reset": {"how": "text", "text": "Call 4711."}},
    ],
    ids=str,
)
def test_settings_that_cannot_be_right_are_refused(case: Case, settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        case.make(**settings)


def test_resetting_by_a_mail_of_ours_may_be_said(case: Case) -> None:
    assert case.make(reset={"how": "local"}).settings.reset.how == "local"
