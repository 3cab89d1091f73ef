"""Where the key-value store is: the grammar of `key_value`, for whoever checks it and for whoever connects.

    redis://user:password@host:6379/0        one server; rediss:// with TLS
    unix:///socket                           one server on this machine
    redis+sentinel://host:port,host/service  the primary that these Sentinels name; rediss+sentinel:// with TLS
    redis+cluster://host:port,host           a cluster, found through any of these; rediss+cluster:// with TLS

Options, as `?name=value&...`: with TLS `ca_bundle`, `certificate` and `key` (files); `replicas`, how many replicas must
have a one-time step before it counts; with Sentinel `sentinel_username`, `sentinel_password` and `db`; with unix `db`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qsl, unquote, urlsplit

from broker.core.values import Secret

PORT, SENTINEL_PORT = 6379, 26379
EXAMPLES = "embedded, redis://host, rediss://host, unix:///socket, redis+sentinel://host,host/service or redis+cluster://host,host"


class Kind(StrEnum):
    SERVER = "server"
    SOCKET = "socket"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A key-value store, as it was named."""

    kind: Kind
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    """Of a socket."""
    service: str = ""
    """What the Sentinels call it."""
    database: int = 0
    username: str | None = None
    password: Secret | None = None
    sentinel_username: str | None = None
    sentinel_password: Secret | None = None
    tls: bool = False
    ca_bundle: str | None = None
    certificate: str | None = None
    key: str | None = None
    replicas: int | None = None
    """How many replicas must have acknowledged a one-time step; None: one, as long as one is attached."""


_KINDS = {
    "redis": (Kind.SERVER, False),
    "rediss": (Kind.SERVER, True),
    "unix": (Kind.SOCKET, False),
    "redis+sentinel": (Kind.SENTINEL, False),
    "rediss+sentinel": (Kind.SENTINEL, True),
    "redis+cluster": (Kind.CLUSTER, False),
    "rediss+cluster": (Kind.CLUSTER, True),
}
_FILES = ("ca_bundle", "certificate", "key")


def parse_store_address(value: str) -> StoreAddress:
    """Raises `ValueError` with what is wrong and what would be right; nothing of a password is in it."""
    try:
        parts = urlsplit(value)
    except ValueError:
        raise ValueError(f"is not an address; {EXAMPLES} would be right") from None
    if parts.scheme not in _KINDS:
        raise ValueError(f"is not a key-value store we know; {EXAMPLES} would be right")
    kind, tls = _KINDS[parts.scheme]
    login, _, hosts = parts.netloc.rpartition("@")
    name, colon, secret = login.partition(":")
    options = _options(kind, tls, parts.query)
    path, service, database = unquote(parts.path), "", options.get("db", "0")
    if kind is Kind.SERVER and path.strip("/"):
        database, path = path.strip("/"), ""
    elif kind is Kind.SENTINEL:
        service, path = path.strip("/"), ""
        if not service or "/" in service:
            raise ValueError("names no service; redis+sentinel://host,host/service would be right")
    elif kind is Kind.CLUSTER and path.strip("/"):
        raise ValueError("names a database, and a cluster has one only; redis+cluster://host,host would be right")
    if kind is Kind.SOCKET and (hosts or not path.strip("/")):
        raise ValueError("names no socket; unix:///run/valkey.sock would be right")
    return StoreAddress(
        kind,
        hosts=() if kind is Kind.SOCKET else _hosts(kind, hosts),
        path=path if kind is Kind.SOCKET else "",
        service=service,
        database=_number(database, "database", 0, 9999),
        username=unquote(name) or None,
        password=Secret(unquote(secret)) if colon and secret else None,
        sentinel_username=options.get("sentinel_username"),
        sentinel_password=Secret(options["sentinel_password"]) if "sentinel_password" in options else None,
        tls=tls,
        replicas=_number(options["replicas"], "number of replicas", 0, 9) if "replicas" in options else None,
        **{file: options.get(file) for file in _FILES},
    )


def _hosts(kind: Kind, text: str) -> tuple[tuple[str, int], ...]:
    found = []
    for one in text.split(","):
        try:
            place = urlsplit(f"//{one}")
            host, port = place.hostname, place.port
        except ValueError:
            host, port = None, None
        if not host or place.path or place.query:
            raise ValueError("names no host, or a port that is none; redis://host:6379 would be right")
        found.append((host, port or (SENTINEL_PORT if kind is Kind.SENTINEL else PORT)))
    if kind is Kind.SERVER and len(found) > 1:
        raise ValueError(
            "names several hosts; redis+sentinel://host,host/service or redis+cluster://host,host is for that"
        )
    return tuple(found)


def _options(kind: Kind, tls: bool, query: str) -> dict[str, str]:
    known = {"replicas"}
    known |= set(_FILES) if tls else set()
    known |= {"sentinel_username", "sentinel_password", "db"} if kind is Kind.SENTINEL else set()
    known |= {"db"} if kind is Kind.SOCKET else set()
    options = dict(parse_qsl(query, keep_blank_values=True))
    if options.keys() - known:
        raise ValueError(f"has an option that we do not know here; {', '.join(sorted(known))} are known")
    if any(not option for option in options.values()):
        raise ValueError("has an option without a value")
    for file in _FILES:
        if not options.get(file, "/").startswith("/"):
            raise ValueError(f"has a {file} that does not begin with a slash; an absolute path would be right")
    if ("key" in options) > ("certificate" in options):
        raise ValueError("has a key without a certificate; certificate=/path&key=/path would be right")
    return options


def _number(text: str, what: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and least <= int(text) <= most):
        raise ValueError(f"has a {what} that is none; {least} to {most} would be right")
    return int(text)
