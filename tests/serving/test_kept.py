"""What the gateway keeps of those who have been there: nothing, and at once, without a search for garbage."""

from __future__ import annotations

import contextlib
import socket

import pytest

from tests.crash.processes import wait_until
from tests.serving.test_gateway import get, raw, serving


def kept(port: int) -> dict[str, int]:
    """How many connections, requests and answers there are in the server, and the bytes of its memory. The connection
    and the request that ask are among them."""
    return get(port, "/quick/kept")[1]


@pytest.mark.parametrize("stays", [False, True], ids=["that are closed", "that stay open"])
def test_two_hundred_bodies_leave_nothing_behind(stays: bool) -> None:
    whole = b"Content-Length: 1000000\r\n\r\n" + b"x" * 1_000_000
    pieces = b"Transfer-Encoding: chunked\r\n\r\n" + b"2\r\nab\r\n" * 20_000 + b"0\r\n\r\n"
    heads = [b"DELETE %s HTTP/1.1\r\nHost: a\r\n" % path for path in (b"/a", b"/quick/a")]  # nothing is there for those
    requests = [head + body for head in heads for body in (whole, pieces)]
    with serving() as served, contextlib.ExitStack() as stack:
        for request in requests:  # whatever has to be loaded is
            assert raw(served.port, request)[0] == 405
        before = kept(served.port)["memory"]
        for number in range(200):
            connection = socket.create_connection(("127.0.0.1", served.port), timeout=10)
            stack.callback(connection.close)
            connection.sendall(requests[number % 4])
            assert connection.recv(12) == b"HTTP/1.1 405"
            if not stays:
                connection.close()
        wait_until(lambda: kept(served.port)["memory"] - before < 30_000_000, "the memory is free again")


def test_a_connection_that_is_closed_is_gone_at_once() -> None:
    with serving() as served:
        kept(served.port)  # from now on nothing is collected
        for path in (b"/cookies", b"/quick/a") * 10:
            body = b"GET %s HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n" % path + b"x" * 70_000
            with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
                connection.sendall(body)
                assert connection.recv(12).startswith(b"HTTP/1.1 20")
        wait_until(lambda: kept(served.port)["Connection"] == 1, "only the connection that asks is there")


def test_who_has_answered_keeps_neither_the_request_nor_the_answer() -> None:
    with serving() as served:

        def nothing() -> bool:
            found = kept(served.port)
            return (found["Request"], found["Answer"]) == (1, 0)

        for path in ("/", "/quick/"):
            assert get(served.port, path)[0] == 200
            wait_until(nothing, "only the request that asks is there")


def test_who_takes_nothing_of_an_answer_is_closed_whatever_else_was_sent() -> None:
    asks = b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n"
    with serving("1000", "1.0") as served, contextlib.ExitStack() as stack:
        for more in (b"", b"NONSENSE\r\n\r\n", b"GET / HTTP/1.1\r\nHo", asks):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=10))
            connection.sendall(asks + more)
            assert connection.recv(12) == b"HTTP/1.1 200"
        wait_until(lambda: kept(served.port)["Connection"] == 1, "only the connection that asks is there")
