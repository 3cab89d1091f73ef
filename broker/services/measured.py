"""A hasher and a fetcher that count what they do. Only where metrics are on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TypeVar
from urllib.parse import urlsplit

from broker.core.errors import BrokerError, Busy
from broker.core.ports import Fetcher, Hasher, Response
from broker.core.watching import Meter

T = TypeVar("T")


class MeasuredHasher:
    """Implements `broker.core.ports.Hasher` by another one."""

    def __init__(self, inner: Hasher, meter: Meter) -> None:
        self._inner, self._meter = inner, meter
        self._lock = threading.Lock()
        self._callers = 0

    def hash(self, password: str) -> str:
        return self._measured("hash", lambda: self._inner.hash(password))

    def verify(self, password: str, stored: str | None) -> bool:
        return self._measured("verify", lambda: self._inner.verify(password, stored))

    def asked_by(self, asker: str, *, first: bool = False) -> AbstractContextManager[None]:
        return self._inner.asked_by(asker, first=first)

    @property
    def strained(self) -> bool:
        return self._inner.strained

    def outdated(self, stored: str) -> bool:
        return self._inner.outdated(stored)

    def _measured(self, what: str, work: Callable[[], T]) -> T:
        started = time.monotonic()
        self._enter(1)
        try:
            return work()
        except Busy:
            self._meter.count("hash_refused")
            raise
        finally:
            self._enter(-1)
            self._meter.observe("hash", time.monotonic() - started, what)

    def _enter(self, number: int) -> None:
        with self._lock:
            self._callers += number
            self._meter.level("hash_callers", self._callers)


class MeasuredFetcher:
    """Implements `broker.core.ports.Fetcher` by another one."""

    def __init__(self, inner: Fetcher, meter: Meter) -> None:
        self.inner, self._meter = inner, meter

    def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> Response:
        return self._measured(url, lambda: self.inner.get(url, headers=headers))

    def post(self, url: str, data: Mapping[str, str], *, headers: Mapping[str, str] | None = None) -> Response:
        return self._measured(url, lambda: self.inner.post(url, data, headers=headers))

    def _measured(self, url: str, work: Callable[[], Response]) -> Response:
        host, started = urlsplit(url).hostname or "", time.monotonic()
        try:
            response = work()
        except BrokerError:
            self._meter.count("upstream_failures", host)
            raise
        finally:
            self._meter.observe("upstream", time.monotonic() - started, host)
        if response.status >= 500:
            self._meter.count("upstream_failures", host)
        return response
