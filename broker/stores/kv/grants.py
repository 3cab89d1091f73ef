"""Codes, and the families of tokens that come of them."""

from __future__ import annotations

import hmac
from collections import deque
from datetime import timedelta
from typing import Any

from broker.core.ports import Clock, Reused, Rider, Vault
from broker.core.values import Grant, GrantId
from broker.stores.kv.codec import Unreadable, decode, encode_grant, epoch_milliseconds
from broker.stores.kv.line import Part
from broker.stores.kv.redis import MEMORY, RedisKeyValue, digest, milliseconds
from broker.stores.kv.scripts import GRANT_REDEEM, GRANT_REFRESH, GRANT_REVOKE

MAC_LENGTH = 22
"""Characters of a refresh token's MAC: 132 bits."""

AT_ONCE = 2
"""Memories that are given up with one exchange: more than one comes with it."""

REMEMBER_DEAD = timedelta(days=1)
"""How long at most a dead family is remembered: as long as an access token of it may live."""


class KvGrants:
    """Implements `broker.core.ports.Grants`: a key for each grant, a step for each call.

    A code is `<grant id>.<256 random bits>`, a refresh token `<grant id>.<256 random bits>.<MAC>`. The key holds the
    grant, the digest of its code and the digest of the current refresh token. Whatever else carries the right MAC was
    current once: it was stolen, or its successor was.
    """

    def __init__(self, kv: RedisKeyValue, vault: Vault, clock: Clock) -> None:
        self._kv = kv
        self._vault = vault
        self._clock = clock
        self._answered: deque[str] = deque(maxlen=64)
        """What is remembered of redeemed codes whose answer has arrived. What falls out here ends by itself."""

    def code_for(self, id: GrantId, random: str) -> str:
        return f"{id}.{random}"

    def refresh_for(self, id: GrantId, random: str) -> str:
        return f"{id}.{random}.{self._mac(id, random)}"

    def save_code(self, code: str, grant: Grant, ttl: timedelta) -> None:
        """Raises `ValueError` for a code that `code_for` did not make for this grant."""
        self._kv.put(grant_key(grant.id), self.coded(code, grant, ttl), ttl)

    def coded(self, code: str, grant: Grant, ttl: timedelta) -> bytes:
        """The value of a grant whose code waits; see scripts/grant_redeem.lua."""
        if code.partition(".")[0] != grant.id:
            raise ValueError("this code does not name the grant: make it with code_for")
        until = epoch_milliseconds(self._clock.now() + ttl)
        ends = epoch_milliseconds(grant.expires_at)
        # The grant with what its code needs is gone in a minute; what is kept of it stays for weeks, and is small.
        whole, kept = encode_grant(grant)
        head = f"C {digest(self._vault, code)} {until}-{ends}-{len(kept)} ".encode()
        return head + kept + whole

    def redeem_code(self, code: str, first: str | None = None) -> Grant | Reused | None:
        """Raises `ValueError` for a `first` that `refresh_for` did not make for the same family."""
        id, _, random = code.partition(".")
        if not random:
            return None
        begins = "" if first is None else self._digest_of_new(GrantId(id), first)
        now = epoch_milliseconds(self._clock.now())
        arguments: list[Part] = [
            digest(self._vault, code), now, self._kv.nonce(), milliseconds(REMEMBER_DEAD), begins, milliseconds(MEMORY),
        ]  # fmt: skip
        keys = [grant_key(id), f"{grant_key(id)}:taken"]
        found = self._answer(id, self._kv.run(GRANT_REDEEM, keys, arguments, self._forgetting()))
        if isinstance(found, Grant):
            self._answered.append(keys[1])
        return found

    def _forgetting(self) -> tuple[Rider, ...]:
        """A memory is for a caller whose answer was lost: the next exchange takes along those that nobody needs.

        Not on a cluster, where they lie elsewhere.
        """
        due: list[tuple[bytes, bytes]] = []
        while len(due) < AT_ONCE and not self._kv.spread:
            try:
                due.append((b"DEL", self._answered.popleft().encode()))
            except IndexError:
                break
        return (Rider(due),) if due else ()

    def rotate_refresh(self, old: str, new: str) -> Grant | Reused | None:
        """Raises `ValueError` for a `new` that `refresh_for` did not make for the same family."""
        id = self._family(old)
        if id is None:
            return None
        arguments: list[Part] = [digest(self._vault, old), self._digest_of_new(id, new), milliseconds(REMEMBER_DEAD)]
        return self._answer(id, self._kv.run(GRANT_REFRESH, [grant_key(id)], arguments))

    def peek_refresh(self, token: str) -> Grant | None:
        id = self._family(token)
        if id is None:
            return None
        value = self._kv.get(grant_key(id))
        current = _current(value)
        if value is None or current is None or not hmac.compare_digest(current, digest(self._vault, token).encode()):
            return None
        return self._living(id, value)

    def family_of(self, token: str) -> GrantId | None:
        """Which family a refresh token was made for, current or not; None for an invented one. Reads nothing."""
        return self._family(token)

    def find(self, id: GrantId) -> Grant | None:
        value = self._kv.get(grant_key(id))
        return None if value is None else self._living(id, value)

    def revoke(self, id: GrantId) -> bool:
        return bool(self._kv.run(GRANT_REVOKE, [grant_key(id)], [milliseconds(REMEMBER_DEAD)]))

    def revoke_token(self, jti: str, ttl: timedelta) -> None:
        if ttl > timedelta():
            # A failover must not bring the token back.
            self._kv.batch([("SET", _revoked(jti), b"", "PX", milliseconds(ttl))], once=True)

    def is_revoked(self, jti: str) -> bool:
        return self._kv.get(_revoked(jti)) is not None

    def find_unless_revoked(self, id: GrantId, jti: str) -> Grant | None:
        revoked, value = self._kv.get_many([_revoked(jti), grant_key(id)])
        return None if revoked is not None or value is None else self._living(id, value)

    def _mac(self, id: str, random: str) -> str:
        return self._vault.mac("refresh token", id, random)[:MAC_LENGTH]

    def _family(self, token: str) -> GrantId | None:
        id, _, rest = token.partition(".")
        random, _, mac = rest.partition(".")
        genuine = self._vault.is_mac(mac, "refresh token", id, random, length=MAC_LENGTH)
        return GrantId(id) if genuine else None

    def _digest_of_new(self, id: GrantId, token: str) -> str:
        if self._family(token) != id:
            raise ValueError("this token was not made for this family: make it with refresh_for")
        return digest(self._vault, token)

    def _living(self, id: str, value: bytes) -> Grant | None:
        state, _, rest = value.partition(b" ")
        return self._read(id, rest.split(b" ", 2)[2]) if state == b"L" else None

    def _read(self, id: str, content: bytes) -> Grant | None:
        try:
            grant = decode(Grant, content, id=GrantId(id))
        except Unreadable:
            return None
        return grant if self._clock.now() < grant.expires_at else None

    def _answer(self, id: str, answer: Any) -> Grant | Reused | None:
        if answer is None:
            return None
        kind, content = answer
        return self._read(id, content) if kind == b"grant" else Reused(GrantId(id))


def grant_key(id: str) -> str:
    """The hash tag is shared with the transaction of the same id."""
    return f"g:{{{id}}}"


def _revoked(jti: str) -> str:
    return f"j:{{{jti}}}"


def _current(value: bytes | None) -> bytes | None:
    """The digest of the current refresh token of a living family."""
    if value is None or not value.startswith(b"L "):
        return None
    return value.split(b" ", 3)[2].partition(b":")[2] or None
