"""Addresses resolved, checked and pinned (SECURITY 11): the network below services/fetcher, loaded when it is needed.

A configured or discovered address may point anywhere, also at a cloud's metadata service or at the database next door
(server-side request forgery; Capital One, 2019). So the address is looked at after it was resolved, and the very
address that was looked at is the one that is connected to: a second look-up could answer differently (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from socket import IPPROTO_TCP, SOCK_STREAM, gaierror, getaddrinfo
from typing import Any

import httpcore2
import httpx2

from broker.core.errors import ConfigurationError, ConnectionFailed
from broker.core.ports import Response
from broker.core.tenant import Egress

_KEEP_ALIVE = 4.0
_CHUNK = 16_384
_MOST_RESOLVING = 32

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Sequence[str]]
"""From a host name and a port to addresses. Raises `OSError`."""

# Public addresses that are not the public's: Azure answers platform requests of virtual machines there.
_PLATFORM = frozenset(map(ipaddress.ip_address, ("168.63.129.16",)))
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_V4_COMPATIBLE = ipaddress.IPv6Network("::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")


def resolve(host: str, port: int) -> Sequence[str]:
    """What the operating system answers, each address once, in its order."""
    try:
        found = getaddrinfo(host, port, type=SOCK_STREAM, proto=IPPROTO_TCP)
    except UnicodeError:
        raise gaierror(f"not a host name: {host!r}") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Refused(httpcore2.ConnectError):
    """The egress rules do not permit this address."""


class EgressRules:
    """Which addresses may be reached: public ones by https, and those of `egress.allow` by http as well."""

    def __init__(self, allow: Iterable[str] = ()) -> None:
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        self._names: set[str] = set()
        for entry in allow:
            try:
                self._networks.append(ipaddress.ip_network(entry.strip("[]"), strict=False))
            except ValueError:
                self._names.add(_name(entry))

    def choose(self, host: str, addresses: Sequence[str], secure: bool) -> list[str]:
        """The addresses to try. Raises `Refused` when a single one is not permitted.

        All of them, because an answer that mixes a public with a private address has no honest reason.
        """
        if not addresses:
            raise Refused(f"{host} has no address")
        if _name(host) in self._names:
            return list(addresses)
        for text in addresses:
            address = ipaddress.ip_address(text)
            if any(address in network or _effective(address) in network for network in self._networks):
                continue
            if not _is_public(address):
                raise Refused(f"{host} is at {address}, which is not a public address and not in egress.allow")
            if not secure:
                raise Refused(f"http to {host}, which is not in egress.allow: only https")
        return list(addresses)


def _name(host: str) -> str:
    return host.rstrip(".").lower()


def _effective(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, where it does (RFC 4291 2.5.5, RFC 6052)."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64 or address in _V4_COMPATIBLE:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: Address) -> bool:
    address = _effective(address)
    if isinstance(address, ipaddress.IPv6Address) and (
        # Everything that is routed is in 2000::/3; 6to4 and Teredo there are tunnels to any IPv4 address.
        address not in _GLOBAL_UNICAST or address.sixtofour is not None or address.teredo is not None
    ):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved and address not in _PLATFORM


class _Errand(threading.local):
    """What the connection below needs to know about the request above; both run in one thread."""

    deadline: float = 0.0
    secure: bool = True

    def remaining(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout("no complete answer in time")
        return left


class _Stream(httpcore2.NetworkStream):
    """Every read and write ends at the deadline of the request, so that a slow drip does not hold a thread."""

    def __init__(self, stream: httpcore2.NetworkStream, errand: _Errand) -> None:
        self._stream = stream
        self._errand = errand

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._errand.remaining())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._errand.remaining())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        upgraded = self._stream.start_tls(ssl_context, server_hostname, self._errand.remaining())
        return _Stream(upgraded, self._errand)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _PinnedBackend(httpcore2.NetworkBackend):
    """Resolves, checks, and connects to what was checked."""

    def __init__(self, rules: EgressRules, resolver: Resolver, errand: _Errand) -> None:
        self._rules = rules
        self._resolver = resolver
        self._errand = errand
        self._sockets = httpcore2.SyncBackend()
        self._resolving = threading.BoundedSemaphore(_MOST_RESOLVING)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        failure: Exception | None = None
        for address in self._rules.choose(host, self._resolve(host, port), self._errand.secure):
            try:
                stream = self._sockets.connect_tcp(
                    address, port, self._errand.remaining(), local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
            else:
                return _Stream(stream, self._errand)
        raise failure or httpcore2.ConnectError(f"{host} has no address")

    def _resolve(self, host: str, port: int) -> Sequence[str]:
        """getaddrinfo has no time limit of its own: it waits in a thread, which nobody waits for at the end."""
        answers: SimpleQueue[Sequence[str] | OSError] = SimpleQueue()

        def ask() -> None:
            try:
                answers.put(self._resolver(host, port))
            except OSError as error:
                answers.put(error)
            finally:
                self._resolving.release()

        if not self._resolving.acquire(timeout=self._errand.remaining()):
            raise httpcore2.ConnectTimeout("too many names are being resolved")
        threading.Thread(target=ask, name="resolving", daemon=True).start()
        try:
            answer = answers.get(timeout=self._errand.remaining())
        except Empty:
            raise httpcore2.ConnectTimeout(f"{host} was not resolved in time") from None
        if isinstance(answer, OSError):
            raise httpcore2.ConnectError(f"{host} was not resolved: {answer}") from answer
        return answer


class _Transport(httpx2.BaseTransport):
    """httpx2's transport on a connection pool whose network is ours."""

    def __init__(self, backend: httpcore2.NetworkBackend, context: ssl.SSLContext) -> None:
        self._pool = httpcore2.ConnectionPool(
            ssl_context=context,
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=_KEEP_ALIVE,
            network_backend=backend,
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = self._pool.handle_request(
            httpcore2.Request(
                method=request.method,
                url=httpcore2.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.content,
                extensions=request.extensions,
            )
        )
        if not isinstance(answer.stream, Iterable):
            raise httpcore2.ProtocolError("an asynchronous answer to a synchronous request")
        return httpx2.Response(answer.status, headers=answer.headers, stream=_Body(answer.stream))

    def close(self) -> None:
        self._pool.close()


class _Body(httpx2.SyncByteStream):
    def __init__(self, stream: Iterable[bytes]) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        yield from self._stream

    def close(self) -> None:
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()


@dataclass(frozen=True, slots=True)
class _Request:
    """For messages: never the query, which may hold a code or an address."""

    method: str
    url: httpx2.URL

    def __str__(self) -> str:
        return f"{self.method} {self.url.scheme}://{self.url.netloc.decode('ascii', 'replace')}{self.url.path}"


class PinnedFetcher:
    """What `HttpFetcher` does its work with; the arguments are explained there."""

    def __init__(
        self,
        egress: Egress,
        *,
        timeout: float,
        limit: int,
        resolver: Resolver | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """Raises `ConfigurationError` when `egress.ca_bundle` cannot be read."""
        self._timeout = timeout
        self._limit = limit
        self._errand = _Errand()
        self._transport = transport or _Transport(
            _PinnedBackend(EgressRules(egress.allow), resolver or resolve, self._errand), _trust(egress.ca_bundle)
        )

    def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> Response:
        """The answer, whatever its status; a redirect is an answer. Raises `ConnectionFailed`."""
        return self._send("GET", url, None, headers)

    def post(self, url: str, data: Mapping[str, str], *, headers: Mapping[str, str] | None = None) -> Response:
        """A form post, sent once. Raises `ConnectionFailed`."""
        return self._send("POST", url, data, headers)

    def close(self) -> None:
        self._transport.close()

    def _send(
        self, method: str, url: str, data: Mapping[str, str] | None, headers: Mapping[str, str] | None
    ) -> Response:
        parsed = _parse(url)
        self._errand.secure = parsed.scheme == "https"
        self._errand.deadline = time.monotonic() + self._timeout
        with _failures(_Request(method, parsed)):
            request = httpx2.Request(
                method,
                parsed,
                # A compressed body could grow a thousandfold behind the size limit.
                headers={"Accept-Encoding": "identity", "User-Agent": "Homerealm", **(headers or {})},
                data=dict(data) if data is not None else None,
                extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), self._timeout)},
            )
            answer = self._transport.handle_request(request)
            try:
                body = self._read(answer)
            finally:
                answer.close()
            return Response(answer.status_code, answer.headers, body)

    def _read(self, answer: httpx2.Response) -> bytes:
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            raise httpcore2.RemoteProtocolError("an encoded body, which was not asked for")
        parts: list[bytes] = []
        size = 0
        for part in answer.iter_raw(_CHUNK):
            size += len(part)
            if size > self._limit:
                raise httpcore2.RemoteProtocolError(f"a body of more than {self._limit} bytes")
            self._errand.remaining()
            parts.append(part)
        return b"".join(parts)


def _parse(url: str) -> httpx2.URL:
    """Raises `ConnectionFailed` for anything but an http(s) address of a host."""
    try:
        parsed = httpx2.URL(url)
        usable = parsed.scheme in ("http", "https") and bool(parsed.host) and not parsed.userinfo
    except (httpx2.InvalidURL, ValueError, TypeError) as error:
        raise ConnectionFailed(f"not an address: {error}") from error
    if not usable or any(character <= " " or character == "\\" for character in url):
        raise ConnectionFailed("not an http(s) address of a host")
    return parsed


@contextmanager
def _failures(request: _Request) -> Iterator[None]:
    """Whatever goes wrong on the way is one error, with its reason for the log."""
    try:
        yield
    except (
        httpcore2.TimeoutException,
        httpcore2.NetworkError,
        httpcore2.ProtocolError,
        httpcore2.UnsupportedProtocol,
        httpx2.HTTPError,
        OSError,
        ValueError,
    ) as error:
        raise ConnectionFailed(f"{request}: {str(error) or type(error).__name__}") from error


def _trust(ca_bundle: str | None) -> ssl.SSLContext:
    context = httpcore2.default_ssl_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_bundle is not None:
        try:
            context.load_verify_locations(cafile=ca_bundle)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError([f"egress.ca_bundle: {ca_bundle}: {error}"]) from error
    return context
