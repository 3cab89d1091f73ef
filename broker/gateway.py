"""From Granian to the Flask app: whole requests only, within limits, on a bounded number of threads.

Granian can call a WSGI app itself. Then a request whose body does not arrive holds a thread for as long as the client
likes (ten of them stopped a worker), two Host headers are joined, and `X_Forwarded_For` replaces `X-Forwarded-For`. So
it speaks RSGI with this module, which reads bodies without a thread, with a limit and a deadline, refuses what no
honest client sends, and hands the rest to a thread. See docs/decisions/web-server.md.
"""

from __future__ import annotations

import asyncio
import io
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from queue import SimpleQueue
from typing import Any, Protocol

BODY_BYTES = 1_048_576
BODY_SECONDS = 10.0
THREADS = 80
"""More than can wait for a password hash at once (services/hashing), so that a flood of logins leaves some free."""
WAITING = 512
"""Requests that may wait for a thread; whoever comes then is told to come back."""

Environ = dict[str, Any]
WsgiApp = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

_SINGLE = ("host", "content-length", "content-type", "authorization", "origin", "dpop", "transfer-encoding")
"""Headers that mean nothing twice: one part of the software would see the first, another the last."""
_PLAIN = [("content-type", "text/plain; charset=utf-8"), ("cache-control", "no-store")]
_NAMES: dict[str, str] = {"content-length": "CONTENT_LENGTH", "content-type": "CONTENT_TYPE"}
_NAMES_KEPT = 500

log = logging.getLogger("homerealm.gateway")


class Headers(Protocol):
    """Names in lower case; a name may come several times."""

    def items(self) -> Iterable[tuple[str, str]]: ...


class Scope(Protocol):
    """The head of a request (RSGI 1.5)."""

    proto: str
    http_version: str
    server: str
    client: str
    scheme: str
    method: str
    path: str
    query_string: str

    @property
    def headers(self) -> Headers: ...


class Gateway:
    """An RSGI application around a WSGI application."""

    def __init__(self, app: WsgiApp, *, threads: int = THREADS, body_seconds: float = BODY_SECONDS) -> None:
        self._app = app
        self._threads = threads
        self._body_seconds = body_seconds
        self._queue: SimpleQueue[tuple[asyncio.Future[None], Environ, Any] | None] = SimpleQueue()
        self._base: Mapping[str, Any] = {
            "SCRIPT_NAME": "",
            "wsgi.version": (1, 0),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
        }

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Granian calls this in each worker process, once."""
        self._loop = loop
        for number in range(self._threads):
            threading.Thread(target=self._work, name=f"request-{number}", daemon=True).start()

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(self._threads):
            self._queue.put(None)

    async def __rsgi__(self, scope: Scope, protocol: Any) -> None:
        """One request."""
        if scope.proto != "http":
            return None
        environ = self._environ(scope)
        if isinstance(environ, str):
            return self._refuse(protocol, 400, environ)
        body = b""
        if "CONTENT_LENGTH" in environ or "HTTP_TRANSFER_ENCODING" in environ:
            try:
                received = await asyncio.wait_for(self._body(environ, protocol), self._body_seconds)
            except TimeoutError:
                return self._refuse(protocol, 408, "The request did not arrive in time.")
            except ConnectionError:
                return None
            if received is None:
                return self._refuse(protocol, 413, "The request is too large.")
            body = received
            environ["CONTENT_LENGTH"] = str(len(body))
        environ["wsgi.input"] = io.BytesIO(body)
        if self._queue.qsize() >= WAITING:
            return self._refuse(protocol, 503, "Too busy; please try again in a moment.", ("retry-after", "2"))
        done = self._loop.create_future()
        self._queue.put((done, environ, protocol))
        await done
        return None

    def _environ(self, scope: Scope) -> Environ | str:
        """The CGI variables of a request, or why it is refused. Names with an underscore are dropped: as a variable
        they could not be told from those with a hyphen that proxies set."""
        environ: Environ = dict(self._base)
        seen = set()
        for name, value in scope.headers.items():
            if name in seen:
                if name in _SINGLE:
                    return f"The header {name} came more than once."
                joint = "; " if name == "cookie" else ","
                environ[_variable(name)] = f"{environ[_variable(name)]}{joint}{value}"
            elif "_" not in name:
                seen.add(name)
                environ[_variable(name)] = value
        if "host" not in seen and scope.http_version == "1.1":  # health checks of some proxies speak 1.0
            return "The header host is missing."
        if "content-length" in seen and "transfer-encoding" in seen:
            return "The length of the request is ambiguous."
        environ["REQUEST_METHOD"] = scope.method
        environ["PATH_INFO"] = _bytes_as_text(scope.path)
        environ["QUERY_STRING"] = _bytes_as_text(scope.query_string)
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if scope.http_version == "1.1" else "HTTP/1.0"
        environ["wsgi.url_scheme"] = scope.scheme
        environ["SERVER_NAME"], _, environ["SERVER_PORT"] = scope.server.rpartition(":")
        environ["REMOTE_ADDR"] = scope.client.rpartition(":")[0].strip("[]")
        return environ

    async def _body(self, environ: Environ, protocol: Any) -> bytes | None:
        """The body; None when it is larger than allowed."""
        try:
            if int(environ.get("CONTENT_LENGTH") or 0) > BODY_BYTES:
                return None
        except ValueError:
            return None
        chunks, size = [], 0
        async for chunk in protocol:
            size += len(chunk)
            if size > BODY_BYTES:
                return None
            chunks.append(chunk)
        return b"".join(chunks)

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            done, environ, protocol = job
            try:
                protocol.response_bytes(*self._call(environ))
            except Exception:
                # Whoever asked is gone. Errors of the app were answered already.
                log.debug("an answer was not wanted any more", exc_info=True)
            finally:
                self._loop.call_soon_threadsafe(_resolve, done)

    def _call(self, environ: Environ) -> tuple[int, list[tuple[str, str]], bytes]:
        answer: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
            answer[:] = [int(status[:3]), headers]

        try:
            parts = self._app(environ, start_response)
            try:
                content = b"".join(parts)
            finally:
                close = getattr(parts, "close", None)
                if close is not None:
                    close()
            return answer[0], answer[1], content
        except Exception:
            log.exception("a request failed outside of the app's own error handling")
            return 500, _PLAIN, b"Something went wrong.\n"

    def _refuse(self, protocol: Any, status: int, text: str, *headers: tuple[str, str]) -> None:
        protocol.response_bytes(status, [*_PLAIN, ("connection", "close"), *headers], f"{text}\n".encode())


def _variable(name: str) -> str:
    known = _NAMES.get(name)
    if known is None:
        known = f"HTTP_{name.upper().replace('-', '_')}"
        if len(_NAMES) < _NAMES_KEPT:  # clients invent names
            _NAMES[name] = known
    return known


def _bytes_as_text(text: str) -> str:
    """PEP 3333: the bytes of a path, each as one character."""
    return text if text.isascii() else text.encode().decode("latin-1")


def _resolve(done: asyncio.Future[None]) -> None:
    if not done.done():  # cancelled: the server stops
        done.set_result(None)
