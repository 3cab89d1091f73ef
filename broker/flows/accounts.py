"""From what a connection asserts to a record of ours: find, provision, register."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from broker.core.connection import LocalReset
from broker.core.errors import (
    ConfigurationError,
    ConnectionFailed,
    Denied,
    IdentifierTaken,
    InvalidIdentifier,
    NotFound,
)
from broker.core.events import Action, Event
from broker.core.identifiers import parse_email, parse_username
from broker.core.mail import Job, JobKind, MailKind
from broker.core.ports import UnitOfWork
from broker.core.tenant import ConnectionEntry, Tenant
from broker.core.ticket import Purpose, Ticket
from broker.core.values import Actor, Identity, User, UserId
from broker.flows.means import Means
from broker.flows.passwords import Circumstances, mail_job

_HOUR = timedelta(hours=1)
PROFILE_IS_OURS = frozenset({"email", "email_verified", "preferred_username", "updated_at"})
"""Claims that have a column of their own."""


@dataclass(frozen=True)
class Accounts:
    means: Means

    def resolve(self, tenant: Tenant, identity: Identity) -> User:
        """The user that an identity is. E-mail never links by itself (SECURITY 6).

        Raises `ConnectionFailed("connection.unknown_user")` where new people may not sign up by themselves.
        """
        entry = tenant.connection(identity.connection)
        if entry is None:
            raise NotFound(code="connection.unknown")
        if isinstance(self.means.connection(tenant, entry.id), LocalReset):
            with self.means.database.asking() as work:
                user = work.users.get(UserId(identity.subject))
            if user is None or user.directory != tenant.directory:
                raise ConnectionFailed(code="connection.unknown_user")
            return user
        with self.means.database.asking() as work:
            user = work.users.find_by_identity(tenant.directory, entry.id, identity.issuer, identity.subject)
        if user is None:
            return self._provision(tenant, entry, identity)
        updated = self._with_claims(user, identity)
        if updated == user:
            return user
        with self.means.database.writing() as work:
            return work.users.update(user.id, lambda current: self._with_claims(current, identity))

    def _provision(self, tenant: Tenant, entry: ConnectionEntry, identity: Identity) -> User:
        """Just in time: the first sign-in makes the record."""
        if not getattr(entry.settings, "sign_up", True):
            raise ConnectionFailed(code="connection.unknown_user")
        now = self.means.clock.now()
        user = self._with_claims(User(self.means.user_id(), tenant.directory, now, now), identity)
        with self.means.database.writing() as work:
            # Somebody's two first sign-ins at once: the second one finds what the first one made.
            if found := work.users.find_by_identity(tenant.directory, entry.id, identity.issuer, identity.subject):
                return found
            added = work.users.add(user)
            work.users.link(added.id, tenant.directory, identity, now)
            for action in (Action.USER_ADDED, Action.USER_LINKED):
                work.audit.write(Event(now, tenant.directory, Actor.user(added.id), action, added.id,
                                       {"connection": entry.id}))  # fmt: skip
            return added

    def _with_claims(self, user: User, identity: Identity) -> User:
        """The upstream's word on the profile; for a local record only what it does not say itself."""
        profile = {k: v for k, v in identity.claims.items() if k not in PROFILE_IS_OURS}
        if user.connection is not None:
            return replace(user, profile={**profile, **user.profile})
        changes = {**user.profile, **profile}
        email, verified = user.email, user.email_verified
        if identity.email:
            try:
                parse_email(identity.email)
            except InvalidIdentifier:
                pass
            else:
                email, verified = identity.email, identity.email_verified
        return replace(user, profile=changes, email=email, email_verified=verified)

    # --- Sign-up: an account begins with a proven address --------------------------------------------------------

    def ask_to_register(
        self, tenant: Tenant, entry: ConnectionEntry, email: str, username: str, name: str, how: Circumstances,
        *, client: str | None, transaction: str | None, browser: str | None,
    ) -> None:  # fmt: skip
        """Queue it: whether the address has an account is told to its mailbox alone.

        Raises `InvalidIdentifier`, `Denied` where sign-up is off.
        """
        if not getattr(entry.settings, "signup", False):
            raise Denied(code="signup.off")
        parse_email(email)
        if username:
            parse_username(username)
        now = self.means.clock.now()
        payload = {
            "connection": entry.id, "email": email.strip(), "username": username.strip(), "name": name.strip()[:200],
            "client": client or "", "transaction": transaction or "", "browser": browser or "",
            "language": how.language, "agent": how.agent, "reference": how.reference,
        }  # fmt: skip
        self.means.database.enqueue(Job(self.means.entropy.token(16), tenant.id, JobKind.REGISTER, payload, now, now))

    def username_is_free(self, tenant: Tenant, entry: ConnectionEntry, username: str) -> bool:
        with self.means.database.reading() as work:
            found = work.users.find(tenant.directory, entry.id, username, ("username",))
        return found is None or self._abandoned(tenant, found.user)

    def _abandoned(self, tenant: Tenant, user: User) -> bool:
        """A sign-up that nobody finished while its link worked: it keeps no name from anybody (squatting)."""
        late = self.means.clock.now() - user.created_at >= tenant.rules.reset.lifetime
        return late and _unfinished(user)

    def work(self, job: Job) -> None:
        """The worker's half of a sign-up. One transaction: the record, its ticket, the mail, and the end of the job.

        Raises `ConfigurationError` for a tenant or a connection that we do not know.
        """
        tenant = self.means.tenants(job.tenant)
        facts = job.payload
        now = self.means.clock.now()
        entry = tenant.connection(facts["connection"]) if tenant else None
        if tenant is None or entry is None:
            raise ConfigurationError([f"{job.tenant}: no connection {facts['connection']} in our configuration"])
        with self.means.database.writing() as work:
            self._register(work, tenant, entry, job)
            work.outbox.done(job, now)

    def _register(self, work: UnitOfWork, tenant: Tenant, entry: ConnectionEntry, job: Job) -> None:
        facts, now = job.payload, self.means.clock.now()
        how = Circumstances(facts["agent"], facts["reference"], facts["language"])
        kinds = tuple(getattr(entry.settings, "identifiers", ("email",)))
        key = self.means.vault.mac("mail", tenant.directory, parse_email(facts["email"]).key)
        hour = tenant.rules.reset.max_mails_per_hour
        if work.outbox.recent(tenant.id, "any", key, now - _HOUR) >= hour:
            return
        found = [
            user for user in work.users.find_by_email(tenant.directory, facts["email"]) if user.connection == entry.id
        ]
        work.outbox.note(tenant.id, "any", key, now)
        known = next((user for user in found if user.email_verified), None)
        if known is not None and known.email:
            links = {"forgot_url": f"{tenant.issuer}/forgot", "login_url": f"{tenant.issuer}/login"}
            work.outbox.put(
                mail_job(self.means, tenant, MailKind.ALREADY_REGISTERED, known.email, known.label, how, links)
            )
            return
        if occupied := next((user for user in found if not _unfinished(user)), None):
            # An account that somebody uses, at an address that nobody has proven: asking deletes nothing. Its proven
            # owner takes it over, and everything older in it dies (SECURITY 6).
            self._invite(work, tenant, occupied, facts["email"], job)
            return
        for unproven in found:
            # Nobody has proven this address yet: a new attempt starts over, so that nothing that an earlier one
            # chose survives (the classic pre-hijacking attacks, SECURITY 6).
            work.users.delete(unproven.id)
        if facts["username"]:
            held = work.users.find(tenant.directory, entry.id, facts["username"], ("username",))
            if held is not None and self._abandoned(tenant, held.user):
                work.users.delete(held.user.id)
        user = User(
            self.means.user_id(), tenant.directory, now, now, connection=entry.id,
            username=facts["username"] or None, email=facts["email"],
            profile={"name": facts["name"]} if facts["name"] else {},
        )  # fmt: skip
        try:
            user = work.users.add(user, kinds=kinds)
        except IdentifierTaken:
            user = work.users.add(replace(user, username=None), kinds=kinds)
        work.audit.write(Event(now, tenant.directory, Actor.user(user.id), Action.USER_ADDED, user.id,
                               {"connection": entry.id, "by": "sign-up"}, how.reference))  # fmt: skip
        self._invite(work, tenant, user, facts["email"], job)

    def _invite(self, work: UnitOfWork, tenant: Tenant, user: User, address: str, job: Job) -> None:
        """The link that proves the address, and leads to a password. To the stored address, byte for byte."""
        facts, now = job.payload, self.means.clock.now()
        how = Circumstances(facts["agent"], facts["reference"], facts["language"])
        address = user.email or address
        secret = work.tickets.issue(
            Ticket(
                id=self.means.entropy.token(12), purpose=Purpose.VERIFY_EMAIL, directory=tenant.directory, user=user.id,
                epoch=user.epoch, issued_by=Actor.worker(), issued_at=now, expires_at=now + tenant.rules.reset.lifetime,
                connection=user.connection, address=address, client=facts["client"] or None,  # type: ignore[arg-type]
                transaction=facts["transaction"] or None, browser=facts["browser"] or None,  # type: ignore[arg-type]
                language=how.language,
            )
        )  # fmt: skip
        expires = now + tenant.rules.reset.lifetime
        links = {"link": f"{tenant.issuer}/verify?ticket={secret}", "expires_at": expires.isoformat()}
        work.outbox.put(mail_job(self.means, tenant, MailKind.VERIFY_EMAIL, address, user.label, how, links))


def _unfinished(user: User) -> bool:
    """Signed up, and never came back by the mailed link: no proven address, no password, nothing to lose."""
    return user.email is not None and not user.email_verified and not user.has_password
