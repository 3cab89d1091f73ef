"""One client of the Redis protocol, and what happens when an answer is lost.

redis-py repeats a command ten times by default, whatever the command: a one-time take whose answer was lost is then
done twice and comes back empty, and a good login is refused. Here nothing is repeated inside redis-py. What is
repeated by us, is safe to repeat: reads, plain writes, and scripts that know their caller by a nonce.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

from redis.exceptions import AuthenticationError, NoScriptError, RedisError
from redis.exceptions import ConnectionError as Broken
from redis.exceptions import TimeoutError as TooSlow

from broker.core.errors import ConfigurationError, Unavailable
from broker.core.ports import Rider, Vault
from broker.core.store_address import Kind, parse_store_address
from broker.stores.kv.line import EVAL, EVALSHA, Command, Part
from broker.stores.kv.routes import Route, route_to
from broker.stores.kv.scripts import BY_SHA, COUNT, PUT_ABSENT, SWAP, TAKE, Script

REPEAT_SECONDS = 1.5
"""How long a command is repeated before we give up: a supervised server is back in a fraction of it. One that is there
and does not answer has taken longer than this already, and is not asked again."""
DOWN_SECONDS = 2.0
"""After giving up once, how long further commands are tried a single time: waiting threads would pile up."""
MEMORY = timedelta(seconds=30)
"""How long the result of a one-time operation is remembered for a caller whose answer was lost."""


class RedisKeyValue:
    """Implements `broker.core.ports.KeyValue`; the stores beside it use `run`, `batch` and `nonce` as well.

    May be used by many threads, and after a fork (the connections and the nonces start anew in the child).
    """

    def __init__(self, route: Route, replicas: int | None = 0) -> None:
        self.route = route
        self.replicas = replicas
        self.spread = route.spread
        self._down_until = 0.0
        self._nonces = _Nonces()

    @classmethod
    def connect(cls, url: str) -> RedisKeyValue:
        """An address as `broker.core.store_address` has them. Connects with the first command.

        Raises `ConfigurationError` for an address that is none.
        """
        try:
            address = parse_store_address(url)
        except ValueError as error:
            raise ConfigurationError([f"key_value: {error}"]) from None
        alone = address.kind in (Kind.SERVER, Kind.SOCKET)
        return cls(route_to(address), (address.replicas or 0) if alone else address.replicas)

    def get(self, key: str) -> bytes | None:
        value: bytes | None = self._repeat([("GET", _named(key))])[0]
        return value

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """In the order of the keys. For a few dozen keys."""
        return self.batch([("GET", _named(key)) for key in keys]) if keys else []

    def put(self, key: str, value: bytes, ttl: timedelta, *, only_if_absent: bool = False) -> bool:
        if only_if_absent:
            return bool(
                self.run(
                    PUT_ABSENT,
                    [key, _beside(key, "by")],
                    [self.nonce(), milliseconds(MEMORY), value, milliseconds(ttl)],
                )
            )
        self._repeat([("SET", _named(key), value, "PX", milliseconds(ttl))])
        return True

    def swap(self, key: str, old: bytes, new: bytes, ttl: timedelta) -> bool:
        arguments: list[Part] = [self.nonce(), milliseconds(MEMORY), old, new, milliseconds(ttl)]
        return bool(self.run(SWAP, [key, _beside(key, "by")], arguments))

    def take(self, key: str) -> bytes | None:
        value: bytes | None = self.run(TAKE, [key, _beside(key, "taken")], [self.nonce(), milliseconds(MEMORY)])
        return value

    def delete(self, *keys: str) -> None:
        if keys:
            self.batch([("DEL", _named(key)) for key in keys])

    def count(self, key: str, ttl: timedelta) -> int:
        """When an answer was lost, one attempt may be counted twice; never less than happened."""
        return int(self.run(COUNT, [key], [milliseconds(ttl)]))

    def ping(self) -> None:
        """Tried once. Raises `Unavailable`."""
        try:
            self.route.everywhere(("PING",))
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error

    def close(self) -> None:
        """Give the connections back; they are opened again where somebody goes on."""
        self.route.close()

    def nonce(self) -> str:
        """Unique to one operation of one process, for a script to know its caller again. Not a secret."""
        return self._nonces.next()

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Part], also: Sequence[Rider] = ()) -> Any:
        """One script, one round trip. It must be safe to repeat, and so must what rides along. Raises `Unavailable`."""
        commands = [script_call(script, keys, arguments)]
        for rider in also:
            commands += cast("Sequence[Command]", rider)
        return self._repeat(commands, script.once)[0]

    def batch(self, commands: Sequence[Command], *, once: bool = False) -> list[Any]:
        """Plain commands in one round trip, each on its own; they must be safe to repeat. Raises `Unavailable`.

        `once`: a failover must not undo them.
        """
        return self._repeat([tuple(map(raw, command)) for command in commands], once)

    def everywhere(self, *command: Part) -> dict[str, Any]:
        """A command without a key, asked once of every server that owns keys. Raises `Unavailable`."""
        try:
            answers = self.route.everywhere(command)
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error
        for answer in answers.values():
            if isinstance(answer, RedisError):
                raise _unavailable(answer)
        return answers

    def _exchange(self, commands: Sequence[Command], once: bool) -> list[Any]:
        """One round trip; a second one for scripts that the server does not know (any more)."""
        answers = self.route.exchange(commands, once=once)
        unknown = [at for at, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            spelled = [_spelled_out(commands[at]) for at in unknown]
            for at, answer in zip(unknown, self.route.exchange(spelled, once=once), strict=True):
                answers[at] = answer
        for answer in answers:
            if isinstance(answer, RedisError):
                raise answer
        return answers

    def _repeat(self, commands: Sequence[Command], once: bool = False) -> list[Any]:
        started, pause = time.monotonic(), 0.01
        while True:
            try:
                answers = self._exchange(commands, once)
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
                return answers


def _spelled_out(command: Command) -> Command:
    return (EVAL, BY_SHA[cast("bytes", command[1])].text, *command[2:]) if command[0] == EVALSHA else command


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


def script_call(script: Script, keys: Sequence[str], arguments: Sequence[Part]) -> Command:
    """A script as one command."""
    said = [part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part for part in arguments]
    return (EVALSHA, script.sha, len(keys), *map(_named, keys), *said)


def milliseconds(span: timedelta) -> int:
    """For PX: at least 1, which is what is left of a time that has passed."""
    return max(1, span // timedelta(milliseconds=1))


def _beside(key: str, suffix: str) -> str:
    """A key in the same hash slot as `_named(key)`."""
    return f"{{{key}}}:{suffix}" if "}" not in key and key else f"{_tagged(key)}:{suffix}"


def _tagged(key: str) -> str:
    """A key that nothing can stand beside (it has a "}" and no hash tag, or is empty) gets another name."""
    start = key.find("{")
    if start >= 0 and key.find("}", start) > start + 1:
        return key
    return f"{{{hashlib.sha256(raw(key)).hexdigest()}}}"  # type: ignore[arg-type]


def _named(key: str) -> bytes:
    """The name of a key on the server."""
    return raw(key if "}" not in key and key else _tagged(key))  # type: ignore[return-value]


def digest(vault: Vault, secret: str) -> str:
    """What is stored of a secret of 256 random bits: 132 bits of its SHA-256, which nobody finds another secret for."""
    return vault.digest(secret)[:22]


def raw(part: Part) -> Part:
    """Text as bytes: keys hold what clients sent, which no strict encoding allows and which must not be a crash."""
    return part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part


def _unavailable(error: Exception) -> Unavailable:
    return Unavailable(f"the key-value store: {type(error).__name__}: {error}")
