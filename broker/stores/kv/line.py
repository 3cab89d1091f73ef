"""One server, and the connections to it: as little as possible between a command and its answer.

redis-py makes the connection (address, TLS, AUTH, SELECT) and knows the words of an error. Its client, pool, packer and
parser are not used: for a small command they take longer than the server (docs/decisions/hot-paths.md).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
from redis._parsers.base import BaseParser
from redis.exceptions import ConnectionError as Broken
from redis.exceptions import InvalidResponse, RedisError
from redis.exceptions import TimeoutError as TooSlow

Part = str | bytes | int | float
Command = tuple[Part, ...]

# Its stub speaks of commands of one word.
_pack: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment]
_READ_BYTES = 65536
_NOTHING_YET = object()


class Server:
    """One server. May be used by many threads, and after a fork: the child begins without connections."""

    def __init__(self, make: Callable[[], Any], answer_seconds: float) -> None:
        """`make` makes a connection of redis-py that is not connected yet."""
        self._make = make
        self._answer_seconds = answer_seconds
        self._idle: deque[Line] = deque()
        self._process = os.getpid()

    def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands together and read their answers; an error that the server answers is one of the values.

        A connection that rested may have been closed meanwhile, which shows when it is used: then nothing was done
        with what we sent, or its answer is lost, which is the same to a caller who may repeat. So it is sent once more
        on a new connection. Raises `Broken`, `TooSlow`, `RedisError`, `OSError`.
        """
        packed = b"".join([_pack(command) for command in commands])
        line = self._rested()
        if line is not None:
            try:
                return self._use(line, packed, len(commands))
            except Broken:
                self.close()  # whatever closed this one has closed the others
        return self._use(self.open(), packed, len(commands))

    def open(self) -> Line:
        """A new connection. Raises as `exchange`."""
        return Line(self._make(), self._answer_seconds)

    def close(self) -> None:
        """Give the connections back; they are opened again where somebody goes on."""
        while self._idle:
            try:
                line = self._idle.pop()
            except IndexError:  # another thread took the last one
                return
            line.close()

    def _rested(self) -> Line | None:
        if self._process != os.getpid():
            self._idle, self._process = deque(), os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _use(self, line: Line, packed: bytes, count: int) -> list[Any]:
        answers = line.exchange(packed, count)
        self._idle.append(line)
        return answers


class Line:
    """One connection, for one caller at a time."""

    def __init__(self, connection: Any, answer_seconds: float) -> None:
        connection.connect()
        self._connection = connection
        self._socket: Any = connection._sock
        if type(self._socket) is socket.socket:
            # The kernel's own timeouts: with Python's, each read and write is two system calls.
            whole, part = divmod(answer_seconds, 1)
            span = struct.pack("ll", int(whole), int(part * 1_000_000))
            self._socket.settimeout(None)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, span)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, span)
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse, replyError=BaseParser.parse_error, notEnoughData=_NOTHING_YET
        )

    def exchange(self, packed: bytes, count: int) -> list[Any]:
        """Raises `Broken`, `TooSlow`, `InvalidResponse`; the connection is closed then.

        There may be answers left in it, which would become somebody else's.
        """
        reader, answers = self._reader, []
        try:
            self._socket.sendall(packed)
            for _ in range(count):
                while (answer := reader.gets()) is _NOTHING_YET:
                    received = self._socket.recv(_READ_BYTES)
                    if not received:
                        raise Broken("the server closed the connection")
                    reader.feed(received)
                answers.append(answer)
            if reader.has_data():
                raise InvalidResponse("an answer that nobody asked for")
        except (BlockingIOError, TimeoutError) as error:
            self.close()
            raise TooSlow("no answer in time") from error
        except OSError as error:
            self.close()
            raise Broken(str(error)) from error
        except BaseException:
            self.close()
            raise
        return answers

    def close(self) -> None:
        with contextlib.suppress(RedisError, OSError):
            self._connection.disconnect()
