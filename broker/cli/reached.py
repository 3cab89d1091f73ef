"""Whether a server of this machine can be reached."""

from __future__ import annotations

import socket


def reached(host: str) -> str:
    """Where a process of this machine reaches who listens on that address."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


def answers(host: str, port: int, path: str = "/healthz", with_what: bytes = b"HTTP/1.1 200 ") -> bool:
    """Whether it answers, and with what the answer begins; as it stands, whether /healthz says that all is well."""
    try:
        with socket.create_connection((reached(host), port), timeout=2) as asking:
            asking.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            return asking.recv(1024).startswith(with_what)
    except OSError:
        return False


def listens(host: str, port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True
