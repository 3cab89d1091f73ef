"""The one way out over HTTP (SECURITY 11)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from broker.core.ports import Response
from broker.core.tenant import Egress

if TYPE_CHECKING:
    import httpx2

    from broker.services.pinned import PinnedFetcher

TIMEOUT = 5.0
"""Seconds for everything: resolving, connecting, TLS, headers and body."""
LIMIT = 1_000_000
"""Bytes of a body."""


class HttpFetcher:
    """Implements `broker.core.ports.Fetcher`. One for the process; all its threads share the connections.

    `timeout` is in seconds and covers the whole exchange, `limit` is in bytes. Tests hand in a `resolver` (from a host
    name and a port to addresses), or a whole `transport` that answers from applications in the same process, where
    there is no network to have rules for.
    """

    def __init__(
        self,
        egress: Egress,
        *,
        timeout: float = TIMEOUT,
        limit: int = LIMIT,
        resolver: Callable[[str, int], Sequence[str]] | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._make: Callable[[], PinnedFetcher] = lambda: _pinned(egress, timeout, limit, resolver, transport)
        self._making = threading.Lock()
        self._pinned: PinnedFetcher | None = None

    def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> Response:
        """The answer, whatever its status; a redirect is an answer. Raises `ConnectionFailed`.

        The first request raises `ConfigurationError` when `egress.ca_bundle` cannot be read.
        """
        return self._opened().get(url, headers=headers)

    def post(self, url: str, data: Mapping[str, str], *, headers: Mapping[str, str] | None = None) -> Response:
        """A form post, sent once. Raises as `get`."""
        return self._opened().post(url, data, headers=headers)

    def close(self) -> None:
        """Close the connections. A later request opens new ones."""
        with self._making:
            pinned, self._pinned = self._pinned, None
        if pinned is not None:
            pinned.close()

    def _opened(self) -> PinnedFetcher:
        """The libraries cost a tenth of a second to load: a process whose pages stay at home does not pay for them."""
        pinned = self._pinned
        if pinned is None:
            with self._making:
                pinned = self._pinned
                if pinned is None:
                    pinned = self._pinned = self._make()
        return pinned


def _pinned(
    egress: Egress,
    timeout: float,
    limit: int,
    resolver: Callable[[str, int], Sequence[str]] | None,
    transport: httpx2.BaseTransport | None,
) -> PinnedFetcher:
    from broker.services.pinned import PinnedFetcher

    return PinnedFetcher(egress, timeout=timeout, limit=limit, resolver=resolver, transport=transport)
