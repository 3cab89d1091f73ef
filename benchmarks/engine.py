"""HTTP/1.1 load engine: many virtual users, written as generators, over one epoll loop and one thread.

`http.client` on threads tops out near 4,000 requests a second and makes latency a matter of the GIL; this engine does
several times that, so that the driver is seldom the bottleneck (``flow.py --selftest`` prints the figure).

A job is a generator. It yields a complete request as `bytes` and is sent the `Answer`, or a `Failure` is raised in it;
it yields a number to sleep that many seconds. One request at a time per job, over connections that are kept alive.
"""

from __future__ import annotations

import heapq
import ipaddress
import itertools
import re
import select
import socket
import time
from collections.abc import Generator

MAX_HEAD = 256 * 1024
HEADER = re.compile(
    rb"\r\n(content-length|transfer-encoding|set-cookie|location|connection)[ \t]*:[ \t]*([^\r\n]*)", re.I
)


class Failure(Exception):
    """A wrong answer, a refused connection, a timeout: whatever makes an operation count as an error."""


class Answer:
    """One response. `url` is filled in by the browser that asked."""

    __slots__ = ("body", "cookies", "location", "status", "url")

    def __init__(self, status: int, body: bytes, location: str | None, cookies: list[str]):
        self.status, self.body, self.location, self.cookies, self.url = status, body, location, cookies, ""


class Job:
    """A virtual user's running generator, its connections (one per server address) and what it has moved so far."""

    def __init__(self, steps: Generator | None = None):
        self.steps = steps
        self.requests = self.bytes_in = self.bytes_out = 0
        self.turn = 0
        self.channels: dict[int, Channel] = {}


class Channel:
    """One kept-alive connection and the response that is arriving on it."""

    __slots__ = ("buffer", "deadline", "job", "request", "reused", "socket")

    def __init__(self, address: tuple, job: Job):
        self.socket = socket.create_connection(address[:2], timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.job, self.request, self.buffer, self.reused, self.deadline = job, b"", b"", False, 0.0


def loopback(host: str, port: int) -> tuple[str, int]:
    """The address of `host` that answers; raises `Failure` unless it is a loopback address, because load never leaves the machine."""
    problem = f"{host}:{port} has no address"
    for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        if not ipaddress.ip_address(address[0]).is_loopback:
            raise Failure(f"{host} is {address[0]}: only loopback addresses are put under load")
        try:
            socket.create_connection(address[:2], timeout=5).close()
            return address[:2]
        except OSError as error:
            problem = f"{host}:{port}: {error}"
    raise Failure(problem)


def dechunk(data: bytes, at: int) -> bytes | None:
    """The body of a chunked message that starts at `at`, or None while it is incomplete."""
    parts = []
    while (end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:end].split(b";")[0], 16)
        at = end + 2 + size + 2
        if at > len(data):
            return None
        if not size:
            return b"".join(parts)
        parts.append(data[end + 2 : end + 2 + size])
    return None


class Engine:
    """Runs jobs against one or more loopback addresses of one service; each job takes the addresses in turn."""

    def __init__(self, addresses: list[tuple[str, int]], timeout: float = 30.0):
        self.addresses, self.timeout = addresses, timeout
        self.poll = select.epoll()
        self.channels: dict[int, Channel] = {}
        self.jobs: set[Job] = set()
        self.sleepers: list[tuple[float, int, Job, Exception | None]] = []
        self.tie = itertools.count()
        self.reconnects = 0

    def start(self, job: Job) -> None:
        """Begin a job: it runs up to its first request at once, and further while `run` is running."""
        self.jobs.add(job)
        self._advance(job)

    def run(self, seconds: float = float("inf")) -> None:
        """Drive all jobs until they have ended or `seconds` have passed; may be called again to go on."""
        end = time.perf_counter() + seconds
        sweep = 0.0
        while self.jobs and (now := time.perf_counter()) < end:
            pause = min(end - now, 0.25, self.sleepers[0][0] - now if self.sleepers else 0.25)
            for descriptor, _ in self.poll.poll(max(pause, 0)):
                if channel := self.channels.get(descriptor):
                    self._read(channel)
            now = time.perf_counter()
            while self.sleepers and self.sleepers[0][0] <= now:
                _, _, job, error = heapq.heappop(self.sleepers)
                self._advance(job, error=error)
            if now > sweep:
                sweep = now + 0.25
                for channel in [c for c in self.channels.values() if c.request and c.deadline < now]:
                    self._break(channel, f"no answer in {self.timeout:.0f} s")

    def close(self) -> None:
        """Drop every job and connection."""
        for channel in list(self.channels.values()):
            self._drop(channel)
        self.jobs.clear()
        self.sleepers.clear()

    def _advance(self, job: Job, answer: Answer | None = None, error: Exception | None = None) -> None:
        try:
            wish = job.steps.throw(error) if error else job.steps.send(answer)
        except StopIteration:
            self.jobs.discard(job)
            for channel in list(job.channels.values()):
                self._drop(channel)
        else:
            if isinstance(wish, bytes):
                self._send(job, wish)
            else:
                self._sleep(job, wish)

    def _sleep(self, job: Job, seconds: float, error: Exception | None = None) -> None:
        heapq.heappush(self.sleepers, (time.perf_counter() + seconds, next(self.tie), job, error))

    def _send(self, job: Job, request: bytes) -> None:
        which = job.turn = (job.turn + 1) % len(self.addresses)
        channel = job.channels.get(which)
        try:
            if channel is None:
                channel = self._connect(job, which)
            channel.request, channel.deadline = request, time.perf_counter() + self.timeout
            if channel.socket.send(request) < len(request):
                raise OSError("the server does not read its requests")
        except OSError as error:
            if channel is not None and channel.reused:
                self._again(channel)
            else:
                if channel is not None:
                    self._drop(channel)
                self._sleep(job, 0.05, Failure(f"connection: {error}"))
        job.requests += 1
        job.bytes_out += len(request)

    def _connect(self, job: Job, which: int) -> Channel:
        channel = job.channels[which] = Channel(self.addresses[which], job)
        self.channels[channel.socket.fileno()] = channel
        self.poll.register(channel.socket.fileno(), select.EPOLLIN)
        return channel

    def _drop(self, channel: Channel) -> None:
        del self.channels[channel.socket.fileno()]
        for which, own in list(channel.job.channels.items()):
            if own is channel:
                del channel.job.channels[which]
        channel.socket.close()

    def _break(self, channel: Channel, why: str) -> None:
        self._drop(channel)
        self._advance(channel.job, error=Failure(why))

    def _again(self, channel: Channel) -> None:
        """A kept-alive connection was closed under a request that had no answer yet: once more, on a fresh one."""
        job, request = channel.job, channel.request
        self._drop(channel)
        self.reconnects += 1
        job.turn -= 1
        job.requests -= 1
        job.bytes_out -= len(request)
        self._send(job, request)

    def _read(self, channel: Channel) -> None:
        try:
            data = channel.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not channel.request:
            self._drop(channel)  # closed while idle, or an answer that nobody asked for
            return
        channel.job.bytes_in += len(data)
        buffer = channel.buffer = channel.buffer + data if channel.buffer else data
        if not data and not buffer and channel.reused:
            self._again(channel)
            return
        try:
            answer, closing = self._parse(buffer, ended=not data)
        except (ValueError, IndexError):
            self._break(channel, f"not HTTP: {buffer[:60]!r}")
            return
        if answer is None:
            if not data or (len(buffer) > MAX_HEAD and b"\r\n\r\n" not in buffer):
                self._break(channel, "connection closed in the middle of an answer")
            return
        channel.request, channel.buffer, channel.reused = b"", b"", True
        if closing or not data:
            self._drop(channel)
        self._advance(channel.job, answer)

    @staticmethod
    def _parse(data: bytes, ended: bool) -> tuple[Answer | None, bool]:
        """The answer in `data` (None while incomplete) and whether the server closes afterwards (RFC 9112, section 6.3)."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return None, False
        status = int(data[9:12])
        if status < 200:
            return Engine._parse(data[end + 4 :], ended)
        length, chunked, closing, location, cookies = None, False, data[5:8] == b"1.0", None, []
        for name, value in HEADER.findall(data[:end]):
            name = name.lower()
            if name == b"content-length":
                length = int(value)
            elif name == b"set-cookie":
                cookies.append(value.decode("latin-1"))
            elif name == b"location":
                location = value.decode("latin-1")
            elif name == b"transfer-encoding":
                chunked = value.lower() == b"chunked"
            elif value.lower() == b"close":
                closing = True
            elif value.lower() == b"keep-alive":
                closing = False
        if status in (204, 304):
            body = b""
        elif chunked:
            body = dechunk(data, end + 4)
        elif length is not None:
            body = data[end + 4 : end + 4 + length] if len(data) >= end + 4 + length else None
        else:
            body, closing = data[end + 4 :] if ended else None, True
        return (None if body is None else Answer(status, body, location, cookies)), closing
