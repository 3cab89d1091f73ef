"""More connections than the gateway may have: who is answered, who waits, and who has to go."""

from __future__ import annotations

import contextlib
import http.client
import socket

from tests.serving.test_gateway import get, serving


def test_with_few_files_left_whoever_comes_is_answered() -> None:
    with serving("100") as served, contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=10))
        assert [get(served.port, path)[0] for path in ("/", "/quick") * 5] == [200] * 10


def test_when_all_connections_wait_for_answers_the_next_ones_wait_for_those() -> None:
    with serving("60") as served, contextlib.ExitStack() as stack:
        names = [stack.enter_context(served.pipe()) for _ in range(40)]
        asking = []
        for name in names:
            connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
            stack.callback(connection.close)
            connection.request("GET", f"/held/{name}")
            asking.append(connection)
        for name, connection in zip(names, asking, strict=True):
            served.release(name)
            assert connection.getresponse().read() == b"released"
            connection.close()
        assert get(served.port)[0] == 200


def test_a_connection_that_is_used_outlives_those_that_rest() -> None:
    with serving("100") as served, contextlib.ExitStack() as stack:
        used = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
        stack.callback(used.close)
        seen = set()
        for _ in range(100):
            used.request("GET", "/quick")
            assert used.getresponse().read()
            seen.add(used.sock)
            stack.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=10))
        assert len(seen) == 1
