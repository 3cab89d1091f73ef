"""Which server a command goes to: the only one, the one that Sentinels name, or the owner of its key's slot."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from redis import connection as redis_py
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as Broken
from redis.exceptions import TimeoutError as TooSlow
from redis.retry import Retry

from broker.core.store_address import Kind, StoreAddress
from broker.core.values import Secret
from broker.stores.kv.line import EVAL, EVALSHA, Command, Server

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 2.0
SENTINEL_SECONDS = 0.5
"""To connect to a Sentinel, and to hear from it: there are others."""
HOPS = 5
"""How often nodes of a cluster may send a command on."""

Host = tuple[str, int]


class Route(Protocol):
    spread: bool
    """Whether keys lie on several servers: then the keys of a script must share a hash tag."""

    def exchange(self, commands: Sequence[Command], *, once: bool = False) -> list[Any]:
        """As `Server.exchange`; one round trip for each server that has something to do with them."""

    def everywhere(self, command: Command) -> dict[str, Any]:
        """A command without a key, asked of every server that owns keys: its name and what it answered."""

    def close(self) -> None: ...


def route_to(address: StoreAddress) -> Route:
    """Connects with the first command."""
    match address.kind:
        case Kind.SENTINEL:
            return Watched(address)
        case Kind.CLUSTER:
            return Cluster(address)
        case Kind.SOCKET:
            return Alone(address.path, Server(_over_socket(address), ANSWER_SECONDS, address.replicas or 0))
        case Kind.SERVER:
            return Alone(name_of(address.hosts[0]), _server(address, address.hosts[0], address.replicas or 0))


class Alone:
    """One server, always the same."""

    spread = False

    def __init__(self, name: str, server: Server) -> None:
        self._name, self._server = name, server
        self.exchange = server.exchange
        self.close = server.close

    def everywhere(self, command: Command) -> dict[str, Any]:
        return {self._name: self._server.exchange([command])[0]}


class Watched:
    """The primary that Sentinels name, as long as it says so itself; another one after a failover."""

    spread = False

    def __init__(self, address: StoreAddress) -> None:
        self._address = address
        self._sentinels = [_sentinel(address, host) for host in address.hosts]
        self._finding = threading.Lock()
        self._failed = 0.0
        self._primary: tuple[str, Server] | None = None

    def exchange(self, commands: Sequence[Command], *, once: bool = False) -> list[Any]:
        return self._ask(self._primary or self._find(), commands, once)

    def everywhere(self, command: Command) -> dict[str, Any]:
        primary = self._primary or self._find()
        return {primary[0]: self._ask(primary, [command], False)[0]}

    def close(self) -> None:
        for server in [*self._sentinels, *([self._primary[1]] if self._primary else [])]:
            server.close()

    def _ask(self, primary: tuple[str, Server], commands: Sequence[Command], once: bool) -> list[Any]:
        try:
            return primary[1].exchange(commands, once=once)
        except (Broken, TooSlow, OSError):
            self._forget(primary)
            raise

    def _forget(self, primary: tuple[str, Server]) -> None:
        if self._primary is primary:
            self._primary = None
        primary[1].retire()

    def _find(self) -> tuple[str, Server]:
        came = time.monotonic()
        with self._finding:
            if self._primary is not None:  # found by another thread meanwhile
                return self._primary
            if self._failed > came:  # or not, which takes long where nobody answers: threads would wait in a row
                raise Broken("the primary was not found just now")
            last: Exception = Broken("no Sentinel knows the service")
            for sentinel in tuple(self._sentinels):
                try:
                    told = sentinel.exchange([("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._address.service)])[0]
                    if isinstance(told, RedisError):
                        raise told
                    if told is None:
                        continue
                    host = told[0].decode(), int(told[1])
                    server = self._primary_at(host)
                except (RedisError, OSError) as error:
                    last = error
                    continue
                # The one that knew is asked first the next time.
                self._sentinels = [sentinel, *(one for one in self._sentinels if one is not sentinel)]
                self._primary = name_of(host), server
                return self._primary
            self._failed = time.monotonic()
            raise last

    def _primary_at(self, host: Host) -> Server:
        """Raises `Broken` where it is none (yet), and as `Server.exchange`."""
        server = _server(self._address, host, self._address.replicas)
        role = server.exchange([("ROLE",)])[0]
        if not isinstance(role, RedisError) and role[0] == b"master":
            return server
        server.retire()
        raise role if isinstance(role, RedisError) else Broken(f"{name_of(host)} is not the primary yet")


class Cluster:
    """The owner of each key's slot. What moves is followed; the table of owners is read anew when something moved."""

    spread = True

    def __init__(self, address: StoreAddress) -> None:
        from redis.crc import key_slot  # it brings more with it than others need

        self._slot: Callable[[bytes], int] = key_slot
        self._address = address
        self._servers: dict[Host, Server] = {}
        self._owners: dict[int, Host] = {}
        self._stale = True
        self._reading = threading.Lock()
        self._failed = 0.0

    def exchange(self, commands: Sequence[Command], *, once: bool = False) -> list[Any]:
        if self._stale:
            self._read()
        answers: list[Any] = [None] * len(commands)
        waiting = [(at, self._owner(command), False) for at, command in enumerate(commands)]
        for _ in range(HOPS):
            moved: list[tuple[int, Host, bool]] = []
            for host in dict.fromkeys(host for _, host, _ in waiting):
                mine = [(at, asking) for at, to, asking in waiting if to == host]
                for at, answer in zip((at for at, _ in mine), self._ask(host, mine, commands, once), strict=True):
                    answers[at] = answer
                    if isinstance(answer, MovedError):
                        self._owners[answer.slot_id] = self._told(answer, host)
                        self._stale = True
                        moved.append((at, self._told(answer, host), False))
                    elif isinstance(answer, AskError):
                        moved.append((at, self._told(answer, host), True))
                    elif isinstance(answer, (ClusterDownError, TryAgainError)):
                        self._stale = True
                        raise Broken(f"{name_of(host)}: {answer}")
            if not moved:
                return answers
            waiting = moved
        raise Broken("the nodes of the cluster send a command round in a circle")

    def everywhere(self, command: Command) -> dict[str, Any]:
        self._read()
        hosts = dict.fromkeys(self._owners.values())
        return {name_of(host): self._ask(host, [(0, False)], [command], False)[0] for host in hosts}

    def close(self) -> None:
        for server in tuple(self._servers.values()):
            server.close()

    def _ask(self, host: Host, mine: Sequence[tuple[int, bool]], commands: Sequence[Command], once: bool) -> list[Any]:
        sent: list[Command] = []
        for at, asking in mine:
            sent += [("ASKING",), commands[at]] if asking else [commands[at]]
        try:
            answers = iter(self._server(host).exchange(sent, once=once))
        except (Broken, TooSlow, OSError):
            self._stale = True
            raise
        return [(next(answers), next(answers))[1] if asking else next(answers) for _, asking in mine]

    def _owner(self, command: Command) -> Host:
        """Raises `Broken` for a slot that nobody owns now, `ValueError` for a script over several slots."""
        count = int(command[2]) if command[0] in (EVALSHA, EVAL) else 0
        keys = command[3 : 3 + count] if count else command[1:2]
        slots = {self._slot(cast("bytes", key)) for key in keys}
        if len(slots) != 1:
            raise ValueError(f"the keys of a {command[0]!r} lie in {len(slots)} slots of the cluster")
        owner = self._owners.get(slots.pop())
        if owner is None:
            self._stale = True
            raise Broken("nobody owns this part of the cluster now")
        return owner

    def _told(self, answer: AskError, host: Host) -> Host:
        """Where an answer sends us; an address without a host is on the host that gave it."""
        return (answer.host or host[0], answer.port)

    def _server(self, host: Host) -> Server:
        server = self._servers.get(host)
        if server is None:
            server = self._servers.setdefault(host, _server(self._address, host, self._address.replicas))
        return server

    def _read(self) -> None:
        """Read the table of owners from whoever answers first. Raises what the last one raised."""
        came = time.monotonic()
        with self._reading:
            if not self._stale and self._owners:
                return
            if self._failed > came:
                raise Broken("the cluster was not found just now")
            last: Exception = Broken("no node of the cluster")
            for host in dict.fromkeys([*self._owners.values(), *self._address.hosts]):
                try:
                    table = self._server(host).exchange([("CLUSTER", "SLOTS")])[0]
                    if isinstance(table, RedisError):
                        raise table
                except (RedisError, OSError) as error:
                    last = error
                    continue
                owners: dict[int, Host] = {}
                for first, end, primary, *_ in table:
                    owner = ((primary[0] or b"").decode() or host[0], int(primary[1]))
                    owners.update(dict.fromkeys(range(first, end + 1), owner))
                self._owners, self._stale = owners, False
                for gone in self._servers.keys() - set(owners.values()) - set(self._address.hosts):
                    self._servers.pop(gone).retire()
                return
            self._failed = time.monotonic()
            raise last


def name_of(host: Host) -> str:
    return f"[{host[0]}]:{host[1]}" if ":" in host[0] else f"{host[0]}:{host[1]}"


def _server(address: StoreAddress, host: Host, replicas: int | None) -> Server:
    return Server(_maker(address, host, _login(address)), ANSWER_SECONDS, replicas)


def _sentinel(address: StoreAddress, host: Host) -> Server:
    login = _login(address) | {
        "username": address.sentinel_username,
        "password": _text(address.sentinel_password),
        "db": 0,
        "socket_connect_timeout": SENTINEL_SECONDS,
        "socket_timeout": SENTINEL_SECONDS,
    }
    return Server(_maker(address, host, login), SENTINEL_SECONDS)


def _maker(address: StoreAddress, host: Host, login: dict[str, Any]) -> Callable[[], Any]:
    plain: Any = redis_py.Connection
    if not address.tls:
        return lambda: plain(host=host[0], port=host[1], **login)
    return lambda: redis_py.SSLConnection(
        host=host[0],
        port=host[1],
        ssl_ca_certs=address.ca_bundle,
        ssl_certfile=address.certificate,
        ssl_keyfile=address.key,
        ssl_check_hostname=True,
        **login,
    )


def _over_socket(address: StoreAddress) -> Callable[[], Any]:
    local: Any = redis_py.UnixDomainSocketConnection
    return lambda: local(path=address.path, **_login(address))


def _login(address: StoreAddress) -> dict[str, Any]:
    return {
        "username": address.username,
        "password": _text(address.password),
        "db": address.database,
        # RESP2: nothing comes that was not asked for.
        "protocol": 2,
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": ANSWER_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "driver_info": None,  # nothing about ourselves, and one round trip less
    }


def _text(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()
