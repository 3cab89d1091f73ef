"""HTTP/1.1 as our web server speaks it: one connection, its requests whole and within limits, its answers.

llhttp (Node's parser, through httptools) reads what arrives, strictly: two lengths, a length beside a transfer
encoding, folded headers, bare line feeds and control characters are errors of it. What it lets pass and no honest
client sends is refused here. Nothing here blocks, and nothing knows what an answer says.
See docs/decisions/web-server.md.
"""

from __future__ import annotations

import io
import math
import re
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn
from urllib.parse import unquote_to_bytes

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

HEAD_BYTES = 16_384
FIELDS = 100
"""Of a head, as elsewhere (Apache, hyper): a field of five bytes takes some hundred of memory."""
HEAD_SECONDS = 10.0
BODY_BYTES = 1_048_576
BODY_SECONDS = 10.0
IDLE_SECONDS = 75.0
"""For the next request. Longer than proxies keep theirs (60 s is usual): whoever closes first must not be us."""
SEND_SECONDS = 30.0
"""A client that takes nothing of its answer for so long is gone."""
LINGER_SECONDS = 2.0
"""After a refusal: whoever still sends would lose the answer if the connection were closed at once (RFC 9112 9.6)."""
PIPELINED = 8
"""Requests that may wait behind one another on one connection; each is ten times as large as it was sent."""
_RECEIVE = 65_536

Environ = dict[str, Any]
Headers = Sequence[tuple[str, str]]

_SINGLE = frozenset(
    ["HTTP_HOST", "CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_AUTHORIZATION", "HTTP_ORIGIN", "HTTP_DPOP",
     "HTTP_TRANSFER_ENCODING"]
)  # fmt: skip
"""Headers that mean nothing twice: one part of the software would see the first, another the last."""
_HOST = re.compile(r"[\w.~%!$&'()*+;=:\[\]-]*", re.ASCII)
"""What may be in a host and its port (RFC 3986 3.2.2), without the comma that two headers are joined by."""
_TOO_LARGE = "The head of the request is too large."
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BASE: Environ = {
    "SCRIPT_NAME": "",
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
    "wsgi.input_terminated": True,
}
_NAMES_KEPT = 500
_NAME_BYTES = 64
_names: dict[bytes, str] = {}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_date = (0, "")


class Request:
    """One whole request."""

    __slots__ = ("environ", "keep")

    def __init__(self, environ: Environ, keep: bool) -> None:
        self.environ = environ
        self.keep = keep
        """Whether the client wants the connection to stay."""


class Connection:
    """One client. Call `receive` when there is something to read, `flush` when there is room to write."""

    __slots__ = (
        "_asks", "_body", "_body_seconds", "_data", "_environ", "_fresh", "_headers", "_in_head", "_out", "_parser",
        "_place", "_size", "_unread", "_url", "busy", "closed", "closing", "deadline", "last", "refusal", "requests",
        "sock", "watched",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, place: tuple[str, int, str], body_seconds: float = BODY_SECONDS) -> None:
        """`place`: our name and port, and the client's address."""
        self.sock = sock
        self.requests: deque[Request] = deque()
        self.refusal: bytes | None = None
        """What to say, after everything that was asked before, to a client that broke a rule; then comes the end."""
        self.busy = False
        """A request of it is being answered."""
        self.closing = False
        """Nothing more is answered here."""
        self.closed = False
        self.watched = 0
        """What a selector watches it for."""
        self.deadline = time.monotonic() + HEAD_SECONDS
        self.last = 0.0
        """When it was last answered."""
        self._place = place
        self._body_seconds = body_seconds
        self._parser = HttpRequestParser(self)
        self._out: memoryview | None = None
        self._in_head = False
        self._asks = False
        self._fresh = False
        self._size = 0
        self._unread = 0
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._environ: Environ | None = None
        self._data: bytes | bytearray = b""
        self._body = 0

    @property
    def resting(self) -> bool:
        """Between two requests: nothing has arrived of the next one, nothing is left of the last answer."""
        return not (self.busy or self.requests or self._in_head or self._environ is not None or self._out)

    @property
    def half_sent(self) -> bool:
        """Something of a request has arrived, and not all of it."""
        return self._in_head or self._environ is not None

    @property
    def sending(self) -> bool:
        return self._out is not None

    # --- Reading ---------------------------------------------------------------------------------------------------

    def receive(self) -> bool:
        """Read what is there; whole requests are in `requests` then. False when the client is gone."""
        try:
            data = self.sock.recv(_RECEIVE)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        if not data:
            return False
        if self.closing or self.refusal is not None:
            return True  # what a refused client still sends
        self._fresh, before = False, self._body
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._no_more()  # no other protocol is spoken; the request itself is answered
        except HttpParserError:
            # After a "Connection: close" the rest is nobody's; otherwise it is no HTTP.
            if not (self.requests and not self.requests[-1].keep):
                self.refuse(400, "This is not a request that can be understood.")
        if self._in_head or self._environ is not None:
            self._limit(0 if self._fresh or self._body != before else self._unread + len(data))
        else:
            self._unread = 0
        return True

    def _limit(self, unread: int) -> None:
        """Of what is not whole yet. `unread`: bytes of a header, a trailer or an extension of a chunk without an end;
        the parser holds them and says nothing."""
        self._unread = unread
        if unread > 2 * HEAD_BYTES or self._size > HEAD_BYTES or len(self._headers) > FIELDS:
            self.refuse(431, _TOO_LARGE)

    def on_message_begin(self) -> None:
        """Called by the parser, as are the other methods with such names. What was read of a request is given away or
        forgotten as soon as it is whole or refused: a connection that waits for the next one holds nothing."""
        self._in_head = True
        self._fresh = True
        self._size = 0
        self._body = 0
        self.deadline = time.monotonic() + HEAD_SECONDS

    def on_url(self, part: bytes) -> None:
        self._url += part
        self._size += len(part)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._size += len(name) + len(value) + 4
        if self._in_head:
            self._headers.append((name, value))
        elif self._size > HEAD_BYTES:  # of trailers, which nobody reads
            self._reject(431, _TOO_LARGE)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._size > HEAD_BYTES or len(self._headers) > FIELDS:
            self._reject(431, _TOO_LARGE)
        environ = self._read_head()
        if isinstance(environ, str):
            self._reject(400, environ)
        self._environ = environ
        self._url = b""
        self._headers = []
        if "CONTENT_LENGTH" in environ or "HTTP_TRANSFER_ENCODING" in environ:
            if int(environ.get("CONTENT_LENGTH") or 0) > BODY_BYTES:
                self._reject(413, "The request is too large.")
            self.deadline = time.monotonic() + self._body_seconds
            if "HTTP_EXPECT" in environ and environ["HTTP_EXPECT"].lower() == "100-continue":
                self._ask_for_the_body(environ)

    def on_body(self, part: bytes) -> None:
        self._body += len(part)
        if self._body > BODY_BYTES:
            self._reject(413, "The request is too large.")
        if self._body == len(part):
            self._data = part  # mostly all of it
            return
        if isinstance(self._data, bytes):
            self._data = bytearray(self._data)
        self._data += part

    def on_message_complete(self) -> None:
        self._asks = False
        environ, self._environ = self._environ, None
        if environ is None:
            return
        if "CONTENT_LENGTH" in environ or "HTTP_TRANSFER_ENCODING" in environ:
            environ["CONTENT_LENGTH"] = str(self._body)
        environ["wsgi.input"] = io.BytesIO(self._data)
        self._data = b""
        if len(self.requests) < PIPELINED:
            self.requests.append(Request(environ, self._parser.should_keep_alive()))
        else:
            self._no_more()

    def _ask_for_the_body(self, environ: Environ) -> None:
        """After the answers to what was asked before, or the client would take it for one of those."""
        if environ["SERVER_PROTOCOL"] == "HTTP/1.0":  # RFC 9110 10.1.1
            return
        if self.requests:
            self._asks = True
        else:
            with suppress(OSError):
                self.sock.send(_CONTINUE)

    def refuse(self, status: int, text: str) -> None:
        """Nothing more is read here; what was asked before is answered, then this."""
        if self.refusal is None and not self.closed:
            self._forget()
            self.refusal = plain(status, text)

    def _reject(self, status: int, text: str) -> NoReturn:
        """Refuse, and stop the parser, which would go on to the end of what has arrived."""
        self.refuse(status, text)
        raise ValueError(text)

    def _forget(self) -> None:
        """The parser holds a part of a head, and it refers to this connection: as long as both are there, so is all
        that they hold, until garbage is collected, and that is seldom."""
        self._in_head = self._asks = False
        self._environ = None
        self._url = self._data = b""
        self._headers = []
        del self._parser

    def end(self) -> None:
        """Close it. Who still refers to it, for its answer, finds it closed, and it holds nothing more."""
        if self.closed:
            return
        if self.refusal is None:
            self._forget()
        self.closed = True
        self.requests.clear()
        self._out = None
        self.sock.close()

    def late(self) -> bool:
        """Its time is over: a request that has begun is told so. Whether there is one."""
        begun = self.half_sent
        if begun:
            self.refuse(408, "The request did not arrive in time.")
        return begun

    def _no_more(self) -> None:
        if self.requests:
            self.requests[-1].keep = False

    def _read_head(self) -> Environ | str:
        """The CGI variables of a request, or why it is refused. Names with an underscore are dropped: as a variable
        they could not be told from those with a hyphen that proxies set."""
        environ = _BASE.copy()
        for name, value in self._headers:
            variable = _names.get(name) or _variable(name)
            text = str(value, "latin-1")
            if variable in environ:
                if variable in _SINGLE:
                    return f"The header {name.decode('latin-1').lower()} came more than once."
                text = f"{environ[variable]}{'; ' if variable == 'HTTP_COOKIE' else ','}{text}"
            environ[variable] = text
        environ.pop("_", None)
        version, method = self._parser.get_http_version(), str(self._parser.get_method(), "latin-1")
        if version not in ("1.1", "1.0") or method == "CONNECT":
            return "Only HTTP/1.1 is spoken here, and there are no tunnels."
        host = environ.get("HTTP_HOST")
        if host is None and version != "1.0":  # health checks of some proxies speak 1.0
            return "The header host is missing."
        if host is not None and not _HOST.fullmatch(host):
            return "The header host is not the name of one."
        if "HTTP_TRANSFER_ENCODING" in environ and (
            "CONTENT_LENGTH" in environ or version != "1.1" or environ["HTTP_TRANSFER_ENCODING"].lower() != "chunked"
        ):
            return "The length of the request is ambiguous."
        if self._url[:1] != b"/" or b"#" in self._url:
            return "The address is not a path."
        path, _, query = self._url.partition(b"?")
        environ["REQUEST_METHOD"] = method
        environ["PATH_INFO"] = str(unquote_to_bytes(path) if b"%" in path else path, "latin-1")
        environ["QUERY_STRING"] = str(query, "latin-1")
        environ["SERVER_PROTOCOL"] = f"HTTP/{version}"
        environ["SERVER_NAME"], port, environ["REMOTE_ADDR"] = self._place
        environ["SERVER_PORT"] = str(port)
        return environ

    # --- Writing ---------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> bool:
        """Write an answer; False when the client is gone. What it does not take at once waits for `flush`."""
        if self._asks and not (self.requests or self.closing):
            self._asks = False
            data += _CONTINUE
        self._out = memoryview(data)
        self.deadline = math.inf  # that of what was read is over; `flush` sets the next one
        return self.flush()

    def flush(self) -> bool:
        """Write what is left; False when the client is gone."""
        if self._out is None:
            return True
        try:
            sent = self.sock.send(self._out)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            return False
        now = time.monotonic()
        if sent == len(self._out):
            self._out = None
            self.last = now
            begun = self._in_head or self._environ is not None
            self.deadline = now + (HEAD_SECONDS if begun else IDLE_SECONDS)
        elif sent or self.deadline > now + SEND_SECONDS:
            self._out = self._out[sent:]
            self.deadline = now + SEND_SECONDS
        return True


def answer(status: str, headers: Headers, body: bytes, *, method: str, version: str, keep: bool) -> bytes:
    """The bytes of an answer. `status` is the code and its phrase. Raises `ValueError` for a line break in a header."""
    without = status[0] == "1" or status[:3] == "204"
    bare = without or status[:3] == "304" or method == "HEAD"
    lines = [f"HTTP/1.1 {status}"]
    measured = without
    for name, value in headers:
        lowered = name.lower()
        if lowered in ("connection", "transfer-encoding", "date"):
            continue
        if lowered == "content-length":
            # With another length the client would take what is left for the next answer. Where no body is sent, it is
            # that of the body that would be (RFC 9110 8.6).
            if measured or not (bare or value == str(len(body))):
                continue
            measured = True
        lines.append(f"{name}: {value}")
    if not measured and status[:3] != "304":
        lines.append(f"Content-Length: {len(body)}")
    lines.append(f"Date: {_now()}")
    if not keep:
        lines.append("Connection: close")
    elif version == "HTTP/1.0":
        lines.append("Connection: keep-alive")
    head = "\r\n".join(lines)
    if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1:
        raise ValueError("a header of an answer holds a line break")
    head += "\r\n\r\n"
    return head.encode("latin-1") + (b"" if bare else body)


def plain(status: int, text: str, *more: tuple[str, str]) -> bytes:
    """A refusal, after which the connection ends."""
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"), *more]
    phrase = f"{status} {_PHRASES.get(status, 'Refused')}"
    return answer(phrase, headers, f"{text}\n".encode(), method="GET", version="HTTP/1.1", keep=False)


_PHRASES = {
    400: "Bad Request", 408: "Request Timeout", 413: "Content Too Large", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 503: "Service Unavailable",
}  # fmt: skip


def _variable(name: bytes) -> str:
    if b"_" in name:
        return "_"
    upper = str(name, "latin-1").upper().replace("-", "_")
    variable = upper if upper in ("CONTENT_LENGTH", "CONTENT_TYPE") else f"HTTP_{upper}"
    if len(_names) < _NAMES_KEPT and len(name) <= _NAME_BYTES:  # clients invent names
        _names[name] = variable
    return variable


def _now() -> str:
    """The header Date, made once a second. Not by strftime: its names are those of the locale."""
    global _date  # noqa: PLW0603 - a memory of one second
    second = int(time.time())  # noqa: TID251 - for other machines to read; nothing is decided by it
    if _date[0] != second:
        t = time.gmtime(second)
        _date = (second, f"{_DAYS[t.tm_wday]}, {t.tm_mday:02} {_MONTHS[t.tm_mon - 1]} {t.tm_year} "
                         f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} GMT")  # fmt: skip
    return _date[1]
