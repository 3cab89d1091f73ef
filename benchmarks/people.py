"""Many users at once, for benchmarks: people.py CONFIG COUNT PASSWORD. All share one hash of one password."""

from __future__ import annotations

import sys

from homerealm import names
from sqlalchemy import Connection, text

from broker import wiring
from broker.core.values import ConnectionId, TenantId, User, UserId
from broker.stores.sql.tables import identifiers, users

ONE_BY_ONE = 1000
"""The others are copies of the first, made by SQLite itself: a million in half a minute."""
_COPY = """
WITH RECURSIVE others(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM others WHERE n < :last)
INSERT INTO users ({columns}) SELECT {values} FROM others JOIN users AS one ON one.id = :id
"""
_ENTER = """
INSERT INTO identifiers (directory, connection, kind, key, user_id)
SELECT directory, connection, :kind, {key}, id FROM users WHERE username_key > :name ORDER BY {key}
"""


def main(config: str, count: int, password: str) -> None:
    """Add them to the database connection `users` of the tenant `acme`."""
    with wiring.running(config) as runtime:
        tenant = runtime.tenant(TenantId("acme"))
        if tenant is None:
            sys.exit("no tenant acme")
        stored = runtime.engines.hasher.hash(password)
        now = runtime.clock.now()
        with runtime.database.writing() as work:
            for name in names(min(count, ONE_BY_ONE)):
                user = User(
                    id=UserId(runtime.entropy.token(16)), directory=tenant.directory, created_at=now, updated_at=now,
                    connection=ConnectionId("users"), username=name, email=f"{name}@example.org", email_verified=True,
                    profile={"name": name},
                )  # fmt: skip
                work.users.add(user, hash=stored, kinds=("username", "email"))
        if count > ONE_BY_ONE:
            with runtime.database._engines.writer.begin() as connection:
                multiply(connection, user, count)


def multiply(connection: Connection, one: User, count: int) -> None:
    """Copies of `one`, the last so far, until there are so many. Indices are made afterwards, which sorts once."""
    name, address = "'user' || printf('%07d', n)", "'user' || printf('%07d', n) || '@example.org'"
    values = {column.name: f'one."{column.name}"' for column in users.columns} | {
        "id": "lower(hex(randomblob(11)))", "username": name, "username_key": name, "name_key": name,
        "email": address, "email_key": address,
    }  # fmt: skip
    indices = [*users.indexes, *identifiers.indexes]
    for index in indices:
        index.drop(connection)
    quoted = ", ".join(f'"{column}"' for column in values)
    copy = text(_COPY.format(columns=quoted, values=", ".join(values.values())))
    connection.execute(copy, {"first": ONE_BY_ONE, "last": count - 1, "id": one.id})
    for kind, key in (("username", "username_key"), ("email", "email_key")):
        connection.execute(text(_ENTER.format(key=key)), {"kind": kind, "name": one.username})
    for index in indices:
        index.create(connection)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
