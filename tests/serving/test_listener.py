"""The socket that a server listens on, when the server is about to end."""

from __future__ import annotations

import ctypes
import select
import socket
import struct
import sys

import pytest

from broker.wsgi import let_nobody_in, listen

ATTACH_FILTER, DETACH_FILTER = 26, 27
"""<asm/socket.h>"""


@pytest.mark.skipif(sys.platform != "linux", reason="packet filters of a socket")
def test_at_the_end_nobody_is_let_in_but_who_was_about_to_be() -> None:
    with listen("127.0.0.1", 0) as listener, socket.socket() as early, socket.socket() as late:
        address = listener.getsockname()
        early.setblocking(False)
        _far_away(early)
        early.connect_ex(address)
        let_nobody_in(listener)
        early.setsockopt(socket.SOL_SOCKET, DETACH_FILTER, 0)  # now it hears what the server repeats after a second
        assert select.select([listener], [], [], 10)[0]
        listener.settimeout(0)
        accepted, _ = listener.accept()
        with accepted:
            early.setblocking(True)
            early.sendall(b"a question")
            assert accepted.recv(10) == b"a question"
        late.settimeout(0.3)
        with pytest.raises(TimeoutError):
            late.connect(address)
        with pytest.raises(BlockingIOError):
            listener.accept()


def _far_away(client: socket.socket) -> None:
    """Nothing comes to it."""
    nothing = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    client.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(nothing)))
