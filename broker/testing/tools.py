"""A Toolbox for tests of connections: real services on a World, a clock that is moved by hand."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NoReturn

from broker.core.mail import Job
from broker.core.ports import Clock, Database, Entropy, Fetcher, Hasher, TokenVerifier, UnitOfWork, UpstreamClients
from broker.core.tenant import MailRules, Tenant
from broker.core.values import DirectoryId, TenantId
from broker.services.hashing import Argon2Hasher
from broker.services.upstream import AuthlibClients
from broker.services.verifier import UpstreamVerifier
from broker.testing.clock import FixedClock
from broker.testing.entropy import SeededEntropy
from broker.testing.world import World, WorldFetcher

ACME = Tenant(
    id=TenantId("acme"),
    name="Acme",
    issuer="https://login.acme.test",
    directory=DirectoryId("acme/live"),
    environment="live",
    mail=MailRules("Acme <no-reply@acme.test>", "console:"),
)


class NoDatabase:
    """Implements `broker.core.ports.Database`: for connections that have no business with it."""

    def _refuse(self) -> NoReturn:
        raise LookupError("this connection may not touch the database")

    def writing(self) -> AbstractContextManager[UnitOfWork]:
        self._refuse()

    def reading(self) -> AbstractContextManager[UnitOfWork]:
        self._refuse()

    def asking(self) -> AbstractContextManager[UnitOfWork]:
        self._refuse()

    def enqueue(self, job: Job) -> None:
        self._refuse()

    def marker(self) -> str:
        self._refuse()

    def ping(self) -> str:
        self._refuse()

    def reseal(self) -> Mapping[str, int]:
        self._refuse()

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class Tools:
    """Implements `broker.core.ports.Toolbox`."""

    fetcher: Fetcher
    verifier: TokenVerifier
    upstream: UpstreamClients
    clock: Clock
    entropy: Entropy
    hasher: Hasher
    database: Database
    tenant: Tenant = ACME


@dataclass
class Workbench:
    """A world with a clock, and the tools that a connection gets in it."""

    world: World = field(default_factory=World)
    clock: FixedClock = field(default_factory=FixedClock)
    entropy: SeededEntropy = field(default_factory=SeededEntropy)
    database: Database = field(default_factory=NoDatabase)
    tenant: Tenant = ACME
    hasher: Hasher = field(default_factory=lambda: Argon2Hasher(memory_kib=8, time_cost=1))

    def __post_init__(self) -> None:
        self.fetcher = WorldFetcher(self.world)
        self.tools = Tools(
            fetcher=self.fetcher,
            verifier=UpstreamVerifier(self.fetcher, self.clock),
            upstream=AuthlibClients(self.fetcher),
            clock=self.clock,
            entropy=self.entropy,
            hasher=self.hasher,
            database=self.database,
            tenant=self.tenant,
        )
