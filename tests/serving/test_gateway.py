"""What the gateway lets through, seen from the network: a real server, a real Flask app, raw sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.crash.processes import wait_until
from tests.servers import ROOT, free_port, listens, running, short_folder

APP = """\
import gc, os, resource, sys, threading, time
from flask import Flask, request
import broker.wsgi
from broker.serving import gateway as limits, http1
from broker.serving.gateway import Gateway
from broker.serving.held import Answer, Held

http1.HEAD_SECONDS, limits.LATE_SECONDS = 3.0, 3.0  # a third, so that nobody waits for them

app = Flask("echo")
gate = threading.Event()

@app.route("/", defaults={"path": ""}, methods=["GET", "POST", "PUT"])
@app.route("/<path:path>", methods=["GET", "POST", "PUT"])
def echo(path):
    seen = {k: v for k, v in request.environ.items() if k.startswith(("HTTP_", "CONTENT_", "SERVER_", "REMOTE_"))}
    return {"path": request.path, "query": request.query_string.decode("latin-1"), "seen": seen,
            "body": request.get_data().decode("latin-1"), "secret": "SECRET_OF_THE_PROCESS" in request.environ}

@app.get("/held/<name>")
@app.get("/quick/held/<name>")
def held(name):
    with open(os.path.join(os.path.dirname(__file__), name)) as pipe:  # until somebody writes into it
        return pipe.read()

@app.get("/long")
def long():
    return "x" * 20_000_000

@app.get("/split")
def split():
    answer = app.make_response("")
    answer.headers._list.append(("X-Split", "a" + chr(13) + chr(10) + "Set-Cookie: b=c"))
    return answer

@app.get("/broken")
def broken():
    raise SystemError("outside")

@app.get("/exit")
@app.get("/quick/exit")
def exit():
    sys.exit(3)

@app.get("/quick/nap/<name>")
def nap(name):
    time.sleep(0.12)  # a store that hangs: another one takes the lead
    return {"path": request.path}

@app.get("/quick/kept")
def kept():
    gc.disable()  # what goes, goes at once and not when somebody collects garbage
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    kinds = http1.Connection, http1.Request, Answer
    names = [type(one).__name__ for one in gc.get_objects() if isinstance(one, kinds)]
    return {**{kind.__name__: names.count(kind.__name__) for kind in kinds}, "memory": pages * resource.getpagesize()}

@app.get("/cookies")
def cookies():
    answer = app.make_response(("", 204))
    answer.set_cookie("a", "1"); answer.set_cookie("b", "2")
    return answer

@app.get("/refused/<name>")
@app.get("/quick/refused/<name>")
def refused(name):
    request.environ["homerealm.refused"] = True
    return name, 429

app.config["PROPAGATE_EXCEPTIONS"] = True

def gateway():
    # What is held, is held until something else ends it: an hour is longer than these tests.
    return Gateway(app, quick=quick, threads=4, body_seconds=2.0, held=Held(seconds=3600, most=2),
                   late=lambda number: print("late", number, flush=True))

def quick(_, path):
    if path == "/mistake":
        raise RuntimeError("a mistake of ours")
    return path.startswith("/quick")

if __name__ == "__main__":
    if len(sys.argv) > 2:
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]),) * 2)
    if len(sys.argv) > 3:
        http1.SEND_SECONDS = float(sys.argv[3])
    broker.wsgi.run(broker.wsgi.listen("127.0.0.1", int(sys.argv[1])), gateway())
"""


@dataclass
class Served:
    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    @contextlib.contextmanager
    def pipe(self) -> Iterator[str]:
        """The name of a pipe that a request can be held by. Write into it with `release`."""
        name = f"pipe{len(list(self.folder.iterdir()))}"
        os.mkfifo(self.folder / name)
        yield name

    def release(self, name: str) -> None:
        """Blocks until a request is held."""
        (self.folder / name).write_text("released")


@contextlib.contextmanager
def serving(*arguments: str) -> Iterator[Served]:
    port = free_port()
    with short_folder() as folder:
        (folder / "served.py").write_text(APP)
        env = {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "SECRET_OF_THE_PROCESS": "1"}
        with running(
            [sys.executable, folder / "served.py", str(port), *arguments],
            lambda: listens(port),
            log=folder / "log",
            cwd=Path(folder),
            env=env,
        ) as process:
            yield Served(port, folder, process)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture(scope="module")
def port(served: Served) -> int:
    return served.port


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
        for connection in half:
            assert connection.recv(100).startswith(b"HTTP/1.1 408")


def test_how_many_requests_did_not_arrive_in_time_is_told_now_and_then() -> None:
    with serving() as served, contextlib.ExitStack() as stack:
        log, began = served.folder / "log", time.monotonic()
        bodies = [late_body(served.port, stack) for _ in range(30)]
        stack.enter_context(socket.create_connection(("127.0.0.1", served.port)))  # it asks nothing, and is not counted
        assert get(served.port)[0] == 200
        for connection in bodies:
            assert connection.recv(100).startswith(b"HTTP/1.1 408")
        more = late_body(served.port, stack)
        assert more.recv(100).startswith(b"HTTP/1.1 408")
        wait_until(lambda: sum(map(int, re.findall(r"late (\d+)", log.read_text()))) == 31, "all of them, at last")
        lines = len(re.findall("late", log.read_text()))
        assert lines <= 2 + (time.monotonic() - began) // 3.0, "a flood does not fill the log"


def late_body(port: int, held: contextlib.ExitStack) -> socket.socket:
    """A request of which only a part comes."""
    connection = held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=15))
    connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc")
    return connection


def test_an_error_of_the_app_is_a_500_without_a_word_about_it(port: int) -> None:
    status, answer = get(port, "/broken")
    assert status == 500
    assert answer == {"text": "Something went wrong.\n"}
    assert get(port)[0] == 200


def test_a_length_beside_a_transfer_encoding_is_refused(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\n"
    for lengths in (
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 5, 5\r\n",
    ):
        assert raw(port, head + lengths + b"\r\n0\r\n\r\n")[0] == 400, lengths
    assert raw(port, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")[0] == 400


@pytest.mark.parametrize(
    "head",
    [
        b"GET http://elsewhere/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\x00b\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
def test_what_no_honest_client_sends_is_refused(port: int, head: bytes) -> None:
    assert raw(port, head)[0] == 400


def test_trailers_are_no_headers(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    status, answer = raw(port, head + b"1\r\na\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
    assert (status, json.loads(answer)["body"]) == (200, "a")
    assert "HTTP_X_FORWARDED_FOR" not in json.loads(answer)["seen"]


def test_an_offer_of_another_protocol_is_ignored(port: int) -> None:
    assert get(port, "/", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")[0] == 200


def test_requests_sent_at_once_are_answered_in_their_order_and_a_bad_one_ends_it(port: int) -> None:
    one = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"".join(one % number for number in range(5)) + b"NONSENSE\r\n\r\n" + one % 9)
        answer = connection.makefile("rb").read()
    assert [answer.index(b'"path":"/%d"' % number) for number in range(5)] == sorted(
        answer.index(b'"path":"/%d"' % number) for number in range(5)
    )
    assert answer.count(b"HTTP/1.1 ") == 6
    assert b"HTTP/1.1 400" in answer
    assert b'"/9"' not in answer


def test_a_body_that_asks_first_is_asked_for(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n")
        connection.sendall(b"Connection: close\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        assert b'"body":"abc"' in connection.makefile("rb").read()


def test_an_answer_never_holds_a_header_that_the_app_did_not_mean(port: int) -> None:
    status, body = raw(port, b"GET /split HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert (status, body) == (500, b"Something went wrong.\n")


def test_a_client_that_reads_slowly_gets_everything_and_delays_nobody(port: int) -> None:
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)) for _ in range(8)]
        for connection in slow:  # more than there are threads
            connection.sendall(b"GET /long HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert [get(port)[0] for _ in range(20)] == [200] * 20
        answer = http.client.HTTPResponse(slow[0])
        answer.begin()
        assert len(answer.read()) == 20_000_000


def test_a_thousand_slow_clients_delay_nobody(port: int) -> None:
    with contextlib.ExitStack() as stack:
        slow = []
        for number in range(1000):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            connection.sendall(
                (b"GET / HTTP/1.1\r\nHo", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")[number % 2]
            )
            slow.append(connection)
        assert [get(port)[0] for _ in range(20)] == [200] * 20
        slow[-2].sendall(b"st: a\r\nConnection: close\r\n\r\n")
        assert slow[-2].recv(100).startswith(b"HTTP/1.1 200")


def test_a_quick_request_that_is_slow_stops_nobody(served: Served) -> None:
    """Two of them: the second one goes to a thread."""
    with served.pipe() as first, served.pipe() as second, contextlib.ExitStack() as stack:
        waiting = []
        for name in (first, second):
            connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
            stack.callback(connection.close)
            connection.request("GET", f"/quick/held/{name}")
            assert [get(served.port, path)[0] for path in ("/", "/quick") * 5] == [200] * 10
            waiting.append(connection)
        for name, connection in zip((first, second), waiting, strict=True):
            served.release(name)
            assert connection.getresponse().read() == b"released"
            connection.request("GET", "/quick")
            assert connection.getresponse().read()


@pytest.mark.parametrize("path", ["/exit", "/quick/exit", "/mistake"])
def test_a_mistake_of_ours_ends_a_connection_and_nothing_else(port: int, path: str) -> None:
    for _ in range(6):  # more than there are threads
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
            assert connection.recv(12) in (b"", b"HTTP/1.1 500")
    assert [get(port, path)[0] for path in ("/", "/quick") * 3] == [200] * 6


def test_under_leaders_that_stall_each_request_has_one_answer_and_in_order(served: Served) -> None:
    def ask(number: int) -> list[list[str]]:
        chance, wrong = random.Random(number), []
        with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
            stream = connection.makefile("rb")
            for turn in range(25):
                kinds = chance.choices(["/quick", "/thread", "/quick/nap"], [12, 4, 1], k=chance.randrange(1, 6))
                paths = [f"{kind}/{number}-{turn}-{at}" for at, kind in enumerate(kinds)]
                connection.sendall(b"".join(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode() for path in paths))
                answers = [answer_from(stream) for _ in paths]
                if answers != paths:
                    wrong.append([*paths, *answers])
                if chance.random() < 0.2:  # somebody who does not wait for the answer
                    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as rude:
                        rude.sendall(b"GET /quick/nap/x HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
                        rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return wrong

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, range(12))) == [[]] * 12


def answer_from(stream: BinaryIO) -> str:
    """The path that an answer tells."""
    head = b"".join(takewhile(lambda line: line not in (b"\r\n", b""), iter(stream.readline, None)))
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    return str(json.loads(stream.read(length))["path"])


def test_a_signal_to_end_answers_what_was_asked_and_ends_what_rests() -> None:
    with serving() as served, served.pipe() as name:
        resting, asking = (http.client.HTTPConnection("127.0.0.1", served.port, timeout=10) for _ in range(2))
        resting.request("GET", "/")
        resting.getresponse().read()
        half = socket.create_connection(("127.0.0.1", served.port), timeout=10)
        half.sendall(b"GET / HTTP/1.1\r\nHo")
        asking.request("GET", f"/held/{name}")
        assert get(served.port)[0] == 200
        served.process.send_signal(signal.SIGTERM)
        assert resting.sock.recv(1) == b""
        served.release(name)
        answer = asking.getresponse()
        assert answer.headers["Connection"] == "close"
        assert answer.read() == b"released"
        half.sendall(b"st: a\r\n\r\n")
        assert half.recv(100).startswith(b"HTTP/1.1 200")
        assert served.process.wait(10) == 0
        assert not listens(served.port)
        for connection in (resting, asking, half):
            connection.close()
