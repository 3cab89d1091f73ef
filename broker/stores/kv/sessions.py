"""Browsers that somebody is signed in on."""

from __future__ import annotations

import hmac
import math
from collections.abc import Callable
from datetime import datetime

from broker.core.errors import Unavailable
from broker.core.ports import Clock, Vault
from broker.core.values import Session, SessionId, UserId
from broker.stores.kv.codec import Unreadable, decode, encode
from broker.stores.kv.line import Command, Part
from broker.stores.kv.redis import RedisKeyValue, digest, milliseconds, raw, script_call
from broker.stores.kv.scripts import SESSION_INDEX, SESSION_REPLACE
from broker.stores.kv.transactions import ROUNDS


class KvSessions:
    """Implements `broker.core.ports.Sessions`.

    The cookie's secret is `<session id>.<256 random bits>`: one key holds the session and the digest of its secret, so
    that a new secret replaces the old one in one step.
    """

    def __init__(self, kv: RedisKeyValue, vault: Vault, clock: Clock) -> None:
        self._kv = kv
        self._vault = vault
        self._clock = clock

    def secret_for(self, id: SessionId, random: str) -> str:
        return f"{id}.{random}"

    def open(self, session: Session, secret: str) -> None:
        """Raises `ValueError` for a secret that `secret_for` did not make for this session."""
        self._kv.batch(self.opening(session, self.digest(session.id, secret)))

    def opening(self, session: Session, digest: str) -> list[Command]:
        """Keep it, and list it: two keys, two slots."""
        now = self._clock.now()
        left = milliseconds(session.expires_at - now)
        listed: list[Part] = [session.id, *whole_seconds(session.expires_at, now), left]
        return [
            ("SET", raw(session_key(session.id)), written(session, digest), "PX", left),
            script_call(SESSION_INDEX, [index_key(session.user)], listed),
        ]

    def keep(self, session: Session, secret: str) -> bool:
        """New content for a session that is there under this very secret; False when it is not."""
        return self._replace(session, secret, secret)

    def get(self, secret: str) -> Session | None:
        id, _, random = secret.partition(".")
        if not random:
            return None
        value = self._kv.get(session_key(SessionId(id)))
        if value is None:
            return None
        kept = digest(self._vault, secret).encode()
        return self._read(id, value) if hmac.compare_digest(value.partition(b" ")[0], kept) else None

    def find(self, id: SessionId) -> Session | None:
        value = self._kv.get(session_key(id))
        return None if value is None else self._read(id, value)

    def replace(self, secret: str, session: Session, new_secret: str) -> None:
        """Raises `ValueError` for secrets of another session."""
        self._replace(session, secret, new_secret)

    def _replace(self, session: Session, secret: str, new_secret: str) -> bool:
        old, new = self.digest(session.id, secret), self.digest(session.id, new_secret)
        left = milliseconds(session.expires_at - self._clock.now())
        return bool(self._kv.run(SESSION_REPLACE, [session_key(session.id)], [old, written(session, new), left, new]))

    def close(self, id: SessionId) -> Session | None:
        """The user's list is tidied when it is read."""
        value = self._kv.take(session_key(id))
        return None if value is None else self._read(id, value)

    def of(self, user: UserId) -> list[Session]:
        ids = [SessionId(id.decode()) for id in self._kv.batch([("ZRANGE", index_key(user), 0, -1)])[0]]
        found, gone = [], []
        for id, value in zip(ids, self._kv.get_many([session_key(id) for id in ids]), strict=True):
            session = None if value is None else self._read(id, value)
            if session is None or session.user != user:
                gone.append(id)
            else:
                found.append(session)
        if gone:
            self._kv.batch([("ZREM", index_key(user), *gone)])
        return sorted(found, key=lambda session: (session.authenticated_at, session.created_at), reverse=True)

    def touch(self, id: SessionId, change: Callable[[Session], Session]) -> Session | None:
        """Compare-and-swap until `change` is applied to the newest value; None when it was signed out."""
        for _ in range(ROUNDS):
            value = self._kv.get(session_key(id))
            session = None if value is None else self._read(id, value)
            if value is None or session is None:
                return None
            changed = change(session)
            new = written(changed, value.partition(b" ")[0].decode())
            left = changed.expires_at - self._clock.now()
            if new == value or self._kv.swap(session_key(id), value, new, left):
                return changed
        raise Unavailable(f"a session was changed {ROUNDS} times by others meanwhile")

    def digest(self, id: SessionId, secret: str) -> str:
        """What is kept of a secret. Raises `ValueError` for the secret of another session."""
        if not secret.startswith(f"{id}."):
            raise ValueError("this secret does not name the session: make it with secret_for")
        return digest(self._vault, secret)

    def _read(self, id: str, value: bytes) -> Session | None:
        try:
            session = decode(Session, value.partition(b" ")[2], id=SessionId(id))
        except Unreadable:
            return None
        return session if self._clock.now() < session.expires_at else None


def session_key(id: SessionId) -> str:
    return f"s:{{{id}}}"


def index_key(user: UserId) -> str:
    return f"u:{{{user}}}"


def whole_seconds(ends: datetime, now: datetime) -> tuple[int, int]:
    """When a session ends, and when it is now, as the list of a user's sessions has it: smaller than milliseconds."""
    return math.ceil(ends.timestamp()), math.floor(now.timestamp())


def written(session: Session, digest: str) -> bytes:
    return f"{digest} ".encode() + encode(session, without="id")
