"""What a store of consents has to do (`broker.core.ports.Consents`)."""

from __future__ import annotations

from datetime import datetime

import pytest

from broker.core.ports import Database
from broker.core.values import ClientId, UserId
from broker.testing.contracts.database import Stored
from broker.testing.race import race

SHOP, BLOG = ClientId("shop"), ClientId("blog")


class ConsentsContract(Stored):
    """Granted stays granted, until it is revoked."""

    def test_nothing_is_granted_at_first(self, database: Database, ada: UserId) -> None:
        with database.reading() as work:
            assert work.consents.granted(ada, SHOP) == frozenset()
            assert work.consents.granted(UserId("nobody"), SHOP) == frozenset()

    def test_a_grant_adds_to_what_was_granted_before(self, database: Database, now: datetime, ada: UserId) -> None:
        with database.writing() as work:
            work.consents.grant(ada, SHOP, frozenset({"openid", "email"}), now)
            work.consents.grant(ada, SHOP, frozenset({"email", "profile"}), now)
        with database.reading() as work:
            assert work.consents.granted(ada, SHOP) == {"openid", "email", "profile"}
            assert work.consents.granted(ada, BLOG) == frozenset()

    def test_what_is_revoked_is_gone_for_that_client_alone(
        self, database: Database, now: datetime, ada: UserId
    ) -> None:
        with database.writing() as work:
            work.consents.grant(ada, SHOP, frozenset({"openid"}), now)
            work.consents.grant(ada, BLOG, frozenset({"openid"}), now)
            work.consents.revoke(ada, SHOP)
            work.consents.revoke(ada, ClientId("never-granted"))
            assert work.consents.granted(ada, SHOP) == frozenset()
            assert work.consents.granted(ada, BLOG) == {"openid"}

    def test_nobody_cannot_grant(self, database: Database, now: datetime) -> None:
        with pytest.raises(LookupError), database.writing() as work:
            work.consents.grant(UserId("nobody"), SHOP, frozenset({"openid"}), now)

    def test_grants_at_once_add_up(self, database: Database, now: datetime, ada: UserId) -> None:
        def grant(number: int) -> None:
            with database.writing() as work:
                work.consents.grant(ada, SHOP, frozenset({f"scope{number}"}), now)

        race(grant, callers=8)
        with database.reading() as work:
            assert work.consents.granted(ada, SHOP) == {f"scope{number}" for number in range(8)}
