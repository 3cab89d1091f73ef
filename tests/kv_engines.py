"""The engines that key-value tests run on: our own Valkey, and Debian's Redis."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from broker.stores.kv.embedded import EmbeddedValkey, find_server
from broker.stores.kv.redis import RedisKeyValue
from tests.servers import short_folder

ENGINES = ("valkey", "redis")


def binary(engine: str) -> Path:
    """The server program of an engine; skips the test where it is not installed."""
    if engine == "valkey":
        return find_server()
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("redis-server is not installed")
    return Path(found)


@contextlib.contextmanager
def server(engine: str) -> Iterator[str]:
    """A real server of an engine for the length of a block; its address."""
    with short_folder() as folder:
        store = EmbeddedValkey(folder, binary=binary(engine))
        try:
            yield store.start()
        finally:
            store.stop()


@contextlib.contextmanager
def emptied(url: str) -> Iterator[RedisKeyValue]:
    """A connection to a server that holds nothing."""
    kv = RedisKeyValue.connect(url)
    try:
        kv.everywhere("FLUSHALL")
        yield kv
    finally:
        kv.close()


class LossyProxy:
    """Stands before a server, and can lose the next answer: the server did it, nobody knows."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lose = threading.Event()
        self.lost = 0
        self.answers = 0
        """Packets that came from the server: one for each small answer, or for several that were asked for together."""
        self._held = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def lose_next_answer(self) -> None:
        self._lose.set()

    def lead_to(self, url: str) -> None:
        """From now on who comes is led there; who is here stays where they are."""
        self._target = urlsplit(url)

    def hold(self) -> None:
        """From now on nothing that the server says comes through, and nobody is told."""
        self._held.set()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    upstream = self._connect()
                except OSError:  # nobody there; the proxy stays
                    client.close()
                    continue
                for source, sink, answers in ((client, upstream, False), (upstream, client, True)):
                    threading.Thread(target=self._pump, args=(source, sink, answers), daemon=True).start()

    def _connect(self) -> socket.socket:
        if self._target.port:
            return socket.create_connection(("127.0.0.1", self._target.port))
        upstream = socket.socket(socket.AF_UNIX)
        try:
            upstream.connect(unquote(self._target.path))
        except OSError:
            upstream.close()
            raise
        return upstream

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if answers and self._held.is_set():
                    continue
                self.answers += answers
                if answers and self._lose.is_set():
                    self._lose.clear()
                    self.lost += 1
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
