"""Outgoing HTTP: what may be reached, and what is never waited for."""

from __future__ import annotations

import gzip
import http.server
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpcore2
import httpx2
import pytest

from broker.core.errors import ConfigurationError, ConnectionFailed
from broker.core.tenant import Egress
from broker.services.fetcher import HttpFetcher
from broker.services.pinned import EgressRules
from broker.testing.authority import Authority

LOOPBACK = Egress(allow=("127.0.0.0/8",))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str, dict[str, str], bytes]]

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        answers: dict[str, tuple[int, dict[str, str], bytes]] = {
            "/json": (200, {"Content-Type": "application/json", "Set-Cookie": "a=b"}, b'{"ok": true}'),
            "/away": (302, {"Location": "http://169.254.169.254/latest"}, b""),
            "/error": (503, {}, b"later"),
            "/full": (200, {}, b"x" * 1000),
            "/huge": (200, {}, b"x" * 1001),
            "/bomb": (200, {"Content-Encoding": "gzip"}, gzip.compress(b"x" * 10_000_000)),
        }
        status, headers, content = answers[self.path.partition("?")[0]]
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server:
    """A real server on loopback that remembers what it was sent."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        handler = type("Bound", (Handler,), {"seen": self.seen})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]

    @contextmanager
    def running(self) -> Iterator[Server]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server().running() as server:
        yield server


@pytest.fixture
def closing() -> Iterator[Callable[[HttpFetcher], HttpFetcher]]:
    made: list[HttpFetcher] = []

    def keep(fetcher: HttpFetcher) -> HttpFetcher:
        made.append(fetcher)
        return fetcher

    yield keep
    for fetcher in made:
        fetcher.close()


Keep = Callable[[HttpFetcher], HttpFetcher]


def test_an_allowed_address_is_reached_by_http(server: Server, closing: Keep) -> None:
    answer = closing(HttpFetcher(LOOPBACK)).get(f"http://127.0.0.1:{server.port}/json", headers={"Accept": "a/b"})
    assert (answer.status, answer.json()) == (200, {"ok": True})
    assert answer.headers["content-type"] == "application/json"
    sent = server.seen[0][2]
    assert (sent["accept"], sent["user-agent"], sent["accept-encoding"]) == ("a/b", "Homerealm", "identity")


def test_a_form_is_posted(server: Server, closing: Keep) -> None:
    closing(HttpFetcher(LOOPBACK)).post(f"http://127.0.0.1:{server.port}/json", {"code": "a b&c", "é": "ü"})
    method, _, headers, body = server.seen[0]
    assert (method, headers["content-type"]) == ("POST", "application/x-www-form-urlencoded")
    assert body == b"code=a+b%26c&%C3%A9=%C3%BC"


def test_cookies_of_an_upstream_are_not_sent_back(server: Server, closing: Keep) -> None:
    fetcher = closing(HttpFetcher(LOOPBACK))
    for _ in range(2):
        fetcher.get(f"http://127.0.0.1:{server.port}/json")
    assert all("cookie" not in headers for _, _, headers, _ in server.seen)


def test_a_redirect_is_an_answer_and_not_followed(server: Server, closing: Keep) -> None:
    answer = closing(HttpFetcher(LOOPBACK)).get(f"http://127.0.0.1:{server.port}/away")
    assert answer.status == 302
    assert len(server.seen) == 1


def test_an_error_status_is_an_answer(server: Server, closing: Keep) -> None:
    assert closing(HttpFetcher(LOOPBACK)).get(f"http://127.0.0.1:{server.port}/error").status == 503


def test_a_body_up_to_the_limit_is_read_and_one_byte_more_is_refused(server: Server, closing: Keep) -> None:
    fetcher = closing(HttpFetcher(LOOPBACK, limit=1000))
    assert len(fetcher.get(f"http://127.0.0.1:{server.port}/full").body) == 1000
    with pytest.raises(ConnectionFailed, match="more than 1000 bytes"):
        fetcher.get(f"http://127.0.0.1:{server.port}/huge")


def test_a_compressed_body_is_refused_before_it_is_unpacked(server: Server, closing: Keep) -> None:
    with pytest.raises(ConnectionFailed, match="encoded body"):
        closing(HttpFetcher(LOOPBACK)).get(f"http://127.0.0.1:{server.port}/bomb")


def test_loopback_is_refused_without_an_allowance(server: Server, closing: Keep) -> None:
    for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::1]", "[::ffff:127.0.0.1]"):
        with pytest.raises(ConnectionFailed) as failed:
            closing(HttpFetcher(Egress())).get(f"https://{host}:{server.port}/json")
        assert failed.value.code == "connection.unavailable"
    assert server.seen == []


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "198.18.0.1",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "fe80::1",
        "fe80::1%1",
        "fec0::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "2001:db8::1",
        "4000::1",
    ],
)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    with pytest.raises(httpcore2.ConnectError, match="not a public address"):
        EgressRules().choose("some.example", [address], secure=True)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_public_addresses_are_permitted_by_https_alone(address: str) -> None:
    assert EgressRules().choose("some.example", [address], secure=True) == [address]
    with pytest.raises(httpcore2.ConnectError, match="only https"):
        EgressRules().choose("some.example", [address], secure=False)


@pytest.mark.parametrize("answer", [["93.184.216.34", "127.0.0.1"], ["10.0.0.1", "93.184.216.34"], []])
def test_an_answer_that_mixes_public_and_private_is_refused_whole(answer: list[str]) -> None:
    with pytest.raises(httpcore2.ConnectError):
        EgressRules().choose("some.example", answer, secure=True)


@pytest.mark.parametrize(
    ("entry", "host", "address"),
    [
        ("10.0.0.0/8", "idp.internal", "10.1.2.3"),
        ("10.1.2.3", "idp.internal", "10.1.2.3"),
        ("10.0.0.0/8", "idp.internal", "::ffff:10.1.2.3"),
        ("fd00::/8", "idp.internal", "fd00::1"),
        ("[::1]", "localhost", "::1"),
        ("IDP.internal", "idp.INTERNAL.", "10.1.2.3"),
    ],
)
def test_an_allowance_is_a_network_an_address_or_a_name(entry: str, host: str, address: str) -> None:
    assert EgressRules([entry]).choose(host, [address], secure=False) == [address]
    with pytest.raises(httpcore2.ConnectError):
        EgressRules([entry]).choose("other.internal", ["192.168.0.1"], secure=True)


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(server: Server, closing: Keep) -> None:
    """DNS rebinding: the second answer would lead to loopback."""
    answers = [["127.0.0.2"], ["127.0.0.1"]]
    asked: list[str] = []

    def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return answers[len(asked) - 1]

    fetcher = closing(HttpFetcher(Egress(allow=("127.0.0.2",)), resolver=rebinding))
    with pytest.raises(ConnectionFailed):
        fetcher.get(f"http://rebind.test:{server.port}/json")
    assert asked == ["rebind.test"]
    assert server.seen == []


def test_a_name_is_resolved_by_the_resolver_that_was_handed_in(server: Server, closing: Keep) -> None:
    fetcher = closing(HttpFetcher(LOOPBACK, resolver=lambda host, port: ["127.0.0.1"]))
    assert fetcher.get(f"http://idp.example:{server.port}/json").status == 200
    assert server.seen[0][2]["host"] == f"idp.example:{server.port}"


def test_the_next_address_is_tried_when_the_first_does_not_answer(server: Server, closing: Keep) -> None:
    fetcher = closing(HttpFetcher(LOOPBACK, resolver=lambda host, port: ["127.0.0.2", "127.0.0.1"]))
    assert fetcher.get(f"http://idp.example:{server.port}/json").status == 200


@pytest.mark.parametrize(
    "url",
    [
        "",
        "json",
        "//host/path",
        "ftp://host/",
        "file:///etc/passwd",
        "http://",
        "https://user:password@host.example/",
        "https://host.example/a b",
        "https://host.example\\@evil.example/",
        "https://host.example:99999/",
        "https://[::1/",
        "https://host\n.example/",
        "https://\ud800.example/",
        "https://" + "a" * 70 + ".example/",
    ],
)
def test_what_is_no_address_of_a_host_is_refused(url: str, closing: Keep) -> None:
    with pytest.raises(ConnectionFailed) as failed:
        closing(HttpFetcher(Egress())).get(url)
    assert failed.value.status == 502


def test_a_header_with_a_line_break_is_refused(server: Server, closing: Keep) -> None:
    with pytest.raises(ConnectionFailed):
        closing(HttpFetcher(LOOPBACK)).get(f"http://127.0.0.1:{server.port}/json", headers={"A": "b\r\nC: d"})
    assert server.seen == []


def test_messages_never_quote_the_query(closing: Keep) -> None:
    with pytest.raises(ConnectionFailed) as failed:
        closing(HttpFetcher(LOOPBACK)).get("http://127.0.0.1:1/path?code=hush")
    assert "hush" not in failed.value.detail
    assert "http://127.0.0.1:1/path" in failed.value.detail


def test_proxies_of_the_environment_are_ignored(server: Server, closing: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert closing(HttpFetcher(LOOPBACK)).get(f"http://127.0.0.1:{server.port}/json").status == 200


def test_a_certificate_is_verified_by_the_bundle_that_is_configured(tmp_path: Path, closing: Keep) -> None:
    authority = Authority(tmp_path)
    with Server(authority.serve("idp.example")).running() as server:
        url = f"https://idp.example:{server.port}/json"
        at_home = {"resolver": lambda host, port: ["127.0.0.1"]}
        trusting = Egress(LOOPBACK.allow, str(authority.bundle))
        assert closing(HttpFetcher(trusting, **at_home)).get(url).json() == {"ok": True}
        with pytest.raises(ConnectionFailed, match=r"(?i)certificate"):
            closing(HttpFetcher(LOOPBACK, **at_home)).get(url)
        with pytest.raises(ConnectionFailed, match=r"(?i)certificate"):
            closing(HttpFetcher(trusting, **at_home)).get(url.replace("idp.", "other."))


def test_a_bundle_that_cannot_be_read_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    for path in (tmp_path / "missing.pem", tmp_path / "empty.pem"):
        with pytest.raises(ConfigurationError, match=r"egress\.ca_bundle"):
            HttpFetcher(Egress(ca_bundle=str(path))).get("https://idp.example/")


@contextmanager
def dripping(first: bytes, drop: bytes) -> Iterator[int]:
    """A server that never finishes: one drop after another, each well within any single time limit."""
    listening = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve() -> None:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection:
            try:
                connection.recv(65536)
                connection.sendall(first)
                while not stop.wait(0.02):
                    connection.sendall(drop)
            except OSError:
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        stop.set()
        listening.shutdown(socket.SHUT_RDWR)  # `close` does not wake who waits in `accept`
        thread.join()
        listening.close()


@pytest.mark.parametrize(
    ("first", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"", b""),
    ],
    ids=["body", "headers", "chunks", "silence"],
)
def test_a_slow_drip_ends_at_the_deadline(first: bytes, drop: bytes, closing: Keep) -> None:
    with dripping(first, drop) as port, pytest.raises(ConnectionFailed) as failed:
        closing(HttpFetcher(LOOPBACK, timeout=0.3)).get(f"http://127.0.0.1:{port}/")
    assert failed.value.code == "connection.unavailable"


def test_endless_headers_are_refused(closing: Keep) -> None:
    with dripping(b"HTTP/1.1 200 OK\r\n", b"A: " + b"b" * 100_000) as port, pytest.raises(ConnectionFailed):
        closing(HttpFetcher(LOOPBACK)).get(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x00" * 100])
def test_what_is_not_http_is_refused(answer: bytes, closing: Keep) -> None:
    with dripping(answer, b"") as port, pytest.raises(ConnectionFailed):
        closing(HttpFetcher(LOOPBACK, timeout=0.3)).get(f"http://127.0.0.1:{port}/")


def test_a_resolver_that_hangs_ends_at_the_deadline(closing: Keep) -> None:
    release = threading.Event()

    def hanging(host: str, port: int) -> Sequence[str]:
        release.wait()
        return []

    fetcher = closing(HttpFetcher(Egress(), timeout=0.05, resolver=hanging))
    try:
        with pytest.raises(ConnectionFailed, match="in time"):
            fetcher.get("https://slow.example/")
    finally:
        release.set()


def test_an_application_of_the_same_process_can_answer_and_the_size_limit_still_holds() -> None:
    def application(environ, start_response):  # type: ignore[no-untyped-def]
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello " + environ["HTTP_HOST"].encode(), b"!" * int(environ["QUERY_STRING"] or 0)]

    fetcher = HttpFetcher(Egress(), transport=httpx2.WSGITransport(app=application), limit=100)
    assert fetcher.get("https://idp.test/").body == b"hello idp.test"
    with pytest.raises(ConnectionFailed, match="more than 100 bytes"):
        fetcher.get("https://idp.test/?200")
