"""From sockets to the Flask app: whole requests only, within limits; one thread for what is quick, more for the rest.

One thread, the *leader*, waits for all connections, reads and writes. A request that the app calls quick is answered by
the leader itself: no other thread is woken for it, and nobody competes for the interpreter. Everything else (hashing,
mails, upstream providers, writing to the database) goes to a bounded number of threads.

What is quick may be slow one day: a store hangs. The main thread watches, and when the leader has been with one request
for too long, another thread takes over the lead; the old one finishes its request and ends. For some seconds quick
requests then go to threads as well. So no request can stop the others. See docs/decisions/web-server.md.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from broker.serving import http1
from broker.serving.held import Answer, Held
from broker.serving.http1 import BODY_SECONDS, Connection, Environ, Request
from broker.serving.pace import Pace
from broker.serving.turnstile import WINDOW, Turnstile

THREADS = 80
"""More than can wait for a password hash at once (services/hashing), so that a flood of logins leaves some free."""
FORM_SECONDS = 8.0
"""How long a form may stand before the turnstile."""
WAITING = 512
"""Requests that may wait for a thread; whoever comes then is told to come back."""
CONNECTIONS = 4096
"""When there are so many, the one that was answered longest ago gives way."""
SPARE_FILES = 128
"""Of those that the process may open: for databases, the key-value store, upstream providers, logs."""
FEWEST = 16
"""Connections at the least, however few files it may open."""
STALL_SECONDS = 0.05
"""The leader is replaced when one request holds it for so long."""
TOGETHER = 16
"""Answers that the leader sends one right after the other, at most: the first of them waits for the last."""
DRAIN_SECONDS = 4.0
LATE_SECONDS = 10.0
"""Between two reports of requests that did not arrive: who sends halves cannot fill the log."""
GRACE_SECONDS = 0.3
"""At the end, clients that were just served may ask once more, and are told that the connection ends."""

_FULL = frozenset([errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
REFUSED = "homerealm.refused"
"""An app puts this key into the environ of a request whose attempt it refused: the answer waits (held.py)."""
WsgiApp = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
Choice = Callable[[str, str], bool]
"""By method and path. `quick`: needs nothing but the key-value store and reads of the database. `guessed`: a form that
strangers may send as often as they like; those come in through the turnstile."""

log = logging.getLogger("homerealm.gateway")


class Gateway:
    """Serves a WSGI app. `serve` in the main thread, `stop` from a signal handler."""

    def __init__(
        self,
        app: WsgiApp,
        *,
        quick: Choice = lambda _method, _path: False,
        guessed: Choice = lambda _method, _path: False,
        threads: int = THREADS,
        body_seconds: float = BODY_SECONDS,
        held: Held | None = None,
        late: Callable[[int], None] = lambda _number: None,
    ) -> None:
        """`late`: is told now and then how many requests began since and did not arrive in time."""
        self._app = app
        self._quick = quick
        self._guessed = guessed
        self._threads = threads
        self._body_seconds = body_seconds
        self._selector = selectors.DefaultSelector()
        self._connections: dict[Connection, None] = {}
        self._jobs: SimpleQueue[tuple[Connection, Request, bool, bool]] = SimpleQueue()
        self._forms: deque[tuple[float, Connection, Request]] = deque()
        self._done: SimpleQueue[Answer] = SimpleQueue()
        self._held = held or Held()
        self._started = 0
        self._outstanding = 0
        self._pace = Pace()
        self._turnstile = Turnstile()
        # Only the leader touches connections and counts. Who leads changes under the lock, and only while the leader
        # is inside the app (`_since` says since when), where it touches nothing.
        self._lock = threading.Lock()
        self._leader = object()
        self._since = 0.0
        self._wake_reader, self._wake_writer = os.pipe()
        self._woken = False
        self._stopping = False
        self._stop_at = 0.0
        self._sweep_at = 0.0
        self._tell_late = late
        self._late = 0
        self._late_at = 0.0
        self._listener: socket.socket | None = None
        self._listening = False
        self._most = CONNECTIONS
        self._ended = threading.Event()

    def serve(self, listener: socket.socket) -> None:
        """Answer whoever connects, until `stop`; then finish what has begun, at most for DRAIN_SECONDS."""
        listener.setblocking(False)
        for pipe in (self._wake_reader, self._wake_writer):
            os.set_blocking(pipe, False)
        self._listener = listener
        self._name, self._port = listener.getsockname()[:2]
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files != resource.RLIM_INFINITY:
            self._most = max(FEWEST, min(CONNECTIONS, files - SPARE_FILES))
        self._listen(True)
        self._selector.register(self._wake_reader, selectors.EVENT_READ, self)
        self._new_leader()
        while not self._ended.wait(STALL_SECONDS):
            self._replace_a_stalled_leader()

    def stop(self) -> None:
        """Take no more connections and end when the last answer is out."""
        self._stopping = True
        self._wake()

    # --- The lead --------------------------------------------------------------------------------------------------

    def _new_leader(self) -> None:
        """Raises `RuntimeError` where no thread can be started; the one before leads on then."""
        before, me = self._leader, object()
        self._leader = me
        try:
            threading.Thread(target=self._lead, args=(me,), name="leader", daemon=True).start()
        except RuntimeError:
            self._leader = before
            raise

    def _replace_a_stalled_leader(self) -> None:
        since = self._since
        if since and time.perf_counter() - since > STALL_SECONDS:
            with self._lock:
                if self._since != since:  # done just now
                    return
                self._since = 0.0
                self._pace.pause()
                with suppress(RuntimeError):  # no thread to be had: everybody waits for this one
                    self._new_leader()

    def _lead(self, me: object) -> None:
        """Whatever goes wrong, somebody leads."""
        while self._leader is me and not self._ended.is_set():
            try:
                self._deliver(me)  # also what the one before has left
                self._look(me)
            except Exception:
                log.exception("a mistake of the web server")
                self._ended.wait(STALL_SECONDS)  # it may be there again at once

    def _look(self, me: object) -> None:
        """See to what is ready. The lead may be gone after each step: what else is ready stays so, for the next one."""
        somebody = False
        longest, began = self._held.next_in(0.05 if self._stopping else 1.0), time.perf_counter()
        ready = self._selector.select(min(longest, WINDOW) if self._forms else longest)
        self._turnstile.rested(began)
        for key, _ in ready:
            what = key.data
            if what is None:
                somebody = True
            elif what is self:
                with suppress(BlockingIOError):
                    os.read(self._wake_reader, 4096)
                self._woken = False
                self._deliver(me)
            elif not what.closed:
                try:
                    self._attend(me, what)
                except Exception:
                    self._drop(me, what)
            if self._done.qsize() >= TOGETHER:
                self._deliver(me)
            if self._leader is not me:
                return
        self._deliver(me)
        if self._leader is not me:
            return
        self._let_in(me)
        if somebody:  # last: nobody gives way whose request is there already
            self._accept()
        self._sweep()
        if self._stopping and self._drained():
            self._ended.set()

    def _attend(self, me: object, connection: Connection) -> None:
        if connection.sending:
            if not connection.flush():
                self._close(connection)
            elif self._settled(connection):
                self._turn(me, connection)
        elif connection.busy:
            self._watch(connection, 0)  # whatever it is, it has to wait for the answer
        elif not connection.receive():
            self._close(connection)
        else:
            self._turn(me, connection)

    def _turn(self, me: object, connection: Connection) -> None:
        """Have the next request answered. The last thing that a caller does: the lead may be gone after that."""
        if not connection.requests or connection.busy or connection.sending:
            self._refuse(connection)
            return
        request = connection.requests.popleft()
        connection.busy = True
        what = request.environ["REQUEST_METHOD"], request.environ["PATH_INFO"]
        quick = self._quick(*what)
        if quick and self._pace.inline:
            self._answer_here(me, connection, request)
        elif quick or not self._guessed(*what):
            self._hand_over(connection, request, quick=quick)
        elif len(self._forms) < WAITING:
            self._forms.append((time.monotonic(), connection, request))
        else:
            self._too_busy(connection)

    def _refuse(self, connection: Connection) -> None:
        if connection.refusal is not None and not (connection.busy or connection.sending or connection.closing):
            self._out(connection, connection.refusal, False)

    def _answer_here(self, me: object, connection: Connection, request: Request) -> None:
        """The answer is sent when all that came at the same time is answered: fewer wake-ups on both sides. It lies
        where the next leader finds it."""
        began, worked = time.perf_counter(), time.thread_time()
        self._since = began
        self._done.put(self._call(connection, request, by_thread=False))
        with self._lock:
            still = self._leader is me
            if still:
                self._since = 0.0
        if still:
            self._pace.waited(time.perf_counter() - began - (time.thread_time() - worked))
        else:
            self._wake()

    # --- Threads ---------------------------------------------------------------------------------------------------

    def _let_in(self, me: object) -> None:
        """Forms, as far as the turnstile goes; at the end all of them, since their threads have to end as well.
        Whoever sent one too long ago has gone, or sends it again: carried out now, it would be a second time."""
        while self._forms:
            since, connection, request = self._forms[0]
            late = time.monotonic() - since > FORM_SECONDS
            if not (late or self._stopping or self._turnstile.enter()):
                return
            self._forms.popleft()
            try:
                if late:
                    self._too_busy(connection)
                elif not connection.closed:
                    self._hand_over(connection, request, form=True)
            except Exception:
                self._drop(me, connection)

    def _too_busy(self, connection: Connection) -> None:
        busy = http1.plain(503, "Too busy; please try again in a moment.", ("Retry-After", "2"))
        self._out(connection, busy, False)

    def _hand_over(self, connection: Connection, request: Request, *, quick: bool = False, form: bool = False) -> None:
        if self._outstanding >= self._started and self._started < self._threads:
            with suppress(RuntimeError):  # no more threads to be had (a limit of the container): what there are will do
                threading.Thread(target=self._work, name=f"request-{self._started + 1}", daemon=True).start()
                self._started += 1
        if not self._started or self._outstanding >= self._started + WAITING:
            self._too_busy(connection)
            return
        self._outstanding += 1
        self._jobs.put((connection, request, quick, form))

    def _work(self) -> None:
        while True:
            connection, request, quick, form = self._jobs.get()
            began, worked = time.monotonic(), time.thread_time()
            answer = self._call(connection, request, by_thread=True)
            if quick and time.monotonic() - began > 5 * STALL_SECONDS:
                self._pace.pause()
            self._done.put(answer._replace(spent=time.thread_time() - worked, form=form))
            self._wake()
            del connection, request, answer  # they would stay until the next job comes

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            with suppress(OSError):
                os.write(self._wake_writer, b"1")

    def _deliver(self, me: object) -> None:
        while self._leader is me:
            answer: Answer | None
            try:
                answer = self._done.get_nowait()
            except Empty:
                answer = self._held.due(everything=self._stopping)
                if answer is None:
                    return
            else:
                if answer.by_thread:
                    self._outstanding -= 1
                    self._turnstile.done(answer.spent, form=answer.form, refused=answer.refused)
                if answer.refused:
                    answer = self._held.hold(answer)
            if answer is not None:
                try:
                    if self._out(answer.connection, answer.data, answer.keep):
                        self._turn(me, answer.connection)
                except Exception:
                    self._drop(me, answer.connection)

    def _call(self, connection: Connection, request: Request, *, by_thread: bool) -> Answer:
        answer: list[Any] = []
        body = request.environ["wsgi.input"]

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
            answer[:] = [status, headers]

        try:
            parts = self._app(request.environ, start_response)
            try:
                content = b"".join(parts)
            finally:
                close = getattr(parts, "close", None)
                if close is not None:
                    close()
            keep = request.keep and not self._stopping
            data = http1.answer(
                answer[0], answer[1], content, keep=keep,
                method=request.environ["REQUEST_METHOD"], version=request.environ["SERVER_PROTOCOL"],
            )  # fmt: skip
        except BaseException:  # also SystemExit: a thread that ends leaves its client without an answer
            log.exception("a request failed outside of the app's own error handling")
            return Answer(connection, http1.plain(500, "Something went wrong."), False, by_thread, False)
        finally:
            body.close()  # an app may leave the request behind, as garbage that is seldom collected
        return Answer(connection, data, keep, by_thread, REFUSED in request.environ)

    # --- Connections -----------------------------------------------------------------------------------------------

    def _accept(self) -> bool:
        """One at a time, so that web processes on one port share them evenly. False when there is none."""
        if self._listener is None or (len(self._connections) >= self._most and not self._make_room()):
            return False
        try:
            sock, address = self._listener.accept()
        except OSError as error:
            if error.errno in _FULL:
                self._make_room()
            return False
        sock.setblocking(False)
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = str(address[0]).removeprefix("::ffff:")
        connection = Connection(sock, (self._name, self._port, client), self._body_seconds)
        self._connections[connection] = None
        self._watch(connection, selectors.EVENT_READ)
        return True

    def _make_room(self) -> bool:
        """The connection goes that was answered, or came, longest ago. When all of them wait for answers, whoever
        comes next waits outside; asking for them again and again would take the processor from those answers."""
        oldest = next((one for one in self._connections if not one.busy), None)
        if oldest is None:
            self._listen(False)
            return False
        self._late += oldest.half_sent
        self._close(oldest)
        return True

    def _listen(self, whether: bool) -> None:
        if self._listener is not None and self._listening is not whether:
            self._listening = whether
            if whether:
                self._selector.register(self._listener, selectors.EVENT_READ, None)
            else:
                self._selector.unregister(self._listener)

    def _out(self, connection: Connection, data: bytes, keep: bool) -> bool:
        """Send an answer. True when the connection is ready for the next request."""
        connection.busy = False
        connection.closing = connection.closing or not keep
        if connection.closed:
            return False
        if not connection.send(data):
            self._close(connection)
            return False
        self._connections[connection] = self._connections.pop(connection)  # the last to go
        return self._settled(connection)

    def _settled(self, connection: Connection) -> bool:
        """After writing: wait for room, part, or go on (True)."""
        if connection.sending:
            self._watch(connection, selectors.EVENT_WRITE)
            return False
        if not connection.closing:
            self._watch(connection, selectors.EVENT_READ)
            return True
        if connection.refusal is None:
            self._close(connection)
            return False
        with suppress(OSError):
            connection.sock.shutdown(socket.SHUT_WR)
        connection.deadline = time.monotonic() + http1.LINGER_SECONDS
        self._watch(connection, selectors.EVENT_READ)
        return False

    def _watch(self, connection: Connection, events: int) -> None:
        if connection.watched == events:
            return
        if not events:
            self._selector.unregister(connection.sock)
        elif connection.watched:
            self._selector.modify(connection.sock, events, connection)
        else:
            self._selector.register(connection.sock, events, connection)
        connection.watched = events

    def _close(self, connection: Connection) -> None:
        self._watch(connection, 0)
        connection.end()
        self._connections.pop(connection, None)
        self._listen(True)

    def _drop(self, me: object, connection: Connection) -> None:
        """While an exception is handled: it is about this connection, and the others go on."""
        log.exception("a mistake of the web server, which ends one connection")
        if self._leader is me and not connection.closed:
            connection.busy = False
            self._close(connection)

    def _sweep(self) -> None:
        """Once a second: end what has had its time."""
        now = time.monotonic()
        if now < self._sweep_at:
            return
        self._sweep_at = now + 1.0
        self._listen(True)
        for connection in [one for one in self._connections if one.deadline < now and not one.busy]:
            if not connection.sending:
                self._late += connection.late()
            if connection.sending or connection.refusal is None or connection.closing:
                self._close(connection)
            else:
                self._refuse(connection)
        if self._late and now >= self._late_at:
            number, self._late, self._late_at = self._late, 0, now + LATE_SECONDS
            self._tell_late(number)

    def _drained(self) -> bool:
        """Whether everything is answered. Connections that rest end at once, those that were just used soon."""
        now = time.monotonic()
        if self._listener is not None:
            self._stop_at = now + DRAIN_SECONDS
            while self._accept():  # they were promised an answer
                pass
            self._listen(False)
            self._listener.close()
            self._listener = None
            return False  # what they sent is read first
        graceful = now - (self._stop_at - DRAIN_SECONDS) < GRACE_SECONDS
        for connection in [one for one in self._connections if one.resting]:
            fresh = not connection.last or now - connection.last < 1.0 + GRACE_SECONDS
            if not (graceful and fresh):
                self._close(connection)
        return not self._connections or now >= self._stop_at
