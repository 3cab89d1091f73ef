"""Apps that are not the demo's: their callback leads on to another origin, as single-page apps often do."""

from __future__ import annotations

import ssl
import threading
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Hop(NamedTuple):
    """A place of loopback."""

    scheme: str
    host: str


STRANGERS = {
    "studio": (Hop("http", "127.0.0.1"), Hop("http", "localhost")),
    "native": (Hop("http", "127.0.0.1"), Hop("https", "localhost")),
    "shop": (Hop("https", "localhost"), Hop("https", "127.0.0.1")),
}
"""By client: where its registered callback is, and where that leads on to. No two share an origin."""


class _Threads(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


class Strangers:
    """Two servers for each client, until the block ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._callbacks: dict[str, str] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        certificate = _certificate(self._folder)
        for name, (first, second) in STRANGERS.items():
            landed = self._serve(second, _landed, certificate)
            self._callbacks[name] = self._serve(first, _leads_to(f"{landed}/landed"), certificate) + "/callback"
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def callback(self, client: str) -> str:
        return self._callbacks[client]

    def _serve(self, place: Hop, app: Any, certificate: Path) -> str:
        server = make_server("127.0.0.1", 0, app, server_class=_Threads, handler_class=_Quiet)
        if place.scheme == "https":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            # The handshake belongs to the thread of its connection: one that Chromium opens in advance blocks nobody.
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self._stack.callback(server.server_close)
        self._stack.callback(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"{place.scheme}://{place.host}:{server.server_port}"


def _leads_to(address: str) -> Any:
    def app(environ: dict[str, Any], start: Any) -> list[bytes]:
        if environ["PATH_INFO"] != "/callback":
            start("404 Not Found", [])
            return [b""]
        start("303 See Other", [("Location", f"{address}?{environ['QUERY_STRING']}")])
        return [b""]

    return app


def _landed(environ: dict[str, Any], start: Any) -> list[bytes]:
    """Says whether a code came along: what somebody's app would go on with."""
    found = environ["PATH_INFO"] == "/landed"
    start("200 OK" if found else "404 Not Found", [("Content-Type", "text/html; charset=utf-8")])
    what = "code" if "code" in parse_qs(environ["QUERY_STRING"]) else "nothing"
    icon = '<link rel="icon" href="data:,">'
    return [f"<!doctype html>{icon}<title>Landed</title><body data-page=landed>with {what}".encode()]


def _certificate(folder: Path) -> Path:
    """Key and certificate for loopback, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path = folder / "loopback.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path
