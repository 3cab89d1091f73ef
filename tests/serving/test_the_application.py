"""The web server with the real application behind it: what hostile and slow clients do to `homerealm serve`."""

from __future__ import annotations

import contextlib
import http.client
import socket

import pytest

from tests.servers import Homerealm, answers

DISCOVERY = "/t/acme/.well-known/openid-configuration"


def status(server: Homerealm, request: str) -> int:
    """Of the answer to these bytes; HOST stands for the server's own."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request.replace("HOST", f"localhost:{server.port}").encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status


@pytest.mark.parametrize(
    ("head", "refused"),
    [
        ("Host: HOST\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("Host: HOST\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
        ("Host: HOST\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", 400),
        ("Host: HOST\r\nHost: elsewhere.example\r\n\r\n", 400),
        (f"Host: HOST\r\nX-Padding: {'a' * 200_000}\r\n\r\n", 431),
        ("Host: HOST\r\nContent-Length: 100000000\r\n\r\n", 413),
        ("Host: elsewhere.example\r\nContent-Length: 0\r\n\r\n", 421),
    ],
    ids=[
        "length and encoding",
        "encoding and length",
        "two lengths",
        "two hosts",
        "long head",
        "long body",
        "other host",
    ],
)
@pytest.mark.parametrize("path", ["/t/acme/login", "/t/acme/token"])
def test_what_could_be_read_in_two_ways_or_is_too_long_is_refused(
    homerealm_server: Homerealm, path: str, head: str, refused: int
) -> None:
    assert status(homerealm_server, f"POST {path} HTTP/1.1\r\n{head}") == refused
    assert answers(homerealm_server.port, DISCOVERY, seconds=20)


def test_half_of_a_form_from_a_hundred_clients_delays_nobody(homerealm_server: Homerealm) -> None:
    server = homerealm_server
    with contextlib.ExitStack() as held:
        for number in range(100):
            client = held.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            path = ("/t/acme/login", "/t/acme/forgot", "/t/acme/token", "/t/acme/reset")[number % 4]
            head = f"POST {path} HTTP/1.1\r\nHost: localhost:{server.port}\r\nContent-Length: 900\r\n\r\n"
            client.sendall(head.encode() + b"usern")
        for path in (DISCOVERY, "/t/acme/login", "/healthz", "/readyz"):
            assert answers(server.port, path, seconds=20), path
