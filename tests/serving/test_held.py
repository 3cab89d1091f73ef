"""Answers to refused attempts wait; nobody else does, and none of them gets lost."""

from __future__ import annotations

import contextlib
import http.client
import select
import signal
from collections.abc import Iterator

import pytest

from broker.serving.held import Answer, Held
from broker.serving.http1 import Connection
from tests.serving.test_gateway import Served, get, serving


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as served:
        yield served


@contextlib.contextmanager
def asking(served: Served, path: str) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.request("GET", path)
    yield connection
    connection.close()


@pytest.mark.parametrize("way", ["", "/quick"])
def test_who_is_refused_waits_and_others_are_answered_meanwhile(served: Served, way: str) -> None:
    """Two answers may wait here, and an hour each: the first one comes because a third is refused."""
    with asking(served, f"{way}/refused/1") as one, asking(served, f"{way}/refused/2") as two:
        assert [get(served.port, path)[0] for path in ("/", "/quick") * 10] == [200] * 20  # more than there are threads
        with asking(served, f"{way}/refused/3") as three:
            (answered,) = select.select([one.sock, two.sock, three.sock], [], [], 10)[0]
            first = next(connection for connection in (one, two, three) if connection.sock is answered)
            answer = first.getresponse()
            assert (answer.status, answer.read() in {b"1", b"2", b"3"}) == (429, True)
            first.request("GET", "/quick")  # the connection goes on
            assert first.getresponse().status == 200


def test_who_leaves_while_waiting_is_forgotten(served: Served) -> None:
    for number in range(20):
        with asking(served, f"/refused/{number}"):
            pass
    assert get(served.port)[0] == 200


def test_at_the_end_all_of_them_go_out(served: Served) -> None:
    with asking(served, "/refused/1") as one, asking(served, "/quick/refused/2") as other:
        assert get(served.port)[0] == 200
        served.process.send_signal(signal.SIGTERM)
        assert {answer.read() for answer in (one.getresponse(), other.getresponse())} == {b"1", b"2"}
        assert served.process.wait(10) == 0


def test_they_go_out_in_their_order_when_their_time_has_come() -> None:
    now = [100.0]
    held = Held(seconds=2.0, most=3, clock=lambda: now[0])
    one, two = (Answer(Connection.__new__(Connection), data, True, False, True) for data in (b"one", b"two"))
    assert held.next_in(9.0) == 9.0
    assert held.hold(one) is None
    now[0] = 101.5
    assert held.hold(two) is None
    assert (held.due(everything=False), held.next_in(9.0)) == (None, 0.5)
    now[0] = 102.0
    assert held.due(everything=False) is one
    assert held.due(everything=False) is None
    assert held.due(everything=True) is two
    assert held.due(everything=True) is None
