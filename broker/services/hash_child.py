"""The hashing process, which services/hash_process starts: `-m broker.services.hash_child ENGINE NICE PARENT FD...`

One thread for each socket answers one question after the other. Passwords come and go through the sockets only. It ends
when the process at the other end does, however that ends; signals that ask it to end are for that process.
"""

from __future__ import annotations

import _socket
import _thread
import os
import select
import signal
import sys

from broker.services.argon2id import Engine, by_name

HASH, VERIFY = b"h", b"v"
DONE, FAILED = b"+", b"-"
LENGTH = 4
"""Bytes that say how long a message is, without themselves."""


def read(connection: _socket.socket, size: int) -> bytes:
    """Raises `EOFError`."""
    found = b""
    while len(found) < size:
        part = connection.recv(size - len(found))
        if not part:
            raise EOFError
        found += part
    return found


def receive(connection: _socket.socket) -> bytes:
    """A message. Raises `EOFError`, `OSError`."""
    return read(connection, int.from_bytes(read(connection, LENGTH), "big"))


def send(connection: _socket.socket, *parts: bytes) -> None:
    """A message. Raises `OSError`."""
    data = b"".join(parts)
    data = len(data).to_bytes(LENGTH, "big") + data
    while data:
        data = data[connection.send(data) :]


def question(what: bytes, text: str, raw: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """The parts of one: a stored hash, or memory and passes for a new one; and the password."""
    return what, len(text).to_bytes(1, "big"), text.encode("ascii"), raw


def answer(engine: Engine, asked: bytes) -> bytes:
    what, end = asked[:1], 2 + asked[1]
    text, raw = asked[2:end].decode("ascii"), asked[end:]
    if what == VERIFY:
        return b"\x01" if engine.verify(text, raw) else b"\x00"
    memory, passes = text.split(" ")
    return engine.hash(raw, int(memory), int(passes)).encode("ascii")


def _serve(engine: Engine, descriptor: int) -> None:
    connection = _socket.socket(fileno=descriptor)
    try:
        while True:
            asked = receive(connection)
            try:
                found = DONE + answer(engine, asked)
            except Exception as error:  # its name only: values are nobody's business
                found = FAILED + type(error).__name__.encode()
            send(connection, found)
    except (EOFError, OSError):
        os._exit(0)  # the other end is gone, and what it asked for is nobody's any more


def main(name: str, nice: str, parent: str, *descriptors: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        try:
            with open("/proc/self/comm", "w") as title:  # noqa: PTH123 - pathlib is a lot of memory for one line
                title.write("broker hashing")
        except OSError:  # it goes by another name then
            pass
    engine = by_name(name)
    os.nice(int(nice))  # after the start, which may be in somebody's way
    for descriptor in descriptors:
        _thread.start_new_thread(_serve, (engine, int(descriptor)))
    # A socket has its end when nobody has the other one any more; a fork of that process may have it for long.
    if hasattr(os, "pidfd_open"):
        try:
            alive = os.pidfd_open(int(parent))
        except ProcessLookupError:
            os._exit(0)
        except OSError:  # not here: the sockets tell, too
            alive = -1
        if alive >= 0:
            if os.getppid() == int(parent):
                select.select([alive], [], [])
            os._exit(0)
    while True:
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
