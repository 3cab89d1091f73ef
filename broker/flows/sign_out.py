"""Leaving: this browser, all browsers, and the provider that somebody came from."""

from __future__ import annotations

from dataclasses import dataclass

from broker.core.connection import Redirect, UpstreamSignOut
from broker.core.errors import ConnectionFailed
from broker.core.events import Action, Event
from broker.core.tenant import Tenant
from broker.core.values import Actor, Session, SessionId, User
from broker.flows.means import Means


@dataclass(frozen=True)
class SignOut:
    means: Means

    def end(self, tenant: Tenant, session: Session) -> None:
        """End one session. Tokens without `offline_access` die with it: they name it (Grant.session)."""
        self.means.sessions.close(session.id)
        self._note(tenant, session.user, Action.SIGNED_OUT, Actor.user(session.user))

    def upstream(self, tenant: Tenant, session: Session, return_url: str, state: str) -> Redirect | None:
        """Where to sign out as well; None where the provider does not offer it, or does not answer."""
        connection = self.means.connections(tenant, session.identity.connection)
        if connection is None or not isinstance(connection, UpstreamSignOut):
            return None
        try:
            return connection.sign_out(session.identity, return_url, state)
        except ConnectionFailed:
            return None

    def one_of(self, tenant: Tenant, user: User, id: str) -> bool:
        """End one of somebody's own sessions, from the list of devices."""
        session = self.means.sessions.find(SessionId(id))
        if session is None or session.user != user.id:
            return False
        self.end(tenant, session)
        return True

    def everywhere(self, tenant: Tenant, user: User, by: Actor) -> None:
        """Move the epoch: every session, code and refresh family is refused from now on, on every replica."""
        now = self.means.clock.now()
        with self.means.database.writing() as work:
            work.users.move_epoch(user.id)
            work.audit.write(Event(now, tenant.directory, by, Action.SIGNED_OUT_EVERYWHERE, user.id))
        for session in self.means.sessions.of(user.id):
            self.means.sessions.close(session.id)

    def _note(self, tenant: Tenant, user: str, action: Action, by: Actor) -> None:
        with self.means.database.writing() as work:
            work.audit.write(Event(self.means.clock.now(), tenant.directory, by, action, user))
