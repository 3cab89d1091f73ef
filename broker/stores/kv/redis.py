"""One client of the Redis protocol, and what happens when an answer is lost. The only module that imports redis.

redis-py repeats a command ten times by default, whatever the command: a one-time take whose answer was lost is then
done twice and comes back empty, and a good login is refused. Here nothing is repeated inside redis-py. What is
repeated by us, is safe to repeat: reads, plain writes, and scripts that know their caller by a nonce.

Its connections are used without its client and pool, which take longer than the server does for a small command
(docs/decisions/hot-paths.md).
"""

from __future__ import annotations

import itertools
import os
import time
from base64 import urlsafe_b64encode
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoScriptError, RedisError, ResponseError
from redis.exceptions import ConnectionError as Broken
from redis.exceptions import TimeoutError as TooSlow
from redis.retry import Retry

from broker.core.errors import ConfigurationError, Unavailable
from broker.stores.kv.scripts import COUNT, PUT_ABSENT, SWAP, TAKE, Script

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 2.0
REPEAT_SECONDS = 1.5
"""How long a command is repeated before we give up: a supervised server is back in a fraction of it."""
DOWN_SECONDS = 2.0
"""After giving up once, how long further commands are tried a single time: waiting threads would pile up."""
MEMORY = timedelta(seconds=30)
"""How long the result of a one-time operation is remembered for a caller whose answer was lost."""

T = TypeVar("T")
Part = str | bytes | int | float


class RedisKeyValue:
    """Implements `broker.core.ports.KeyValue`; the stores beside it use `run`, `batch` and `nonce` as well.

    May be used by many threads, and after a fork (the connections and the nonces start anew in the child).
    """

    def __init__(self, client: redis.Redis) -> None:
        self._pool = client.connection_pool
        self._idle: deque[Any] = deque()
        self._process = os.getpid()
        self._down_until = 0.0
        self._nonces = _Nonces()

    @classmethod
    def connect(cls, url: str) -> RedisKeyValue:
        """`redis://`, `rediss://` or `unix:///path`. Connects with the first command.

        Raises `ConfigurationError` for an address that is none.
        """
        scheme = urlsplit(url).scheme
        if scheme not in ("redis", "rediss", "unix"):
            raise ConfigurationError([f"key_value: {scheme or 'an address without a scheme'} is not supported; "
                                      "redis://, rediss:// or unix:// are"])  # fmt: skip
        try:
            client = redis.Redis.from_url(
                url,
                decode_responses=False,
                # RESP2: with version 3 redis-py does not notice that a pooled connection was closed meanwhile.
                protocol=2,
                socket_connect_timeout=CONNECT_SECONDS,
                socket_timeout=ANSWER_SECONDS,
                retry=Retry(NoBackoff(), 0),
                health_check_interval=0,
                driver_info=None,  # nothing about ourselves, and one round trip less
            )
        except (ValueError, RedisError) as error:
            raise ConfigurationError([f"key_value: {error}"]) from None
        return cls(client)

    def get(self, key: str) -> bytes | None:
        value: bytes | None = self._repeat(lambda: self._exchange(("GET", _raw(key))))
        return value

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """In the order of the keys. For a few dozen keys."""
        return self.batch([("GET", key) for key in keys]) if keys else []

    def put(self, key: str, value: bytes, ttl: timedelta, *, only_if_absent: bool = False) -> bool:
        if only_if_absent:
            return bool(
                self.run(
                    PUT_ABSENT,
                    [key, _beside(key, "by")],
                    [self.nonce(), milliseconds(MEMORY), value, milliseconds(ttl)],
                )
            )
        self._repeat(lambda: self._exchange(("SET", _raw(key), value, "PX", milliseconds(ttl))))
        return True

    def swap(self, key: str, old: bytes, new: bytes, ttl: timedelta) -> bool:
        arguments: list[Part] = [self.nonce(), milliseconds(MEMORY), old, new, milliseconds(ttl)]
        return bool(self.run(SWAP, [key, _beside(key, "by")], arguments))

    def take(self, key: str) -> bytes | None:
        value: bytes | None = self.run(TAKE, [key, _beside(key, "taken")], [self.nonce(), milliseconds(MEMORY)])
        return value

    def delete(self, *keys: str) -> None:
        if keys:
            self.batch([("DEL", key) for key in keys])

    def count(self, key: str, ttl: timedelta) -> int:
        """When an answer was lost, one attempt may be counted twice; never less than happened."""
        return int(self.run(COUNT, [key], [milliseconds(ttl)]))

    def ping(self) -> None:
        """Tried once. Raises `Unavailable`."""
        try:
            self._exchange(("PING",))
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error

    def close(self) -> None:
        """Give the connections back; they are opened again where somebody goes on."""
        while self._idle:
            self._idle.pop().disconnect()

    def nonce(self) -> str:
        """Unique to one operation of one process, for a script to know its caller again. Not a secret."""
        return self._nonces.next()

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Part]) -> Any:
        """One script, one round trip. It must be safe to repeat. Raises `Unavailable`."""

        operands = [_raw(key) for key in keys] + [_raw(argument) for argument in arguments]

        def call() -> Any:
            try:
                return self._exchange(("EVALSHA", script.sha, len(keys), *operands))
            except NoScriptError:  # the server was restarted, or never saw it
                return self._exchange(("EVAL", script.text, len(keys), *operands))

        return self._repeat(call)

    def batch(self, commands: Sequence[tuple[Part, ...]]) -> list[Any]:
        """Plain commands in one round trip, each on its own; they must be safe to repeat. Raises `Unavailable`."""

        raw = [tuple(map(_raw, command)) for command in commands]
        return self._repeat(lambda: self._exchange_all(raw))

    def _exchange(self, command: tuple[Part, ...]) -> Any:
        return self._exchange_all((command,))[0]

    def _exchange_all(self, commands: Sequence[tuple[Part, ...]]) -> list[Any]:
        """Send commands and read their answers. Raises what redis-py raises, for the first that failed."""
        connection = self._connection()
        try:
            connection.send_packed_command(connection.pack_commands(commands))
            answers = [_answer(connection) for _ in commands]
        except BaseException:
            # There may be answers left in it, which would become somebody else's.
            connection.disconnect()
            raise
        self._idle.append(connection)
        for answer in answers:
            if isinstance(answer, ResponseError):
                raise answer
        return answers

    def _connection(self) -> Any:
        """One for this caller alone: the one that was used last, else a new one."""
        if self._process != os.getpid():
            self._idle, self._process = deque(), os.getpid()
        try:
            connection: Any = self._idle.pop()
        except IndexError:
            connection = self._pool.make_connection()
        else:
            try:
                if not connection.can_read():
                    return connection
            except (RedisError, OSError):
                pass  # the server closed it
            # Closed, or it says something that nobody asked for: an answer of it could be anybody's.
            connection.disconnect()
        connection.connect()
        return connection

    def _repeat(self, operation: Callable[[], T]) -> T:
        started, pause = time.monotonic(), 0.01
        while True:
            try:
                result = operation()
            except AuthenticationError as error:
                raise _unavailable(error) from error
            except (Broken, TooSlow, OSError) as error:
                now = time.monotonic()
                if now + pause > started + REPEAT_SECONDS or started < self._down_until:
                    self._down_until = now + DOWN_SECONDS
                    raise _unavailable(error) from error
                time.sleep(pause)
                pause *= 2
            except RedisError as error:
                raise _unavailable(error) from error
            else:
                if self._down_until:
                    self._down_until = 0.0
                return result


def _answer(connection: Any) -> Any:
    """One answer; an error that the server answers is a value here, since the answers behind it are still to come."""
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


class _Nonces:
    """The operating system's randomness, not `Entropy`: two processes with the same seed must still differ."""

    def __init__(self) -> None:
        self._series = (0, "", itertools.count())

    def next(self) -> str:
        process, root, counter = self._series
        if process != os.getpid():  # at first, and after a fork
            root, counter = urlsafe_b64encode(os.urandom(9)).decode("ascii"), itertools.count()
            self._series = (os.getpid(), root, counter)  # at once: threads never see half of it
        return f"{root}{next(counter):x}"


def milliseconds(span: timedelta) -> int:
    """For PX: at least 1, which is what is left of a time that has passed."""
    return max(1, span // timedelta(milliseconds=1))


def _beside(key: str, suffix: str) -> str:
    """A key in the same hash slot: a key without a tag hashes as if all of it were one."""
    return f"{key}:{suffix}" if "{" in key else f"{{{key}}}:{suffix}"


def _raw(part: Part) -> Part:
    """Text as bytes: keys hold what clients sent, which no strict encoding allows and which must not be a crash."""
    return part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part


def _unavailable(error: Exception) -> Unavailable:
    return Unavailable(f"the key-value store: {type(error).__name__}: {error}")
