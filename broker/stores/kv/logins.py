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
from broker.stores.kv.scripts import LOGIN_CLOSE, LOGIN_FINISH
from broker.stores.kv.sessions import KvSessions, index_key, session_key, whole_seconds, written
from broker.stores.kv.transactions import GRAVE, tombstone, transaction_key


class KvLogins:
    """Implements `broker.core.ports.Logins`: on one server all of it in one step or nothing; on a cluster by slot."""

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
        grave = tombstone(transaction, nonce) if stored else b""
        coded = self._grants.coded(code, grant, code_lifetime) if code and grant else b""
        ended: tuple[Part, ...] = (nonce, grave, milliseconds(min(left, GRAVE)), coded, milliseconds(code_lifetime))
        if self._kv.spread:
            return self._finish_by_slot(transaction, session, session_secret, kept, ended, also)
        now = self._clock.now()
        digest = self._sessions.digest(session.id, session_secret)
        keys = [transaction_key(transaction.id), grant_key(transaction.id),
                session_key(session.id), index_key(session.user)]  # fmt: skip
        arguments: list[Part] = [
            *ended,
            written(session, digest),
            milliseconds(session.expires_at - now),
            digest if kept else "",
            session.id,
            *whole_seconds(session.expires_at, now),
        ]
        return bool(self._kv.run(LOGIN_FINISH, keys, arguments, also))

    def _finish_by_slot(
        self, transaction: Transaction, session: Session, secret: str, kept: bool, ended: Sequence[Part],
        also: Sequence[Rider],
    ) -> bool:  # fmt: skip
        """On a cluster: what happens once in one step, and a session only for the one who did it.

        A new session comes after: who loses leaves nothing behind that would have to be taken back. When it cannot be
        kept any more (`Unavailable`) the code is known to nobody, and the login is begun again. A session that this
        login rests on is looked at before: it gets the same content whoever wins.
        """
        if kept and not self._sessions.keep(session, secret):
            return False
        keys = [transaction_key(transaction.id), grant_key(transaction.id)]
        if not self._kv.run(LOGIN_CLOSE, keys, ended, also):
            return False
        if not kept:
            self._sessions.open(session, secret)
        return True
