"""What a store of signing keys has to do (`broker.core.ports.Keys`)."""

from __future__ import annotations

from datetime import datetime, timedelta

from broker.core.ports import Database
from broker.testing.contracts.database import Stored
from broker.testing.records import a_signing_key

HOUR = timedelta(hours=1)


class KeysContract(Stored):
    """Keys of a tenant, from their making to their removal."""

    def test_a_key_comes_back_as_added(self, database: Database, now: datetime) -> None:
        with database.writing() as work:
            work.keys.add(a_signing_key(now))
        with database.reading() as work:
            assert work.keys.of("acme") == [a_signing_key(now)]
            assert work.keys.of("globex") == []

    def test_the_oldest_comes_first_retired_ones_included(self, database: Database, now: datetime) -> None:
        keys = [a_signing_key(now + HOUR * hours, f"k{9 - hours}") for hours in range(3)]
        with database.writing() as work:
            for key in reversed(keys):
                work.keys.add(key)
            work.keys.add(a_signing_key(now, "other", tenant="globex"))
            work.keys.retire("k9", now + HOUR)
        with database.reading() as work:
            assert [key.kid for key in work.keys.of("acme")] == ["k9", "k8", "k7"]
            assert work.keys.of("acme")[0] == a_signing_key(now, "k9", retired_at=now + HOUR)

    def test_a_key_is_retired_once(self, database: Database, now: datetime) -> None:
        with database.writing() as work:
            work.keys.add(a_signing_key(now))
            work.keys.retire("k1", now)
            work.keys.retire("k1", now + HOUR)
            assert work.keys.of("acme") == [a_signing_key(now, retired_at=now)]

    def test_a_removed_key_is_gone(self, database: Database, now: datetime) -> None:
        with database.writing() as work:
            work.keys.add(a_signing_key(now))
            work.keys.add(a_signing_key(now, "k2"))
            work.keys.remove("k1")
            work.keys.remove("k1")
            assert work.keys.of("acme") == [a_signing_key(now, "k2")]
