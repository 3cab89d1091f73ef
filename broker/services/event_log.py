"""One JSON event a line on standard error, for processes that are ours; a host application keeps its own logging:
events go to its structlog where it configured that, else to the standard `logging`, never to its standard output.

No request waits for the log: lines go through a short queue to a thread, and are dropped and counted when nobody reads
them (docs/decisions/events-and-stories.md).
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from queue import SimpleQueue
from typing import Any

import structlog

from broker.core.values import Secret
from broker.core.watching import NO_METER, Meter

WAITING = 2000
"""Lines that may wait to be written: about a megabyte."""
TOGETHER = 100
AGAIN = 1.0
"""Seconds until the next try after a line could not be written."""
LAST_WORDS = 1.0
"""Seconds that the end of the process waits for what is still to be written."""

MASK = "***"
_SECRET_KEY = re.compile(r"passw|secret|token|ticket|cookie|authorization|credential|verifier|private|session_id", re.I)
_HARMLESS = frozenset({"token_type", "ticket_state"})
_to_json = json.JSONEncoder(default=str).encode
"""Made once: `json.dumps` with an argument makes an encoder for each line."""
_IN_TEXT = re.compile(
    r"(?P<name>\b(?:ticket|code|state|nonce|[\w]*token|[\w]*token_hint|password|[\w]*secret|code_verifier|assertion)=)"
    r"[^&\s\"'#]+"
    r"|(?P<place>://)[^/\s@]+@"
    r"|\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)*"
    r"|\$argon2\w*\$[^\s\"']+"
)


class Pen:
    """Writes lines to a file descriptor from a thread of its own."""

    def __init__(self, descriptor: int, waiting: int = WAITING, lost: Callable[[int], None] = lambda _: None) -> None:
        """`lost` is called with the number of lines that will never be read."""
        self._descriptor = descriptor
        self._lost = lost
        self._limit = waiting
        self.dropped = 0
        """Lines that were lost and not reported yet."""
        self._fresh()
        os.register_at_fork(after_in_child=self._fresh)

    def _fresh(self) -> None:
        self._queue: SimpleQueue[str | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._stopped = threading.Event()

    def write(self, line: str) -> None:
        """Never blocks, never raises."""
        if self._queue.qsize() >= self._limit:
            self._lose(1)
            return
        self._queue.put(line)
        if self._thread is None:
            self._start()

    def _lose(self, lines: int) -> None:
        self.dropped += lines
        self._lost(lines)

    def close(self) -> None:
        """Write what waits, within a second."""
        thread = self._thread
        if thread is not None:
            self._stopped.set()
            self._queue.put(None)
            thread.join(LAST_WORDS)

    def _start(self) -> None:
        with self._starting:
            # At the very end of a process no thread can be started any more.
            if self._thread is None:
                with suppress(RuntimeError):
                    thread = threading.Thread(target=self._run, name="event-log", daemon=True)
                    thread.start()
                    self._thread = thread

    def _run(self) -> None:
        while True:
            lines = [self._queue.get()]
            while len(lines) < TOGETHER and not self._queue.empty():
                lines.append(self._queue.get())
            texts = [line for line in lines if line is not None]
            if self.dropped:
                dropped, self.dropped = self.dropped, 0
                if not self._put([json.dumps({"level": "warning", "event": "events.dropped", "count": dropped})]):
                    self.dropped += dropped
            if texts and not self._put(texts):
                self._lose(len(texts))
                self._stopped.wait(AGAIN)
            if len(texts) < len(lines):
                return

    def _put(self, lines: list[str]) -> bool:
        rest = ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:  # a full disk, a closed pipe: the event is lost, not the request
            return False
        return True


class Lines:
    """What structlog writes to."""

    def __init__(self, pen: Pen) -> None:
        self._pen = pen

    def msg(self, message: str) -> None:
        self._pen.write(message)

    log = debug = info = warn = warning = fatal = failure = err = error = critical = exception = msg


class Heard(logging.Handler):
    """What libraries and the web server have to say, as events like all others."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):  # a broken message of somebody's never breaks a request
            facts = {"logger": record.name, "said": record.getMessage()}
            if record.exc_info:
                facts["traceback"] = logging.Formatter().formatException(record.exc_info)
            structlog.get_logger("homerealm").log(record.levelno, "server.said", **facts)


_meter: Meter = NO_METER


def count_losses(meter: Meter) -> None:
    """From now on the lines that this process loses are a number, too: a log that is lost cannot say so itself."""
    global _meter  # noqa: PLW0603 - a process has one log and one meter
    _meter = meter


def configure() -> None:
    """Set structlog up for this process: JSON, UTC times, tracebacks as text, secrets never."""
    pen = Pen(sys.stderr.fileno(), lost=lambda lines: _meter.count("events_dropped", amount=lines))
    atexit.register(pen.close)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact,
            structlog.processors.JSONRenderer(lambda event, **_: _to_json(event)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=lambda *_: Lines(pen),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    if not any(isinstance(handler, Heard) for handler in root.handlers):
        root.addHandler(Heard(logging.WARNING))


class Voice:
    """A logger of structlog's, or of the standard library as long as nobody has configured structlog: it would print
    to the standard output of whatever app we are in."""

    def __init__(self, name: str) -> None:
        self._configured = structlog.get_logger(name)
        self._plain = structlog.wrap_logger(
            logging.getLogger(name),
            processors=[structlog.processors.format_exc_info, redact, structlog.processors.JSONRenderer(default=str)],
            wrapper_class=structlog.make_filtering_bound_logger("info"),
        )

    def __getattr__(self, level: str) -> Any:
        return getattr(self._configured if structlog.is_configured() else self._plain, level)


def logger(name: str) -> Any:
    """What says the events of one part, wherever it runs."""
    return Voice(name)


def redact(_logger: Any, _method: str, event: Any) -> Any:
    """By type, by key, and in texts: addresses with a secret, signed tokens, hashes (SECURITY 19)."""
    return {key: _masked(key, value) for key, value in event.items()}


@lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None and key not in _HARMLESS


def _masked(key: str, value: Any) -> Any:
    if isinstance(value, Secret) or _is_secret(key):
        return MASK
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, dict):
        return {name: _masked(str(name), one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(key, one) for one in value]
    return value


def without_secrets(text: str) -> str:
    """A text for an operator's eyes, also where somebody quoted an address or a token in it."""
    if "=" not in text and "://" not in text and "eyJ" not in text and "$argon2" not in text:
        return text
    return _IN_TEXT.sub(lambda found: f"{found['name'] or found['place'] or ''}{MASK}{'@' if found['place'] else ''}",
                        text)  # fmt: skip
