"""What the protocol stands on: the ports that it was given."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from broker.core.ports import Clock, Database, Entropy, Grants, Sessions, Vault
from broker.core.tenant import Client, Tenant
from broker.core.values import Grant, User
from broker.oidc.signing import Signing


@dataclass(frozen=True, slots=True)
class Backing:
    clock: Clock
    entropy: Entropy
    vault: Vault
    database: Database
    grants: Grants
    sessions: Sessions
    signing: Signing

    def person(self, tenant: Tenant, grant: Grant) -> User | None:
        """The user behind a grant as they are now; None when nothing may be done in their name any more.

        One SQL read. Epoch, block, directory and connection are looked at at every use (SECURITY 3): no clean-up job
        is needed for a password change or a block to take effect.
        """
        with self.database.asking() as work:
            user = work.users.get(grant.user)
        if user is None or user.blocked or user.epoch != grant.epoch or user.directory != grant.directory:
            return None
        gone = grant.connection is not None and tenant.connection(grant.connection) is None
        return None if gone or user.directory != tenant.directory else user

    def belongs(self, tenant: Tenant, client: Client, grant: Grant) -> bool:
        """Whether a grant was made for this client of this tenant."""
        return (grant.tenant, grant.directory, grant.client) == (tenant.id, tenant.directory, client.client_id)

    def live(self, grant: Grant, now: datetime) -> bool:
        """Whether a grant is within its time and, without `offline_access`, its browser session is still there."""
        if grant.expires_at <= now:
            return False
        if grant.offline or grant.session is None:
            return True
        session = self.sessions.find(grant.session)
        return session is not None and session.user == grant.user and session.expires_at > now
