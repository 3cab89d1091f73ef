"""One connection, byte by byte: whatever a client sends, and however it is cut, there is one way to read it."""

from __future__ import annotations

import gc
import socket
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.serving import http1
from broker.serving.http1 import FIELDS, HEAD_BYTES, HEAD_SECONDS, PIPELINED, Connection, answer

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


def test_a_head_of_very_many_fields_is_refused_and_not_kept() -> None:
    start = b"GET / HTTP/1.1\r\nHost: a\r\n"
    fields = [b"x-%d:\r\n" % number for number in range(FIELDS - 1)]
    assert heard(start, *fields, b"\r\n").requests
    assert heard(start, *fields, b"x:\r\n", b"y").refused == b"431"
    assert heard(start, *fields, b"x:\r\n\r\n").refused == b"431"
    assert heard(start + b"".join(fields) + b"x:\r\n\r\n").refused == b"431"


@contextmanager
def tracing() -> Iterator[Callable[[], int]]:
    """How many bytes the module has taken and not given back; garbage that waits to be collected is among them. What
    threads of other tests take meanwhile is not."""
    only = tracemalloc.Filter(True, http1.__file__)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        yield lambda: sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([only]).traces)
    finally:
        tracemalloc.stop()
        gc.enable()


def test_a_body_takes_no_more_than_its_length_however_small_its_pieces() -> None:
    line = Line()
    line.send(CHUNKED)
    with tracing() as more:
        line.send(b"2\r\nab\r\n" * 50_000)
        assert more() < 200_000
    line.close()


BODY = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000
HALF = CHUNKED + b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
LONG = b"GET /" + b"y" * 9000 + b" HTTP/1.1\r\nHost: a\r\n"


def test_a_request_that_was_taken_is_not_kept() -> None:
    for sent in (BODY, LONG + b"X: " + b"x" * 6000 + b"\r\n\r\n"):
        line = Line()
        line.send(SENT[2])
        line.connection.requests.clear()
        with tracing() as more:
            line.send(sent)
            assert line.connection.requests.popleft().keep
            assert more() < 2_000
        line.close()


@pytest.mark.parametrize("sent", [HALF, LONG + b"X: " + b"x" * 6000 + b"\r\n", LONG], ids=["body", "fields", "url"])
@pytest.mark.parametrize("end", ["nonsense", "late"])
def test_a_request_that_was_refused_is_not_kept(sent: bytes, end: str) -> None:
    line = Line()
    with tracing() as more:
        line.send(sent)
        if end == "late":
            line.connection.late()
        else:
            line.send(b"\x00nonsense\r\n")
        assert line.connection.refusal
        assert more() < 3_000
    line.close()


def test_requests_that_wait_behind_one_another_take_little() -> None:
    fields = b"".join(b"x-%d:\r\n" % number for number in range(FIELDS - 1))
    line = Line()
    with tracing() as more:
        line.send((SENT[0][:-2] + fields + b"\r\n") * 60)
        assert [one.keep for one in line.connection.requests] == [True] * (PIPELINED - 1) + [False]
        assert more() < 100_000
    line.close()


def test_nothing_that_comes_after_a_refusal_is_kept() -> None:
    for start in (b"GET / HTTP/1.1\r\n\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n"):
        line = Line()
        with tracing() as more:
            line.send(start + b"GET /" + b"y" * 30_000)
            assert line.connection.refusal
            assert not line.connection.half_sent
            assert more() < 3_000
        line.close()


def test_a_connection_that_has_ended_is_gone_with_all_that_it_held() -> None:
    with tracing() as more:
        for sent in (BODY, HALF, LONG, SENT[0], b"NONSENSE\r\n\r\n"):
            line = Line()
            line.send(sent)
            line.connection.end()
            line.close()
            del line
        assert more() < 2_000


def test_names_of_headers_that_are_long_are_not_remembered() -> None:
    known = len(http1._names)
    assert heard(SENT[0][:-2] + b"X-" + b"x" * 200 + b": 1\r\n\r\n").requests
    assert len(http1._names) == known


def test_who_takes_some_of_an_answer_has_the_whole_time_again_and_who_takes_nothing_has_not() -> None:
    line = Line()
    with suppress(BlockingIOError):
        while line.connection.sock.send(b"x" * 65_536):  # answers before this one
            pass
    line.connection.deadline = 0.0  # the request took long
    assert line.connection.send(b"x" * 4_000_000)
    first = line.connection.deadline
    assert first > 0.0, "it has not had any time yet"
    assert line.connection.flush()
    assert line.connection.deadline == first
    line.connection.deadline = 0.0
    assert line.told()
    while line.told():
        pass
    assert line.connection.flush()
    assert line.connection.sending
    assert line.connection.deadline >= first
    line.close()


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
