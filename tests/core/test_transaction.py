"""Random walks over the transitions of a login."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker.core.errors import InvalidTransition
from broker.core.transaction import Transaction
from broker.core.values import ConnectionId, SessionId, UserId
from broker.testing.samples import a_transaction, an_identity

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CONNECTIONS = st.sampled_from([ConnectionId(name) for name in ("users", "staff", "google")])
PEOPLE = st.sampled_from([UserId("user-ada"), UserId("user-grace")])
NEVER_CHANGES = ("id", "tenant", "client", "config_version", "request", "browser", "started_at", "expires_at")


class Walk(RuleBasedStateMachine):
    """Somebody who sends every form, in every order."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self.now = a_transaction(NOW, connection=None, upstream=None)

    def move(self, allowed: bool, step: str, *values: object) -> None:
        before = self.now
        if before.finished or not allowed:
            with pytest.raises(InvalidTransition):
                getattr(before, step)(*values)
            return
        self.now = getattr(before, step)(*values)
        assert self.now.version == before.version + 1

    @rule(connection=CONNECTIONS, typed=st.none() | st.just("ada"))
    def choose(self, connection: ConnectionId, typed: str | None) -> None:
        self.move(self.now.identity is None, "choose", connection, typed)

    @rule()
    def forget_choice(self) -> None:
        self.move(self.now.identity is None, "forget_choice")

    @rule()
    def depart(self) -> None:
        self.move(self.now.connection is not None and self.now.identity is None, "depart", {"nonce": "n"})

    @rule(connection=CONNECTIONS, user=PEOPLE)
    def identify(self, connection: ConnectionId, user: UserId) -> None:
        possible = self.now.identity is None and self.now.connection == connection
        self.move(possible, "identify", an_identity(NOW, connection=connection), user, 3)

    @rule(connection=CONNECTIONS, user=PEOPLE, factors=st.sampled_from([(), ("otp",)]))
    def recognise(self, connection: ConnectionId, user: UserId, factors: tuple[str, ...]) -> None:
        identity = an_identity(NOW, connection=connection)
        self.move(self.now.identity is None, "recognise", identity, user, 3, SessionId("S1"), factors)

    @rule()
    def reauthenticate(self) -> None:
        self.move(True, "reauthenticate")
        if not self.now.finished:
            assert (self.now.identity, self.now.user, self.now.factors, self.now.consented) == (None, None, (), None)
            assert not self.now.interactive
            assert not self.now.selected

    @rule()
    def select(self) -> None:
        self.move(self.now.identity is not None, "select")

    @rule(factor=st.sampled_from(["otp", "passkey"]))
    def pass_factor(self, factor: str) -> None:
        self.move(self.now.identity is not None and factor not in self.now.factors, "pass_factor", factor)

    @rule()
    def consent(self) -> None:
        self.move(self.now.user is not None, "consent", ("openid",))

    @rule()
    def note(self) -> None:
        self.move(True, "note", "mail_sent")

    @precondition(lambda self: self.now.version > 3)
    @rule()
    def finish(self) -> None:
        self.move(self.now.identity is not None, "finish")

    @invariant()
    def it_is_the_same_login(self) -> None:
        assert all(getattr(self.now, name) == getattr(self.first, name) for name in NEVER_CHANGES)

    @invariant()
    def an_identity_is_of_the_chosen_connection(self) -> None:
        if self.now.identity is not None:
            assert self.now.identity.connection == self.now.connection

    @invariant()
    def an_identity_and_its_user_come_and_go_together(self) -> None:
        assert (self.now.identity is None) == (self.now.user is None)

    @invariant()
    def what_was_passed_or_allowed_belongs_to_somebody(self) -> None:
        if self.now.identity is None:
            assert (self.now.factors, self.now.consented) == ((), None)
            assert (self.now.interactive, self.now.selected) == (False, False)

    @invariant()
    def a_departure_waits_for_nobody_who_is_here_already(self) -> None:
        assert self.now.upstream is None or (self.now.identity is None and self.now.connection is not None)

    @invariant()
    def a_finished_login_has_somebody(self) -> None:
        assert not self.now.finished or self.now.user is not None


TestWalk = Walk.TestCase
TestWalk.settings = settings(deadline=None, max_examples=40, stateful_step_count=25)


def test_the_walk_knows_every_transition() -> None:
    transitions = {name for name, value in vars(Transaction).items() if callable(value) and not name.startswith("_")}
    assert transitions <= set(dir(Walk))


def test_nothing_on_a_login_says_that_a_password_may_be_written() -> None:
    # Keycloak CVE-2026-18963: a note on the flow did.
    names = [field.name for field in dataclasses.fields(Transaction)]
    assert [name for name in names if "proof" in name or "ticket" in name or "password" in name] == []
