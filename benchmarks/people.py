"""Many users at once, for benchmarks: people.py CONFIG COUNT PASSWORD. All share one hash of one password."""

from __future__ import annotations

import sys

from homerealm import names

from broker import wiring
from broker.core.values import ConnectionId, TenantId, User, UserId


def main(config: str, count: int, password: str) -> None:
    """Add them to the database connection `users` of the tenant `acme`."""
    with wiring.running(config) as runtime:
        tenant = runtime.tenant(TenantId("acme"))
        if tenant is None:
            sys.exit("no tenant acme")
        stored = runtime.engines.hasher.hash(password)
        now = runtime.clock.now()
        with runtime.database.writing() as work:
            for name in names(count):
                user = User(
                    id=UserId(runtime.entropy.token(16)), directory=tenant.directory, created_at=now, updated_at=now,
                    connection=ConnectionId("users"), username=name, email=f"{name}@example.org", email_verified=True,
                    profile={"name": name},
                )  # fmt: skip
                work.users.add(user, hash=stored, kinds=("username", "email"))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
