"""The client: lost answers, servers that go and come back, threads and forks."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.core.attempts import Delay
from broker.core.errors import ConfigurationError, Unavailable
from broker.core.ports import Reused
from broker.core.values import ClientId, Grant
from broker.services.secrets import SecretVault
from broker.stores.kv.embedded import EmbeddedValkey
from broker.stores.kv.grants import KvGrants
from broker.stores.kv.logins import KvLogins
from broker.stores.kv.redis import RedisKeyValue
from broker.stores.kv.sessions import KvSessions
from broker.stores.kv.throttle import KvThrottle
from broker.stores.kv.transactions import KvTransactions, written
from broker.testing.clock import FixedClock
from broker.testing.entropy import SeededEntropy
from broker.testing.race import race
from broker.testing.samples import a_grant, a_session, a_transaction, an_identified
from tests.kv_engines import LossyProxy, binary, emptied, server
from tests.servers import free_port, short_folder

MINUTE = timedelta(minutes=1)
VAULT = SecretVault(bytes(range(32)))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server("valkey") as url:
        yield url


@pytest.fixture
def proxy(url: str) -> Iterator[LossyProxy]:
    proxy = LossyProxy(url)
    yield proxy
    proxy.close()


@pytest.fixture
def kv(proxy: LossyProxy) -> Iterator[RedisKeyValue]:
    """A client whose answers can get lost. It is connected, and knows that its scripts are loaded."""
    with emptied(proxy.url) as kv:
        kv.put("warm", b"1", MINUTE)
        kv.take("warm")
        yield kv


def test_a_take_whose_answer_was_lost_still_gets_the_value(kv: RedisKeyValue, proxy: LossyProxy) -> None:
    kv.put("ticket", b"ada", MINUTE)
    proxy.lose_next_answer()
    assert kv.take("ticket") == b"ada"
    assert proxy.lost == 1
    assert kv.take("ticket") is None


def test_one_time_writes_whose_answer_was_lost_succeed_once(kv: RedisKeyValue, proxy: LossyProxy) -> None:
    assert kv.put("seen", b"", MINUTE, only_if_absent=True)
    proxy.lose_next_answer()
    assert kv.put("jti", b"", MINUTE, only_if_absent=True)
    assert not kv.put("jti", b"", MINUTE, only_if_absent=True)
    kv.put("state", b"1", MINUTE)
    proxy.lose_next_answer()
    assert kv.swap("state", b"1", b"2", MINUTE)
    assert not kv.swap("state", b"1", b"2", MINUTE)
    assert proxy.lost == 2


def test_every_step_of_a_login_survives_a_lost_answer(kv: RedisKeyValue, proxy: LossyProxy) -> None:
    clock = FixedClock()
    transactions, sessions, grants = KvTransactions(kv, clock), KvSessions(kv, VAULT, clock), KvGrants(kv, VAULT, clock)
    logins = KvLogins(kv, VAULT, clock, SeededEntropy())
    started = a_transaction(clock.now())
    lost = iter(range(1, 100))

    def losing() -> None:
        assert proxy.lost == next(lost) - 1
        proxy.lose_next_answer()

    losing()
    transactions.open(started)
    losing()
    assert transactions.get(started.id, started.browser) == started
    login = an_identified(started, clock.now())
    losing()
    assert transactions.save(started, login)
    session, grant, code = a_session(clock.now()), a_grant(clock.now()), logins.new_code(login)
    secret = sessions.secret_for(session.id, "random")
    losing()
    assert logins.finish(
        login.finish(), session=session, session_secret=secret, code=code, grant=grant, stored=True,
        code_lifetime=MINUTE,
    )  # fmt: skip
    losing()
    first, second = grants.refresh_for(grant.id, "1"), grants.refresh_for(grant.id, "2")
    assert grants.redeem_code(code, first) == grant
    losing()
    assert grants.rotate_refresh(first, second) == grant.redeemed()
    losing()
    assert sessions.close(session.id) == session
    other = a_transaction(clock.now(), "other")
    transactions.open(other)
    losing()
    assert transactions.close(other)
    assert not transactions.close(other)
    assert isinstance(grants.find(grant.id), Grant)


def test_what_rides_along_is_done_in_the_same_round_trip(kv: RedisKeyValue, proxy: LossyProxy) -> None:
    clock = FixedClock()
    transactions, throttle = KvTransactions(kv, clock), KvThrottle(kv, clock, f"{int(clock.now().timestamp())}.m")
    once = Delay("account:ada", 1, MINUTE, MINUTE, MINUTE)
    started = a_transaction(clock.now())
    transactions.open(started)
    receipt = throttle.charge(once).receipt
    assert throttle.charge(once).wait
    noted = started.note("noted")
    assert transactions.save(started, noted)  # from here on the server knows the script
    before = proxy.answers
    assert transactions.save(noted, noted.note("again"), also=[throttle.forgiving(receipt)])
    assert proxy.answers == before + 1
    assert not throttle.charge(once).wait


@pytest.mark.usefixtures("patient")
def test_a_killed_server_that_comes_back_is_not_noticed_and_has_lost_nothing() -> None:
    with short_folder() as folder:
        store = EmbeddedValkey(folder, binary=binary("valkey"))
        kv = RedisKeyValue.connect(store.start())
        try:
            for round in range(3):
                kv.put("kept", str(round).encode(), MINUTE)
                pid = store.pid
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
                assert kv.get("kept") == str(round).encode()
                assert kv.take("kept") == str(round).encode()
                assert store.pid not in (None, pid)
        finally:
            kv.close()
            store.stop()


def test_a_server_that_is_not_there_is_unavailable_for_every_call() -> None:
    kv = RedisKeyValue.connect(f"redis://127.0.0.1:{free_port()}/0")
    calls = (
        lambda: kv.get("a"),
        lambda: kv.put("a", b"", MINUTE),
        lambda: kv.put("a", b"", MINUTE, only_if_absent=True),
        lambda: kv.swap("a", b"", b"", MINUTE),
        lambda: kv.take("a"),
        lambda: kv.delete("a"),
        lambda: kv.count("a", MINUTE),
        kv.ping,
    )
    for call in calls:
        with pytest.raises(Unavailable):
            call()


def test_an_error_that_the_server_answers_is_unavailable_too(url: str) -> None:
    with emptied(url) as kv:
        kv.batch([("LPUSH", "a", "1")])
        for call in (lambda: kv.get("a"), lambda: kv.count("a", MINUTE)):
            with pytest.raises(Unavailable, match="WRONGTYPE"):
                call()


@pytest.mark.parametrize("address", ["", "valkey", "http://localhost", "redis://localhost:port", "redis+cluster:///"])
def test_an_address_that_cannot_be_used_says_which_can(address: str) -> None:
    with pytest.raises(ConfigurationError, match="key_value"):
        RedisKeyValue.connect(address)


def test_what_is_put_ends_with_its_time_on_the_server(url: str) -> None:
    with emptied(url) as kv:
        kv.put("put", b"1", MINUTE)
        kv.put("absent", b"1", MINUTE, only_if_absent=True)
        kv.swap("put", b"1", b"2", timedelta(minutes=2))
        kv.count("count", MINUTE)
        kv.count("count", timedelta(hours=1))
        left = kv.batch([("PTTL", key) for key in ("put", "absent", "count")])
        assert [
            0 < milliseconds <= minutes * 60_000 for milliseconds, minutes in zip(left, (2, 1, 1), strict=True)
        ] == [True] * 3


def test_everything_that_a_login_leaves_ends_by_itself(url: str) -> None:
    with emptied(url) as kv:
        clock = FixedClock()
        transactions, sessions, grants = (
            KvTransactions(kv, clock), KvSessions(kv, VAULT, clock), KvGrants(kv, VAULT, clock)
        )  # fmt: skip
        login = an_identified(a_transaction(clock.now()), clock.now())
        transactions.open(login)
        logins = KvLogins(kv, VAULT, clock, SeededEntropy())
        session, code = a_session(clock.now()), logins.new_code(login)
        logins.finish(
            login.finish(), session=session, session_secret=sessions.secret_for(session.id, "r"), code=code,
            grant=a_grant(clock.now()), stored=True, code_lifetime=MINUTE,
        )  # fmt: skip
        lifetimes = _lifetimes(kv)
        assert lifetimes.pop("g") <= 60
        grants.redeem_code(code)
        assert kv.batch([("PTTL", f"g:{{{login.id}}}:taken")])[0] <= 30_000
        grants.redeem_code(code)
        kv.delete(f"g:{{{login.id}}}:taken")
        assert 60 < _lifetimes(kv)["g"] <= 86_400
        assert lifetimes.keys() == {"t", "s", "u"}
        for key, seconds in {"t": 600, "s": 12 * 3600, "u": 12 * 3600}.items():
            assert seconds - 20 < lifetimes[key] <= seconds


def test_who_redeemed_a_code_is_forgotten_with_the_next_exchange(url: str) -> None:
    """It is remembered for a caller whose answer was lost. That of this one has arrived."""
    with emptied(url) as kv:
        clock = FixedClock()
        grants = KvGrants(kv, VAULT, clock)
        for number in range(5):
            grant = a_grant(clock.now(), f"grant-{number}")
            code = grants.code_for(grant.id, "random")
            grants.save_code(code, grant, MINUTE)
            assert grants.redeem_code(code) == grant
            (taken,) = kv.batch([("KEYS", "*:taken")])
            assert taken == [f"g:{{grant-{number}}}:taken".encode()]
        assert isinstance(grants.redeem_code(code), Reused), "and a second use still ends the family"


def test_a_tombstone_is_short_and_of_the_right_browser(url: str) -> None:
    with emptied(url) as kv:
        clock = FixedClock()
        transactions = KvTransactions(kv, clock)
        login = replace(an_identified(a_transaction(clock.now()), clock.now()), client=ClientId("an app"),
                        browser=VAULT.digest("cookie"))  # fmt: skip
        transactions.open(login)
        transactions.close(login)
        assert len(kv.get(f"t:{{{login.id}}}") or b"") < 100
        grave = transactions.get(login.id, login.browser)
        assert grave is not None
        assert (grave.finished, grave.tenant, grave.client) == (True, login.tenant, "an app")
        assert transactions.get(login.id, VAULT.digest("another")) is None
        assert transactions.get(login.id, "") is None


def test_a_tombstone_of_an_earlier_release_is_one(url: str) -> None:
    with emptied(url) as kv:
        clock = FixedClock()
        login = an_identified(a_transaction(clock.now()), clock.now()).finish()
        kv.put(f"t:{{{login.id}}}", written(login, "nonce"), MINUTE)
        grave = KvTransactions(kv, clock).get(login.id, login.browser)
        assert grave is not None
        assert grave.finished


def _lifetimes(kv: RedisKeyValue) -> dict[str, int]:
    """Seconds that are left, rounded up, by the first letter of the key."""
    keys = kv.batch([("KEYS", "*")])[0]
    left = kv.batch([("PTTL", key) for key in keys])
    return {key.decode()[0]: -(-milliseconds // 1000) for key, milliseconds in zip(keys, left, strict=True)}


def test_no_secret_lies_in_the_store(url: str) -> None:
    with emptied(url) as kv:
        clock = FixedClock()
        sessions, grants = KvSessions(kv, VAULT, clock), KvGrants(kv, VAULT, clock)
        session, grant = a_session(clock.now()), a_grant(clock.now())
        sessions.open(session, sessions.secret_for(session.id, "CANARY-of-the-cookie"))
        code = grants.code_for(grant.id, "CANARY-of-the-code")
        grants.save_code(code, grant, MINUTE)
        tokens = [grants.refresh_for(grant.id, f"CANARY-{n}") for n in range(2)]
        grants.redeem_code(code, tokens[0])
        grants.rotate_refresh(*tokens)
        keys = [key for key in kv.batch([("KEYS", "*")])[0] if not key.startswith(b"u:")]
        dump = b" ".join([*keys, *(value or b"" for value in kv.get_many([key.decode() for key in keys]))])
        assert len(keys) == 3
        assert b"CANARY" not in dump
        assert not any(token.rpartition(".")[2].encode() in dump for token in tokens)


def test_a_store_with_a_flushed_script_cache_goes_on(url: str) -> None:
    with emptied(url) as kv:
        kv.put("a", b"1", MINUTE)
        kv.batch([("SCRIPT", "FLUSH")])
        assert kv.take("a") == b"1"


def test_threads_share_one_client(url: str) -> None:
    with emptied(url) as kv:

        def use(number: int) -> bool:
            key = f"k{number}"
            kv.put(key, key.encode(), MINUTE)
            return all(kv.get(key) == key.encode() for _ in range(20)) and kv.take(key) == key.encode()

        assert all(race(use))


def test_a_forked_child_uses_connections_and_nonces_of_its_own(url: str) -> None:
    with emptied(url) as kv:
        kv.put("parent", b"1", MINUTE)
        before = kv.nonce()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                nonces = {kv.nonce() for _ in range(100)}
                fresh = not any(nonce.startswith(before[:12]) for nonce in nonces)
                ok = kv.get("parent") == b"1" and kv.put("child", b"2", MINUTE) and fresh and len(nonces) == 100
                os.write(writer, b"1" if ok else b"0")
            finally:
                os._exit(0)
        os.close(writer)
        assert kv.get("parent") == b"1"
        with os.fdopen(reader, "rb") as answer:
            assert answer.read() == b"1"
        os.waitpid(child, 0)
        assert kv.get("child") == b"2"
