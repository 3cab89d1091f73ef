"""Everything that the key-value stores do for a login, from its first page to signing out."""

from __future__ import annotations

from datetime import timedelta

from broker.core.attempts import Delay
from broker.services.secrets import SecretVault
from broker.stores.kv.grants import KvGrants
from broker.stores.kv.logins import KvLogins
from broker.stores.kv.redis import RedisKeyValue
from broker.stores.kv.sessions import KvSessions
from broker.stores.kv.throttle import KvThrottle
from broker.stores.kv.transactions import KvTransactions
from broker.testing.clock import FixedClock
from broker.testing.entropy import SeededEntropy
from broker.testing.samples import a_grant, a_session, a_transaction, an_identified

HOUR = timedelta(hours=1)
VAULT = SecretVault(bytes(range(32)))


def everything_that_is_done_with_a_login(kv: RedisKeyValue) -> None:
    clock = FixedClock()
    transactions, sessions, grants = KvTransactions(kv, clock), KvSessions(kv, VAULT, clock), KvGrants(kv, VAULT, clock)
    logins, throttle = KvLogins(kv, VAULT, clock, SeededEntropy()), KvThrottle(kv, clock, "marker")
    for number in range(20):
        started = a_transaction(clock.now(), f"login-{number}")
        transactions.open(started)
        counted = throttle.charge(*(Delay(f"{kind}:{number}", 9, HOUR, HOUR, HOUR) for kind in ("account", "address")))
        login = an_identified(started, clock.now())
        transactions.save(started, login)
        session, grant = a_session(clock.now(), f"browser-{number}"), a_grant(clock.now(), login.id)
        secret, code = sessions.secret_for(session.id, "1"), logins.new_code(login)
        assert logins.finish(
            login.finish(), session=session, session_secret=secret, code=code, grant=grant, stored=True,
            code_lifetime=HOUR, also=[throttle.forgiving(counted.receipt)],
        )  # fmt: skip
        sessions.replace(secret, session, sessions.secret_for(session.id, "2"))
        sessions.touch(session.id, lambda one: one)
        grants.redeem_code(code, grants.refresh_for(grant.id, "1"))
        grants.rotate_refresh(grants.refresh_for(grant.id, "1"), grants.refresh_for(grant.id, "2"))
        grants.revoke(grant.id)
        sessions.close(session.id)
        other = a_transaction(clock.now(), f"closed-{number}")
        transactions.open(other)
        transactions.close(other)
        kv.put(f"seen {number}", b"1", HOUR, only_if_absent=True)
        kv.swap(f"seen {number}", b"1", b"2", HOUR)
        kv.take(f"seen {number}")
        kv.count(f"sum {number}", HOUR)
