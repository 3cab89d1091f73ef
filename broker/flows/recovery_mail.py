"""The worker's half of a forgotten password: look the account up, and write the mails that follow.

One SQL transaction holds the tickets, the mails and the end of the job, so a crash at any moment leaves all of it or
none. Limits by address are counted here, where they cannot tell a visitor anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlencode

from broker.core.connection import LocalReset
from broker.core.errors import ConfigurationError, InvalidIdentifier
from broker.core.events import Action, Event
from broker.core.identifiers import Email, parse_email, parse_identifier
from broker.core.mail import Job, MailKind
from broker.core.ports import UnitOfWork
from broker.core.tenant import Tenant
from broker.core.ticket import Purpose, Ticket
from broker.core.values import Actor, ClientId, TransactionId, User
from broker.flows.means import Means
from broker.flows.passwords import Circumstances, mail_job

HOUR = timedelta(hours=1)
WORKER = Actor.worker()
DAY = timedelta(days=1)
BETWEEN_MAILS = timedelta(seconds=60)
"""The newest link only, and never so often that the newest is always on its way (SECURITY, conflicts)."""


@dataclass(frozen=True)
class Occasion:
    """Where a request for a reset came from, as the job remembers it."""

    client: ClientId | None = None
    transaction: TransactionId | None = None
    browser: str | None = None
    by: Actor = WORKER


@dataclass(frozen=True)
class RecoveryMail:
    means: Means

    def work(self, job: Job) -> None:
        """Do a RECOVER job, and mark it as done. Raises `ConfigurationError` for a tenant that we do not know."""
        tenant, facts = self.means.tenants(job.tenant), job.payload
        how = Circumstances(facts.get("agent", ""), facts.get("reference", ""), facts.get("language", "en"))
        occasion = Occasion(
            ClientId(facts["client"]) if facts.get("client") else None,
            TransactionId(facts["transaction"]) if facts.get("transaction") else None,
            facts.get("browser") or None,
        )
        if tenant is None:
            raise ConfigurationError([f"tenant {job.tenant} is not in our configuration"])
        with self.means.database.writing() as work:
            self._answer(work, tenant, facts["identifier"], how, occasion)
            work.outbox.done(job, self.means.clock.now())

    def _answer(self, work: UnitOfWork, tenant: Tenant, typed: str, how: Circumstances, occasion: Occasion) -> None:
        try:
            identifier = parse_identifier(typed)
        except InvalidIdentifier:
            return
        found = self.find(work, tenant, typed)
        for user in found:
            self.send(work, tenant, user, how, occasion)
        if not found and isinstance(identifier, Email) and tenant.rules.reset.unknown_account_mail:
            self._no_account(work, tenant, identifier, how)

    def find(self, work: UnitOfWork, tenant: Tenant, typed: str) -> list[User]:
        """Every account that an address or username may mean: those it signs in to, and those it is the address of."""
        found: dict[str, User] = {}
        for entry in tenant.connections:
            connection = self.means.connections(tenant, entry.id)
            if connection is not None and isinstance(connection, LocalReset):
                kinds = tuple(getattr(entry.settings, "identifiers", ("email", "username")))
                if credentials := work.users.find(tenant.directory, entry.id, typed, kinds):
                    found[credentials.user.id] = credentials.user
        if "@" in typed:
            for user in work.users.find_by_email(tenant.directory, typed):
                found.setdefault(user.id, user)
        return list(found.values())

    def send(
        self, work: UnitOfWork, tenant: Tenant, user: User, how: Circumstances, occasion: Occasion
    ) -> MailKind | None:
        """The one mail that fits an account, or None where none may be sent (blocked, too often, no address)."""
        if user.blocked or not user.email:
            return None
        if user.connection is not None and tenant.connection(user.connection) is not None:
            return self._local(work, tenant, user, how, occasion)
        return self._elsewhere(work, tenant, user, how, occasion)

    def _local(
        self, work: UnitOfWork, tenant: Tenant, user: User, how: Circumstances, occasion: Occasion
    ) -> MailKind | None:
        now = self.means.clock.now()
        # An address that nobody has proven gets the mail that proves it; that one leads to a password as well.
        purpose, path = (Purpose.RESET, "reset") if user.email_verified else (Purpose.VERIFY_EMAIL, "verify")
        work.tickets.hold(user.id)  # of two workers that have a question of the same person, one sees the other's mail
        last = work.tickets.latest(user.id, purpose)
        # A clock that went back makes no mail wait.
        if last is not None and last.used_at is None and timedelta() <= now - last.issued_at < BETWEEN_MAILS:
            return None
        if user.email is None or not self._room(work, tenant, user.email):
            return None
        secret = self.ticket(work, tenant, user, purpose, how, occasion)
        kind = MailKind.RESET if user.email_verified else MailKind.VERIFY_EMAIL
        facts = {
            "link": f"{tenant.issuer}/{path}?{urlencode({'ticket': secret})}",
            "expires_at": (now + tenant.rules.reset.lifetime).isoformat(),
            "username": user.username or "",
            "connection": user.connection or "",
        }
        work.outbox.put(mail_job(self.means, tenant, kind, user.email, user.label, how, facts))
        work.audit.write(Event(now, tenant.directory, occasion.by, Action.RESET_SENT, user.id, {"mail": kind.value},
                               how.reference))  # fmt: skip
        return kind

    def ticket(
        self, work: UnitOfWork, tenant: Tenant, user: User, purpose: Purpose, how: Circumstances, occasion: Occasion
    ) -> str:
        """Issue a ticket; who delivers its secret (mail, command line) is another verb. Returns the secret."""
        now = self.means.clock.now()
        return work.tickets.issue(
            Ticket(
                id=self.means.entropy.token(12),
                purpose=purpose,
                directory=tenant.directory,
                user=user.id,
                epoch=user.epoch,
                issued_by=occasion.by,
                issued_at=now,
                expires_at=now + tenant.rules.reset.lifetime,
                connection=user.connection,
                address=user.email,
                client=occasion.client,
                transaction=occasion.transaction,
                browser=occasion.browser,
                language=how.language,
            )
        )

    def _elsewhere(
        self, work: UnitOfWork, tenant: Tenant, user: User, how: Circumstances, occasion: Occasion
    ) -> MailKind | None:
        """No secret inside, so a stored address that is not verified will do (SECURITY 4)."""
        identity = next((one for one in work.users.identities(user.id) if tenant.connection(one.connection)), None)
        if identity is None or user.email is None or not self._room(work, tenant, user.email):
            return None
        entry = tenant.connection(identity.connection)
        # In the browser that asked, the app's own request goes on; elsewhere `tx` says nothing, and the app's door is
        # taken. Neither is a secret.
        query = {"connection": identity.connection, "client_id": occasion.client, "tx": occasion.transaction}
        query = {name: value for name, value in query.items() if value}
        facts = {
            "provider": entry.title if entry else identity.connection,
            "connection": identity.connection,
            "link": f"{tenant.issuer}/forgot/elsewhere?{urlencode(query)}",
        }
        work.outbox.put(mail_job(self.means, tenant, MailKind.RESET_ELSEWHERE, user.email, user.label, how, facts))
        work.audit.write(Event(self.means.clock.now(), tenant.directory, occasion.by, Action.RESET_SENT, user.id,
                               {"mail": MailKind.RESET_ELSEWHERE.value}, how.reference))  # fmt: skip
        return MailKind.RESET_ELSEWHERE

    def _no_account(self, work: UnitOfWork, tenant: Tenant, address: Email, how: Circumstances) -> None:
        """At most one a day: otherwise the form would be a way to pester anybody."""
        now = self.means.clock.now()
        key = self._key(tenant, address.key)
        if work.outbox.recent(tenant.id, MailKind.NO_ACCOUNT, key, now - DAY) or not self._room(
            work, tenant, address.key
        ):
            return
        work.outbox.note(tenant.id, MailKind.NO_ACCOUNT, key, now)
        facts = {"login_url": f"{tenant.issuer}/login"}
        work.outbox.put(mail_job(self.means, tenant, MailKind.NO_ACCOUNT, address.display, "", how, facts))

    def _room(self, work: UnitOfWork, tenant: Tenant, address: str) -> bool:
        """Count a mail to an address; False when it had enough this hour."""
        try:
            key = self._key(tenant, parse_email(address).key)
        except InvalidIdentifier:
            return False
        now = self.means.clock.now()
        if work.outbox.recent(tenant.id, "any", key, now - HOUR) >= tenant.rules.reset.max_mails_per_hour:
            return False
        work.outbox.note(tenant.id, "any", key, now)
        return True

    def _key(self, tenant: Tenant, address: str) -> str:
        return self.means.vault.mac("mail", tenant.directory, address)
