"""Logins in progress."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from broker.core.errors import PageExpired, Unavailable
from broker.core.ports import Clock, Rider
from broker.core.transaction import Transaction
from broker.core.values import ClientId, TenantId, TransactionId
from broker.stores.kv.codec import Unreadable, decode, encode, epoch_milliseconds
from broker.stores.kv.line import Part
from broker.stores.kv.redis import RedisKeyValue, milliseconds
from broker.stores.kv.scripts import LOGIN_CLOSE, TRANSACTION_SAVE

GRAVE = timedelta(minutes=10)
"""How long a finished login says so. After that it is gone, and gone cannot be finished either."""
BROWSER = 22
"""Characters of the browser's digest in a tombstone: 132 bits."""
ROUNDS = 1000
"""How often a compare-and-swap is tried. Each round that fails is one that somebody else won."""


class KvTransactions:
    """Implements `broker.core.ports.Transactions`: one read, one write or one script for each call."""

    def __init__(self, kv: RedisKeyValue, clock: Clock) -> None:
        self._kv = kv
        self._clock = clock

    def open(self, transaction: Transaction) -> None:
        value = written(transaction, self._kv.nonce())
        self._kv.put(transaction_key(transaction.id), value, transaction.expires_at - self._clock.now())

    def get(self, id: str, browser: str) -> Transaction | None:
        """A finished one comes back as its tombstone: tenant, client and browser, and nothing of the login."""
        transaction = _read(id, self._kv.get(transaction_key(id)))
        if transaction is None or self._clock.now() >= transaction.expires_at:
            return None
        shown = browser[: len(transaction.browser)] if transaction.finished else browser
        same = hmac.compare_digest(
            transaction.browser.encode("utf-8", "surrogatepass"), shown.encode("utf-8", "surrogatepass")
        )
        return transaction if same else None

    def advance(self, id: str, browser: str, move: Callable[[Transaction], Transaction]) -> Transaction:
        for _ in range(ROUNDS):
            before = self.get(id, browser)
            if before is None:
                raise PageExpired
            after = move(before)
            if after is before or self.save(before, after):
                return after
        raise Unavailable(f"a login was changed {ROUNDS} times by others meanwhile")

    def save(self, before: Transaction, after: Transaction, *, also: Sequence[Rider] = ()) -> bool:
        """Compared by version, which every transition counts up. A finished one is never written again."""
        left = after.expires_at - self._clock.now()
        nonce = self._kv.nonce()
        arguments: list[Part] = [str(before.version), nonce, written(after, nonce), milliseconds(left)]
        return left.total_seconds() > 0 and bool(
            self._kv.run(TRANSACTION_SAVE, [transaction_key(after.id)], arguments, also)
        )

    def close(self, transaction: Transaction) -> bool:
        left = transaction.expires_at - self._clock.now()
        nonce = self._kv.nonce()
        no_grant: list[Part] = ["", "0"]
        arguments: list[Part] = [nonce, tombstone(transaction, nonce), milliseconds(min(left, GRAVE)), *no_grant]
        key = transaction_key(transaction.id)
        return left.total_seconds() > 0 and bool(self._kv.run(LOGIN_CLOSE, [key, key], arguments))


def transaction_key(id: str) -> str:
    """The id is the hash tag, shared with the grant that comes of it."""
    return f"t:{{{id}}}"


def written(transaction: Transaction, nonce: str) -> bytes:
    """The value of a key: what the scripts look at, then the record."""
    state = "F" if transaction.finished else str(transaction.version)
    return f"{state} {nonce} ".encode() + encode(transaction, without="id", small=False)


def tombstone(transaction: Transaction, nonce: str) -> bytes:
    """What stays of a finished login: enough to say so to the right browser, in a fifth of the bytes of a record.

    A tenant has no space in its name. A release that does not know this yet takes the login for one that is gone.
    """
    ends = epoch_milliseconds(transaction.expires_at)
    browser = transaction.browser[:BROWSER]
    return f"F {nonce} {ends} {browser} {transaction.tenant} {transaction.client}".encode("utf-8", "surrogatepass")


def _read(id: str, value: bytes | None) -> Transaction | None:
    if value is None:
        return None
    try:
        state, _, content = value.split(b" ", 2)
        if state == b"F" and content[:1].isdigit():  # earlier releases wrote a whole record
            return _grave(id, *content.decode("utf-8", "surrogatepass").split(" ", 3))
        return decode(Transaction, content, id=id)
    except (Unreadable, ValueError, TypeError):
        return None


def _grave(id: str, ends: str, browser: str, tenant: str, client: str) -> Transaction:
    at = datetime.fromtimestamp(int(ends) / 1000, UTC)
    return Transaction(
        id=TransactionId(id), tenant=TenantId(tenant), client=ClientId(client), config_version="", request={},
        browser=browser, started_at=at, expires_at=at, finished=True,
    )  # fmt: skip
