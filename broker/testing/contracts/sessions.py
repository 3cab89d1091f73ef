"""What a store of browser sessions has to do (`broker.core.ports.Sessions`)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from broker.core.ports import Sessions
from broker.core.values import ClientId, SessionId, UserId
from broker.testing.clock import FixedClock
from broker.testing.race import CALLERS, race
from broker.testing.samples import a_session


class SessionsContract:
    """Inherit, and give fixtures `sessions` (on an empty store) and `clock`, which it reads."""

    @pytest.fixture
    def sessions(self) -> Sessions:
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> FixedClock:
        return FixedClock()

    def test_a_session_is_found_by_its_secret_and_by_its_id(self, sessions: Sessions, clock: FixedClock) -> None:
        session = a_session(clock.now())
        secret = sessions.secret_for(session.id, "random")
        sessions.open(session, secret)
        assert sessions.get(secret) == session
        assert sessions.find(session.id) == session

    def test_no_other_secret_opens_it(self, sessions: Sessions, clock: FixedClock) -> None:
        session = a_session(clock.now())
        sessions.open(session, sessions.secret_for(session.id, "random"))
        for secret in ("", session.id, f"{session.id}.", f"{session.id}.Random", "other.random", "\ud800.\udfff"):
            assert sessions.get(secret) is None
        assert sessions.find(SessionId("other")) is None

    def test_a_secret_of_another_session_is_refused(self, sessions: Sessions, clock: FixedClock) -> None:
        session = a_session(clock.now())
        with pytest.raises(ValueError):
            sessions.open(session, sessions.secret_for(SessionId("other"), "random"))
        assert sessions.find(session.id) is None

    def test_it_ends_when_its_time_is_over(self, sessions: Sessions, clock: FixedClock) -> None:
        session = a_session(clock.now())
        secret = sessions.secret_for(session.id, "random")
        sessions.open(session, secret)
        clock.advance(timedelta(hours=12))
        assert sessions.get(secret) is None
        assert sessions.find(session.id) is None
        assert sessions.of(session.user) == []
        assert sessions.touch(session.id, lambda one: one) is None

    def test_a_new_secret_kills_the_old_one(self, sessions: Sessions, clock: FixedClock) -> None:
        session = a_session(clock.now())
        old, new = sessions.secret_for(session.id, "old"), sessions.secret_for(session.id, "new")
        sessions.open(session, old)
        privileged = replace(session, factors=(*session.factors, "pwd"))
        sessions.replace(old, privileged, new)
        assert sessions.get(old) is None
        assert sessions.get(new) == privileged

    def test_a_dead_secret_replaces_nothing(self, sessions: Sessions, clock: FixedClock) -> None:
        session = a_session(clock.now())
        old, new, third = (sessions.secret_for(session.id, text) for text in ("old", "new", "third"))
        sessions.open(session, old)
        sessions.replace(old, session, new)
        sessions.replace(old, session, third)
        assert sessions.get(third) is None
        assert sessions.get(new) == session
        sessions.close(session.id)
        sessions.replace(new, session, third)
        assert sessions.get(third) is None

    def test_closing_ends_it_once(self, sessions: Sessions, clock: FixedClock) -> None:
        session = a_session(clock.now())
        secret = sessions.secret_for(session.id, "random")
        sessions.open(session, secret)
        assert sessions.close(session.id) == session
        assert sessions.close(session.id) is None
        assert sessions.get(secret) is None
        assert sessions.of(session.user) == []

    def test_the_sessions_of_a_user_come_newest_first(self, sessions: Sessions, clock: FixedClock) -> None:
        opened = []
        for number in range(4):
            now = clock.advance(timedelta(minutes=1))
            session = a_session(now, f"browser-{number}")
            sessions.open(session, sessions.secret_for(session.id, "random"))
            opened.append(session)
        other = a_session(clock.now(), "other", user=UserId("user-2"))
        sessions.open(other, sessions.secret_for(other.id, "random"))
        sessions.close(opened[1].id)
        assert sessions.of(UserId("user-1")) == [opened[3], opened[2], opened[0]]
        assert sessions.of(UserId("user-2")) == [other]
        assert sessions.of(UserId("nobody")) == []

    def test_touch_changes_the_newest_value_and_keeps_the_secret(self, sessions: Sessions, clock: FixedClock) -> None:
        session = a_session(clock.now(), clients=())
        secret = sessions.secret_for(session.id, "random")
        sessions.open(session, secret)
        race(lambda n: sessions.touch(session.id, lambda one: replace(one, clients=(*one.clients, ClientId(f"{n}")))))
        stored = sessions.get(secret)
        assert stored is not None
        assert sorted(stored.clients, key=int) == [str(n) for n in range(CALLERS)]
        assert sessions.touch(SessionId("unknown"), lambda one: one) is None

    def test_a_touch_never_revives_what_was_closed_meanwhile(self, sessions: Sessions, clock: FixedClock) -> None:
        session = a_session(clock.now())
        secret = sessions.secret_for(session.id, "random")
        sessions.open(session, secret)

        def change(one):  # type: ignore[no-untyped-def]
            sessions.close(one.id)
            return replace(one, agent="later")

        assert sessions.touch(session.id, change) is None
        assert sessions.get(secret) is None
