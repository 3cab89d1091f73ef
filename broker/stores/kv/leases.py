"""Who does what only one may do: a key that its holder renews, and that ends by itself when the holder dies."""

from __future__ import annotations

from datetime import timedelta

from broker.stores.kv.redis import RedisKeyValue


class KvLeases:
    """Implements `broker.core.ports.Leases`. Time is the store's own: clocks of machines need not agree."""

    def __init__(self, kv: RedisKeyValue) -> None:
        self._kv = kv

    def hold(self, name: str, holder: str, ttl: timedelta) -> bool:
        key, mine = _key(name), holder.encode()
        return self._kv.swap(key, mine, mine, ttl) or self._kv.put(key, mine, ttl, only_if_absent=True)

    def release(self, name: str, holder: str) -> None:
        self._kv.swap(_key(name), holder.encode(), b"-", timedelta(milliseconds=1))


def _key(name: str) -> str:
    return f"l:{{{name}}}"
