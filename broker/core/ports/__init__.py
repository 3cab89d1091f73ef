"""What the core needs of the world. Each port has a contract suite in broker.testing.contracts."""

from broker.core.ports.connection import TokenVerifier, Toolbox, UpstreamClients
from broker.core.ports.key_value import (
    Grants,
    KeyValue,
    Leases,
    Logins,
    Reused,
    Rider,
    Sessions,
    Throttle,
    Transactions,
)
from broker.core.ports.sql import Consents, Credentials, Database, Keys, Outbox, SigningKey, Tickets, UnitOfWork, Users
from broker.core.ports.world import Blocklist, Clock, Entropy, Fetcher, Hasher, Response, Vault

__all__ = [
    "Blocklist", "Clock", "Consents", "Credentials", "Database", "Entropy", "Fetcher", "Grants", "Hasher",
    "KeyValue", "Keys", "Leases", "Logins", "Outbox", "Response", "Reused", "Rider", "Sessions", "SigningKey",
    "Throttle", "Tickets", "TokenVerifier", "Toolbox", "Transactions", "UnitOfWork", "UpstreamClients", "Users",
    "Vault",
]  # fmt: skip
