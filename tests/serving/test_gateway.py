"""What the gateway lets through, seen from the network: a real server, a real Flask app, raw sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import ROOT, free_port, listens, running, short_folder

APP = """\
import os, sys, threading
from flask import Flask, request
import broker.wsgi
from broker.gateway import Gateway

app = Flask("echo")
gate = threading.Event()

@app.route("/", defaults={"path": ""}, methods=["GET", "POST", "PUT"])
@app.route("/<path:path>", methods=["GET", "POST", "PUT"])
def echo(path):
    seen = {k: v for k, v in request.environ.items() if k.startswith(("HTTP_", "CONTENT_", "SERVER_", "REMOTE_"))}
    return {"path": request.path, "query": request.query_string.decode("latin-1"), "seen": seen,
            "body": request.get_data().decode("latin-1"), "secret": "SECRET_OF_THE_PROCESS" in request.environ}

@app.get("/broken")
def broken():
    raise SystemError("outside")

@app.get("/cookies")
def cookies():
    answer = app.make_response(("", 204))
    answer.set_cookie("a", "1"); answer.set_cookie("b", "2")
    return answer

app.config["PROPAGATE_EXCEPTIONS"] = True

def gateway():
    return Gateway(app, threads=4, body_seconds=2.0)

if __name__ == "__main__":
    broker.wsgi.run(broker.wsgi.listen("127.0.0.1", int(sys.argv[1])), gateway())
"""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    port = free_port()
    with short_folder() as folder:
        (folder / "served.py").write_text(APP)
        env = {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "SECRET_OF_THE_PROCESS": "1"}
        with running(
            [sys.executable, folder / "served.py", str(port)],
            lambda: listens(port),
            log=folder / "log",
            cwd=Path(folder),
            env=env,
        ):
            yield port


def raw(port: int, request: bytes) -> tuple[int, bytes]:
    """The status and the body of one exchange."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.read()


def get(port: int, path: str = "/", *headers: bytes) -> tuple[int, dict]:
    head = b"".join(header + b"\r\n" for header in (b"Host: here", *headers))
    status, body = raw(port, b"GET " + path.encode() + b" HTTP/1.1\r\n" + head + b"Connection: close\r\n\r\n")
    return status, json.loads(body) if body.startswith(b"{") else {"text": body.decode()}


def test_a_request_arrives_as_wsgi_says(port: int) -> None:
    status, answer = get(port, "/a%20b/%C3%A9?x=%ff&y=1", b"Cookie: a=1", b"X-Thing: one", b"X-Thing: two")
    assert status == 200
    assert answer["path"] == "/a b/é"
    assert answer["query"] == "x=%ff&y=1"
    assert answer["seen"]["HTTP_X_THING"] == "one,two"
    assert answer["seen"]["REMOTE_ADDR"] == "127.0.0.1"
    assert (answer["seen"]["SERVER_NAME"], answer["seen"]["SERVER_PORT"]) == ("127.0.0.1", str(port))


def test_the_environment_of_the_process_stays_out_of_requests(port: int) -> None:
    assert get(port)[1]["secret"] is False


def test_a_path_that_is_not_utf_8_is_no_crash(port: int) -> None:
    status, _ = get(port, "/%ff%00")
    assert status == 200
    assert raw(port, b"GET /\xff HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")[0] == 400


def test_bodies_arrive_whole_sent_at_once_or_in_chunks(port: int) -> None:
    for body in (b"", b"x", bytes(range(256)) * 2000):
        plain = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        status, answer = raw(port, plain + body)
        assert (status, json.loads(answer)["body"].encode("latin-1")) == (200, body)
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    status, answer = raw(port, chunked + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert (status, json.loads(answer)["body"]) == (200, "abcde")
    assert json.loads(answer)["seen"]["CONTENT_LENGTH"] == "5"


def test_a_head_request_gets_the_length_and_no_body(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = connection.makefile("rb").read()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]) > 0
    assert body == b""


def test_several_cookies_are_several_headers(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/cookies")
    answer = connection.getresponse()
    assert answer.status == 204
    assert [value.partition(";")[0] for value in answer.headers.get_all("Set-Cookie") or []] == ["a=1", "b=2"]
    connection.close()


@pytest.mark.parametrize("name", [b"Host", b"Authorization", b"Content-Type", b"Content-Length", b"Origin", b"DPoP"])
def test_a_header_that_means_nothing_twice_is_refused(port: int, name: bytes) -> None:
    first = b"" if name == b"Host" else name + b": 3\r\n"
    head = b"POST / HTTP/1.1\r\nHost: a\r\n" + first + name + b": 4\r\nConnection: close\r\n\r\nabcd"
    assert raw(port, head)[0] == 400


def test_a_request_without_host_is_refused(port: int) -> None:
    assert raw(port, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")[0] == 400
    assert raw(port, b"GET / HTTP/1.0\r\n\r\n")[0] == 200


@pytest.mark.parametrize("twin_first", [True, False])
def test_a_twin_with_an_underscore_never_replaces_what_a_proxy_set(port: int, twin_first: bool) -> None:
    headers = [b"X-Forwarded-For: 198.51.100.7", b"X_Forwarded_For: 6.6.6.6", b"X_Forwarded-For: 6.6.6.6"]
    _, answer = get(port, "/", *(reversed(headers) if twin_first else headers))
    assert answer["seen"]["HTTP_X_FORWARDED_FOR"] == "198.51.100.7"


def test_a_head_that_is_too_large_is_refused(port: int) -> None:
    assert get(port, "/", b"X-Long: " + b"a" * 8_000)[0] == 200
    assert get(port, "/", b"X-Long: " + b"a" * 200_000)[0] == 431


def test_a_body_that_is_too_large_is_refused_before_it_is_read(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    assert raw(port, head + b"Content-Length: 2000000\r\n\r\nabc")[0] == 413
    chunks = b"".join(b"10000\r\n" + b"a" * 0x10000 + b"\r\n" for _ in range(17)) + b"0\r\n\r\n"
    assert raw(port, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)[0] == 413


def test_half_sent_requests_delay_nobody_and_end_in_time(port: int) -> None:
    """More of them than there are threads, four, and all stay open."""
    with contextlib.ExitStack() as stack:
        half = []
        for head in (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc", b"GET / HT"):
            for _ in range(40):
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
                connection.sendall(head)
                half.append(connection)
        assert [get(port)[0] for _ in range(20)] == [200] * 20
        assert half[0].recv(100).startswith(b"HTTP/1.1 408")


def test_an_error_of_the_app_is_a_500_without_a_word_about_it(port: int) -> None:
    status, answer = get(port, "/broken")
    assert status == 500
    assert answer == {"text": "Something went wrong.\n"}
    assert get(port)[0] == 200
