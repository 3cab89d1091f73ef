"""What a support desk, or an operator on the command line, does for somebody. The same verbs for both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from broker.core.connection import LocalReset
from broker.core.errors import BrokerError, Denied, InvalidIdentifier, NotFound, PageExpired
from broker.core.events import Action, Event
from broker.core.identifiers import parse_email, parse_identifier
from broker.core.mail import MailKind
from broker.core.tenant import ConnectionEntry, Role, Tenant
from broker.core.ticket import AdminConfirmed, Purpose
from broker.core.values import Actor, ConnectionId, Session, User, UserId
from broker.flows.means import Means
from broker.flows.passwords import CONFIRMATION_LASTS, Circumstances, Passwords
from broker.flows.recovery_mail import Occasion, RecoveryMail


class NotPossible(BrokerError):
    """The account as it is does not allow it; the code says why."""

    code, status = "desk.not_possible", 409


@dataclass(frozen=True)
class Desk:
    means: Means
    passwords: Passwords
    mail: RecoveryMail

    # --- Who may --------------------------------------------------------------------------------------------------

    def role(self, tenant: Tenant, session: Session, user: User) -> Role | None:
        """The role that the configuration gives somebody; None for nobody special. Needs a verified address."""
        for entry in tenant.admins:
            if entry.connection != session.identity.connection:
                continue
            if self._is(entry.identifier, user):
                return entry.role
        return None

    def _is(self, identifier: str, user: User) -> bool:
        try:
            wanted = parse_identifier(identifier)
            known = parse_email(user.email) if user.email else None
        except InvalidIdentifier:
            return False
        return known is not None and user.email_verified and wanted == replace(known, display=wanted.display)

    def role_of(self, tenant: Tenant, user: User) -> Role | None:
        """The highest role that any way to sign in would give somebody, for the order of ranks."""
        ranks = [entry.role for entry in tenant.admins if self._is(entry.identifier, user)]
        return max(ranks, key=lambda role: role.rank, default=None)

    def may(self, tenant: Tenant, actor: Role, target: User) -> None:
        """Nobody acts on somebody of a higher rank, nor of their own unless owner. Raises `Denied`."""
        theirs = self.role_of(tenant, target)
        if theirs is not None and theirs.rank >= actor.rank and actor is not Role.OWNER:
            raise Denied(code="desk.rank")

    # --- Finding ----------------------------------------------------------------------------------------------------

    def search(self, tenant: Tenant, text: str) -> list[User]:
        text = text.strip()
        if not text or len(text) > 254:
            return []
        with self.means.database.reading() as work:
            return work.users.search(tenant.directory, text)

    def user(self, tenant: Tenant, id: str) -> User:
        """Raises `NotFound`, also for somebody of another tenant."""
        with self.means.database.reading() as work:
            user = work.users.get(UserId(id))
        if user is None or user.directory != tenant.directory:
            raise NotFound(code="user.unknown")
        return user

    def find(self, tenant: Tenant, identifier: str) -> User:
        """By id, username or address. Raises `NotFound`, `NotPossible("user.ambiguous")`."""
        with self.means.database.reading() as work:
            by_id = work.users.get(UserId(identifier))
            if by_id is not None and by_id.directory == tenant.directory:
                return by_id
            found = {user.id: user for user in self.mail.find(work, tenant, identifier)}
            if not found and "@" not in identifier:
                found = {user.id: user for user in work.users.find_by_username(tenant.directory, identifier)}
        if not found:
            raise NotFound(code="user.unknown")
        if len(found) > 1:
            raise NotPossible(", ".join(found), code="user.ambiguous")
        return next(iter(found.values()))

    # --- Doing ------------------------------------------------------------------------------------------------------

    def add(
        self, tenant: Tenant, *, email: str | None, username: str | None, name: str | None, password: str | None,
        by: Actor, connection: str | None = None,
    ) -> User:  # fmt: skip
        """A new local account. An address that an operator gives counts as verified.

        Raises `InvalidIdentifier`, `IdentifierTaken`, `PasswordRefused`, `NotPossible("connection.no_database")`.
        """
        entry = self._database_of(tenant, connection)
        now = self.means.clock.now()
        if email is not None:
            parse_email(email)
        kinds: Sequence[str] = tuple(getattr(entry.settings, "identifiers", ("email",)))
        if not any({"email": email, "username": username}.get(kind) for kind in kinds):
            raise NotPossible(" or ".join(kinds), code="user.no_identifier")
        user = User(
            self.means.user_id(), tenant.directory, now, now, connection=entry.id, username=username,
            email=email, email_verified=email is not None, profile={"name": name} if name else {},
        )  # fmt: skip
        hash = self.passwords.prepare(tenant, user, password, None) if password else None
        with self.means.database.writing() as work:
            added = work.users.add(user, hash=hash, kinds=kinds)
            work.audit.write(Event(now, tenant.directory, by, Action.USER_ADDED, added.id, {"connection": entry.id}))
        return added

    def _database_of(self, tenant: Tenant, wanted: str | None) -> ConnectionEntry:
        for entry in tenant.connections:
            if wanted in (None, entry.id) and isinstance(self.means.connections(tenant, entry.id), LocalReset):
                return entry
        raise NotPossible(code="connection.no_database")

    def send_reset(self, tenant: Tenant, user: User, by: Actor, how: Circumstances) -> MailKind:
        """The same ticket and the same mail as the user's own request. Raises `NotPossible`."""
        if user.blocked:
            raise NotPossible(code="user.blocked")
        if not user.email:
            raise NotPossible(code="user.no_address")
        with self.means.database.writing() as work:
            sent = self.mail.send(work, tenant, user, how, Occasion(by=by))
        if sent is None:
            raise NotPossible(code="mail.too_soon")
        return sent

    def login_link(self, tenant: Tenant, user: User, by: Actor) -> str:
        """A one-time address that signs somebody in to the page where a password is set. Raises `NotPossible`."""
        self._has_local_account(tenant, user)
        if user.blocked:
            raise NotPossible(code="user.blocked")
        now = self.means.clock.now()
        with self.means.database.writing() as work:
            secret = self.mail.ticket(work, tenant, user, Purpose.SIGN_IN_ONCE, Circumstances(), Occasion(by=by))
            work.audit.write(Event(now, tenant.directory, by, Action.LOGIN_LINK_MADE, user.id))
        return f"{tenant.issuer}/link?{urlencode({'ticket': secret})}"

    def _has_local_account(self, tenant: Tenant, user: User) -> None:
        if user.connection is None or tenant.connection(user.connection) is None:
            raise NotPossible(code="user.no_local_password")

    def confirm(
        self, tenant: Tenant, session: Session, secret: str, admin: User, password: str, how: Circumstances
    ) -> str:
        """The administrator gave their own password: good for five minutes.

        Returns the session's new secret: there is one at every change of privilege (SECURITY 10).
        Raises `WrongPassword`, `Throttled`, `Busy`.
        """
        self.passwords.current(tenant, admin, password, how.address)
        now = self.means.clock.now()
        renewed = self.means.sessions.secret_for(session.id, self.means.entropy.token(32))
        self.means.sessions.replace(secret, replace(session, confirmed_at=now), renewed)
        if self.means.sessions.get(renewed) is None:
            raise PageExpired(code="session.gone")
        return renewed

    def confirmed(self, session: Session, admin: User, target: User) -> AdminConfirmed | None:
        """The proof for changing one user, if the confirmation is fresh.

        Administrators without a password here prove themselves by signing in again at their provider.
        """
        at = session.confirmed_at if admin.has_password else session.authenticated_at
        now = self.means.clock.now()
        if at is None or now - at > CONFIRMATION_LASTS or session.user != admin.id:
            return None
        return AdminConfirmed(admin.id, admin.epoch, target.id, at)

    def set_password(
        self, tenant: Tenant, target: User, password: str, proof: AdminConfirmed, how: Circumstances
    ) -> User:
        """A temporary password: it must be changed at the next sign-in, and its owner is told by mail."""
        self._has_local_account(tenant, target)
        if not target.has_password:
            raise NotPossible(code="user.no_local_password")
        hash = self.passwords.prepare(tenant, target, password, None)
        with self.means.database.writing() as work:
            return self.passwords.write(
                work, tenant, target, hash, proof, Actor.admin(proof.admin), how=how, must_change=True
            )

    def operate_password(self, tenant: Tenant, target: User, password: str, by: Actor, *, must_change: bool) -> User:
        """The command line sets a password: by a ticket that is issued and redeemed at once."""
        self._has_local_account(tenant, target)
        hash = self.passwords.prepare(tenant, target, password, None)
        now = self.means.clock.now()
        with self.means.database.writing() as work:
            secret = self.mail.ticket(work, tenant, target, Purpose.OPERATE, Circumstances(), Occasion(by=by))
            proof = work.tickets.redeem(secret, Purpose.OPERATE, tenant.directory, target.epoch, now)
            if proof is None:
                raise Denied(code="proof.invalid")
            return self.passwords.write(
                work, tenant, target, hash, proof, by, how=Circumstances(), must_change=must_change
            )

    def block(self, tenant: Tenant, user: User, by: Actor, *, blocked: bool) -> User:
        """Blocking ends everything; unblocking brings nothing back."""
        now = self.means.clock.now()
        action = Action.USER_BLOCKED if blocked else Action.USER_UNBLOCKED
        with self.means.database.writing() as work:
            if blocked:
                work.users.move_epoch(user.id)
                work.tickets.void(user.id, now)
            changed = work.users.update(user.id, lambda one: replace(one, blocked=blocked))
            work.audit.write(Event(now, tenant.directory, by, action, user.id))
        return changed

    def delete(self, tenant: Tenant, user: User, by: Actor) -> None:
        now = self.means.clock.now()
        with self.means.database.writing() as work:
            work.users.delete(user.id)
            work.audit.write(Event(now, tenant.directory, by, Action.USER_DELETED, user.id))
        for session in self.means.sessions.of(user.id):
            self.means.sessions.close(session.id)

    def identities(self, user: User) -> list[ConnectionId]:
        with self.means.database.reading() as work:
            return [one.connection for one in work.users.identities(user.id)]
