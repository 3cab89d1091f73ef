"""One server, and the connections to it: as little as possible between a command and its answer.

redis-py makes the connection (address, TLS, AUTH, SELECT) and knows the words of an error. Its client, pool, packer and
parser are not used: for a small command they take longer than the server (docs/decisions/hot-paths.md).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import hiredis
from redis._parsers.base import BaseParser
from redis.exceptions import AskError, InvalidResponse, MovedError, ReadOnlyError, RedisError
from redis.exceptions import ConnectionError as Broken
from redis.exceptions import TimeoutError as TooSlow

Part = str | bytes | int | float
Command = tuple[Part, ...]
"""Its key is the second part; those of a script stand behind their number. Keys are bytes."""
EVAL, EVALSHA = b"EVAL", b"EVALSHA"

# Its stub speaks of commands of one word.
_pack: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment]
ACKNOWLEDGE_MILLISECONDS = 1000
_READ_BYTES = 65536
_NOTHING_YET = object()


class Unacknowledged(RedisError):
    """A one-time step was done, and too few replicas have it: a failover could undo it. It counts as failed."""


class Server:
    """One server. May be used by many threads, and after a fork: the child begins without connections."""

    def __init__(self, make: Callable[[], Any], answer_seconds: float, replicas: int | None = 0) -> None:
        """`make` makes a connection of redis-py that is not connected yet.

        `replicas` must have a one-time step before it counts; None: one, as long as one is attached.
        """
        self._make = make
        self._answer_seconds = answer_seconds
        self._replicas = replicas
        self._attached = 0
        self._retired = False
        self._begin()

    def _begin(self) -> None:
        self._idle: deque[Line] = deque()
        self._slow = False
        self._trial = threading.Lock()
        self._process = os.getpid()

    def exchange(self, commands: Sequence[Command], *, once: bool = False) -> list[Any]:
        """Send commands together and read their answers; an error that the server answers is one of the values.

        `once`: they are one-time steps, which replicas must have. A connection that rested may have been closed
        meanwhile, which shows when it is used: then nothing was done with what we sent, or its answer is lost, which is
        the same to a caller who may repeat. So it is sent once more on a new connection. A server that did not answer
        in time is tried by one caller at a time until it does: the others are told at once.
        Raises `Broken`, `TooSlow`, `Unacknowledged`, `RedisError`, `OSError`.
        """
        if self._process != os.getpid():
            self._begin()
        if not self._slow:
            return self._exchange(commands, once)
        trial = self._trial
        if not trial.acquire(blocking=False):
            raise TooSlow("it does not answer, and is being tried")
        try:
            answers = self._exchange(commands, once)
            self._slow = False
            return answers
        finally:
            trial.release()

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

    def retire(self) -> None:
        """Close it for good, as nobody will ask it again. Who waits for an answer gets it, and keeps no connection."""
        self._retired = True
        self.close()

    def _rest(self, line: Line) -> None:
        self._idle.append(line)
        if self._retired:  # asked afterwards: either we see it, or `retire` finds the connection
            self.close()

    def _exchange(self, commands: Sequence[Command], once: bool) -> list[Any]:
        try:
            line = self._idle.pop()
        except IndexError:
            line = None
        try:
            if line is not None:
                try:
                    return self._use(line, commands, once)
                except Broken:
                    self.close()  # whatever closed this one has closed the others
            return self._use(self.open(), commands, once)
        except TooSlow:
            self._slow = True
            raise

    def _use(self, line: Line, commands: Sequence[Command], once: bool) -> list[Any]:
        acknowledged = once and self._replicas != 0
        answers = self._acknowledged(line, commands) if acknowledged else line.exchange(commands)
        for answer in answers:
            if answer.__class__ is ReadOnlyError:
                self._leave(line)
        self._rest(line)
        return answers

    def _leave(self, line: Line) -> NoReturn:
        """The server has become a replica. A connection that is made now may lead elsewhere: to whom an address that
        moves at a failover leads now, or to whom Sentinels or a cluster name. Raises `Broken`."""
        line.close()
        self.close()
        raise Broken("the primary has become a replica")

    def _acknowledged(self, line: Line, commands: Sequence[Command]) -> list[Any]:
        """Commands, and in the same exchange the wait for replicas, and who is attached now.

        A replica refuses to wait, and that would hide what it says to the commands: that it is one, or who is not.
        Raises `Unacknowledged`, `Broken` as `_leave`; and what the server says when it refuses to tell (`ROLE` and
        `WAIT` need permission).
        """
        wanted = self._attached if self._replicas is None else self._replicas
        answers = line.exchange([*commands, ("WAIT", wanted, ACKNOWLEDGE_MILLISECONDS), ("ROLE",)])
        *answers, have, role = answers
        if isinstance(have, RedisError) and any(isinstance(answer, (MovedError, AskError)) for answer in answers):
            return answers  # nothing was done here
        if not isinstance(role, RedisError) and role[0] != b"master":
            self._leave(line)
        for told in (have, role):
            if isinstance(told, RedisError):
                self._rest(line)
                raise told
        if self._replicas is None:
            self._attached = min(1, len(role[2]))
            if self._attached > wanted:  # one has come: this step is the first that it must have
                have = line.exchange([("WAIT", self._attached, ACKNOWLEDGE_MILLISECONDS)])[0]
            wanted = self._attached
        if have < wanted:
            self._rest(line)
            raise Unacknowledged(f"{have} of {wanted} replicas have the step")
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

    def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands together and read their answers.

        Raises `Broken`, `TooSlow`, `InvalidResponse`; the connection is closed then. There may be answers left in it,
        which would become somebody else's.
        """
        reader, answers = self._reader, []
        try:
            self._socket.sendall(b"".join([_pack(command) for command in commands]))
            for _ in commands:
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
