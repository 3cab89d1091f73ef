"""What every journey works with: the ports, and nothing else of the world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from broker.core.connection import Connection
from broker.core.errors import NotFound
from broker.core.ports import (
    Blocklist,
    Clock,
    Database,
    Entropy,
    Grants,
    Hasher,
    Logins,
    Sessions,
    Throttle,
    Transactions,
    Vault,
)
from broker.core.tenant import Tenant
from broker.core.values import ConnectionId, TenantId, UserId

AnyConnection = Connection[Any]


@dataclass(frozen=True)
class Means:
    """Handed to every flow by the composition root."""

    clock: Clock
    entropy: Entropy
    vault: Vault
    hasher: Hasher
    blocklist: Blocklist
    database: Database
    transactions: Transactions
    sessions: Sessions
    grants: Grants
    logins: Logins
    throttle: Throttle
    tenants: Callable[[TenantId], Tenant | None]
    connections: Callable[[Tenant, ConnectionId], AnyConnection | None]

    def connection(self, tenant: Tenant, id: ConnectionId) -> AnyConnection:
        """Raises `NotFound` for a connection that the tenant does not have (any more)."""
        connection = self.connections(tenant, id)
        if connection is None:
            raise NotFound(code="connection.unknown")
        return connection

    def user_id(self) -> UserId:
        """A new one: 120 bits. None begins with a dash, which commands would take for an option."""
        while (id := self.entropy.token(15)).startswith("-"):
            pass
        return UserId(id)
