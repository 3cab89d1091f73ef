"""One connection, byte by byte: whatever a client sends, and however it is cut, there is one way to read it."""

from __future__ import annotations

import socket
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.serving.http1 import HEAD_BYTES, HEAD_SECONDS, Connection, answer

PLACE = ("here", 80, "198.51.100.7")
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


class Heard(NamedTuple):
    requests: list[tuple[str, str, bytes]]
    refused: bytes
    told: bytes
    """What was sent before any answer."""


class Line:
    """A connection, and its client."""

    def __init__(self) -> None:
        self.client, server = socket.socketpair()
        for one in (self.client, server):
            one.setblocking(False)
        self.connection = Connection(server, PLACE)

    def send(self, data: bytes) -> None:
        """As the gateway reads: until a request is the last one, or something is refused."""
        while data:
            if self.connection.refusal or not all(one.keep for one in self.connection.requests):
                return
            data = data[self.client.send(data) :]
            while self._waits():
                assert self.connection.receive()

    def _waits(self) -> bool:
        try:
            return bool(self.connection.sock.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False

    def told(self) -> bytes:
        try:
            return self.client.recv(65_536)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        self.client.close()
        self.connection.sock.close()


def heard(*parts: bytes) -> Heard:
    line = Line()
    for part in parts:
        line.send(part)
    requests = [
        (one.environ["REQUEST_METHOD"], one.environ["PATH_INFO"], one.environ["wsgi.input"].read())
        for one in line.connection.requests
    ]
    found = Heard(requests, (line.connection.refusal or b"")[9:12], line.told())
    line.close()
    return found


SENT = [
    b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /b?c=d HTTP/1.1\r\nHost: a\r\nCookie: " + b"c" * 9000 + b"\r\n\r\n",
    b"POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde",
    b"POST /d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX-Last: 1\r\n\r\n",
    b"\r\nPUT /e HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\n" + b"e" * 40_000,
    b"GET /f HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"POST /g HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /h HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET /i HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    b"CONNECT /j HTTP/1.1\r\nHost: a\r\n\r\n",
]


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.sampled_from(SENT), min_size=1, max_size=5),
    st.lists(st.integers(0, 60_000), max_size=12),
    st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=3)), max_size=3),
)
def test_where_what_was_sent_is_cut_makes_no_difference(
    sent: list[bytes], cuts: list[int], noise: list[tuple[int, bytes]]
) -> None:
    data = b"".join(sent)
    for place, bytes_ in noise:
        data = data[:place] + bytes_ + data[place + len(bytes_) :]
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    assert heard(*(data[start:end] for start, end in pairwise(places))) == heard(data)


def test_a_head_that_comes_in_packets_may_be_as_large_as_one_that_comes_at_once() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + b"c" * (HEAD_BYTES - 100) + b"\r\n\r\n"
    assert heard(head).requests
    assert heard(*(head[at : at + 1448] for at in range(0, len(head), 1448))) == heard(head)


def test_a_large_body_before_it_does_not_count_for_a_head() -> None:
    first = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + b"a" * 60_000
    assert len(heard(first + b"GET /b HT", b"TP/1.1\r\nHost: a\r\n\r\n").requests) == 2
    long = b"GET /b HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 9000 + b"\r\n\r\n"
    assert len(heard(b"GET ", b"/ HTTP/1.1\r\nHost: a\r\n\r\n" + long * 5 + long[:-1], b"\n").requests) == 7


@pytest.mark.parametrize("start", [CHUNKED + b"0\r\nX: ", CHUNKED + b"1;", CHUNKED, b"GET / HTTP/1.1\r\nX: ", b"GET /"])
def test_what_has_no_end_is_not_kept(start: bytes) -> None:
    assert heard(start, *(b"f" * 1000 for _ in range(70))).refused in (b"431", b"400", b"413")


def test_trailers_are_as_limited_as_heads() -> None:
    trailers = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 1000) for number in range(20))
    assert heard(CHUNKED + b"0\r\n" + trailers + b"\r\n").refused == b"431"


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/0.9\r\nHost: a\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: b@a\r\n\r\n",
    ],
)
def test_other_versions_tunnels_and_hosts_that_are_none_are_refused(head: bytes) -> None:
    assert heard(head) == Heard([], b"400", b"")


@pytest.mark.parametrize("host", [b"a", b"a:8080", b"[::1]:80", b"login.acme-2.example."])
def test_a_host_is_a_name_or_an_address(host: bytes) -> None:
    assert heard(b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % host).requests


def test_a_body_is_asked_for_when_its_turn_has_come() -> None:
    asks = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n"
    assert heard(asks).told == b"HTTP/1.1 100 Continue\r\n\r\n"
    line = Line()
    line.send(SENT[0] + asks)
    assert line.told() == b""
    line.connection.requests.clear()
    line.connection.send(b"the answer to the first. ")
    assert line.told() == b"the answer to the first. HTTP/1.1 100 Continue\r\n\r\n"
    line.send(b"x")
    assert len(line.connection.requests) == 1
    line.connection.requests.clear()
    line.connection.send(b"and to the second")
    assert line.told() == b"and to the second"
    line.close()


def test_a_client_of_http_1_0_is_not_told_to_continue() -> None:
    assert heard(b"POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n").told == b""


def test_a_head_that_began_before_an_answer_was_out_has_no_longer_than_others() -> None:
    line = Line()
    line.send(SENT[0] + b"GET /b")
    line.connection.requests.clear()
    line.connection.send(b"the answer")
    assert line.connection.deadline <= line.connection.last + HEAD_SECONDS
    line.close()


def said(status: str, headers: list[tuple[str, str]], body: bytes, method: str = "GET") -> bytes:
    return answer(status, headers, body, method=method, version="HTTP/1.1", keep=True)


def test_the_length_of_an_answer_is_what_is_sent() -> None:
    wrong = said("200 OK", [("Content-Length", "3")], b"abcdef")
    assert wrong.lower().count(b"content-length:") == 1
    assert b"Content-Length: 6\r\n" in wrong
    assert b"Content-Length: 3\r\n" in said("200 OK", [("Content-Length", "3")], b"", "HEAD")
    assert b"Content-Length: 3\r\n" in said("200 OK", [], b"abc", "HEAD")


def test_an_answer_without_a_body_has_no_length() -> None:
    nothing = said("204 No Content", [("Content-Length", "3")], b"abc")
    assert b"length" not in nothing.lower()
    assert nothing.endswith(b"\r\n\r\n")
    assert b"Content-Length: 3" in said("304 Not Modified", [("Content-Length", "3")], b"abc")
