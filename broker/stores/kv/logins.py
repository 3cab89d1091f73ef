"""The end of a login: transaction, session and code in one step."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from broker.core.ports import Clock, Entropy, Rider, Vault
from broker.core.transaction import Transaction
from broker.core.values import Grant, GrantId, Session
from broker.stores.kv.grants import KvGrants, grant_key
from broker.stores.kv.line import Part
from broker.stores.kv.redis import RedisKeyValue, milliseconds
from broker.stores.kv.scripts import LOGIN_FINISH
from broker.stores.kv.sessions import KvSessions
from broker.stores.kv.transactions import tombstone, transaction_key


class KvLogins:
    """Implements `broker.core.ports.Logins` with one script: all of it happens, or nothing."""

    def __init__(self, kv: RedisKeyValue, vault: Vault, clock: Clock, entropy: Entropy) -> None:
        self._kv = kv
        self._clock = clock
        self._entropy = entropy
        self._sessions = KvSessions(kv, vault, clock)
        self._grants = KvGrants(kv, vault, clock)

    def new_code(self, transaction: Transaction) -> str:
        return self._grants.code_for(GrantId(transaction.id), self._entropy.token(32))

    def finish(
        self,
        transaction: Transaction,
        *,
        session: Session,
        session_secret: str | None,
        code: str | None,
        grant: Grant | None,
        stored: bool,
        code_lifetime: timedelta,
        also: Sequence[Rider] = (),
    ) -> bool:
        """Also False when the session that this login rests on was signed out meanwhile: it stays so.

        Raises `ValueError` for a session without a secret, and for a grant that has another id than the transaction.
        """
        if session_secret is None:
            raise ValueError("a session is kept under its secret")
        if (code is None) is not (grant is None) or (grant is not None and str(grant.id) != transaction.id):
            raise ValueError("a code and its grant belong together, and to the transaction that they came of")
        left = transaction.expires_at - self._clock.now()
        if left <= timedelta():
            return False
        nonce = self._kv.nonce()
        kept = not transaction.interactive and transaction.session == session.id
        arguments: list[Part] = [
            nonce,
            tombstone(transaction, nonce) if stored else "",
            milliseconds(left),
            *self._sessions.part(session, session_secret, kept=kept),
            self._grants.coded(code, grant, code_lifetime) if code and grant else "",
            milliseconds(code_lifetime),
        ]
        keys = [transaction_key(transaction.id), *self._sessions.keys(session), grant_key(transaction.id)]
        return bool(self._kv.run(LOGIN_FINISH, keys, arguments, also))
