"""Somebody cannot sign in: the heart of the product.

Asking never looks anybody up (SECURITY 7): public facts lead to a provider's own reset page, everything else queues
a job. The worker's half is in flows/recovery_mail; the link's half in flows/redemption.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.core.connection import LocalReset, ResetHow, ResetPage, UpstreamReset
from broker.core.discovery import by_domain
from broker.core.errors import NotFound
from broker.core.identifiers import MAX_EMAIL, parse_identifier
from broker.core.mail import Job, JobKind
from broker.core.tenant import Client, ConnectionEntry, Tenant
from broker.core.transaction import Transaction
from broker.flows.guard import Guard, Origin
from broker.flows.means import Means
from broker.flows.passwords import Circumstances


@dataclass(frozen=True)
class Elsewhere:
    """The password is not ours: the reset-elsewhere page for this connection."""

    connection: ConnectionEntry
    identifier: str | None


@dataclass(frozen=True)
class Asked:
    """A job is queued. What it finds is nobody's business but the mailbox's."""

    identifier: str


@dataclass(frozen=True)
class Recovery:
    means: Means
    guard: Guard

    def route(
        self, tenant: Tenant, client: Client | None, *, chosen: str | None, identifier: str | None
    ) -> ConnectionEntry | None:
        """The connection whose reset is elsewhere, by public facts: the chosen one, or the owner of a domain."""
        offered = tenant.connections_of(client)
        entry = next((one for one in offered if one.id == chosen), None) if chosen else None
        if entry is None and identifier:
            entry = by_domain(offered, identifier) or by_domain(tenant.connections, identifier)
        if entry is None and identifier is None and chosen is None and not self._any_local(tenant, offered):
            # The app offers one way only, and it is elsewhere: there is nothing to ask.
            entry = offered[0] if len(offered) == 1 else None
        if entry is None or isinstance(self.means.connection(tenant, entry.id), LocalReset):
            return None
        return entry

    def _any_local(self, tenant: Tenant, offered: tuple[ConnectionEntry, ...]) -> bool:
        return any(isinstance(self.means.connection(tenant, one.id), LocalReset) for one in offered)

    def ask(
        self, tenant: Tenant, client: Client | None, identifier: str, how: Circumstances, origin: Origin, *,
        transaction: Transaction | None = None, chosen: str | None = None, browser: str | None = None,
    ) -> Elsewhere | Asked:  # fmt: skip
        """The answer to "Don't remember your password?". Known and unknown people take the same steps.

        Raises `InvalidIdentifier` (said before anything else), `Throttled` by where the request comes from,
        `ChallengeNeeded`.
        """
        parse_identifier(identifier)
        if entry := self.route(tenant, client, chosen=chosen, identifier=identifier):
            return Elsewhere(entry, identifier)
        self.guard.mail(tenant, origin)
        now = self.means.clock.now()
        internal = client is None or client.internal
        payload = {
            "identifier": identifier.strip()[: MAX_EMAIL + 2],
            "client": "" if internal or client is None else client.client_id,
            "transaction": transaction.id if transaction else "",
            "browser": browser or "",
            "language": how.language,
            "agent": how.agent,
            "reference": how.reference,
        }
        self.means.database.enqueue(Job(self.means.entropy.token(16), tenant.id, JobKind.RECOVER, payload, now, now))
        return Asked(identifier.strip())

    def elsewhere(
        self, tenant: Tenant, connection: str, identifier: str | None, *, state: str | None = None,
        return_url: str | None = None,
    ) -> ResetPage:  # fmt: skip
        """Where a connection's users reset their password.

        Raises `NotFound` for a connection that is not there, or resets here; `ConnectionFailed`.
        """
        entry = tenant.connection(connection)
        if entry is None:
            raise NotFound(code="connection.unknown")
        instance = self.means.connection(tenant, entry.id)
        if isinstance(instance, UpstreamReset):
            return instance.reset_page(identifier, state, return_url)
        if isinstance(instance, LocalReset):
            raise NotFound(code="reset.local")
        return ResetPage(ResetHow.AUTHORIZE_HINT, instance.title)
