"""One web process: `python -m broker.wsgi FD`, where FD is a listening socket; and `app()` for another WSGI server.

The configuration folder comes from `HOMEREALM_CONFIG`, the address of a supervised key-value store from
`HOMEREALM_KEY_VALUE_URL`. `homerealm serve` starts and supervises all of it.
"""

from __future__ import annotations

import fcntl
import gc
import os
import resource
import signal
import socket
import struct
import sys
from contextlib import suppress

from broker.processes import lean  # noqa: F401 - the first of all

# isort: split
from broker.core.errors import BrokerError
from broker.processes.environment import CONFIG
from broker.processes.tether import lost
from broker.services import event_log
from broker.serving.gateway import CONNECTIONS, Gateway, WsgiApp

BACKLOG = 2048
_ATTACH_FILTER = 26
_NO_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
"""BPF: the byte of the flags (RFC 9293, 3.1); with SYN in it, of the packet nothing; else all."""
HANDSHAKE_SECONDS = 0.1
"""The way to a client and back. Whoever is farther away tries again."""
YOUNG_OBJECTS = 10_000
"""Objects that have come and not gone between two looks for garbage. The usual 700 are there several times while a
page is drawn. What every login asks for leaves no garbage that has to be looked for; an error of Flask's leaves 50
objects and what hangs on them (request, exception and frames hold each other): at 50,000 that was ten megabytes."""


def app() -> WsgiApp:
    """A WSGI app. Servers that pass on half a request, or two Host headers, need a proxy in front that does not."""
    from broker.app import create_app

    return create_app(os.environ.get(CONFIG))


def listen(host: str, port: int, only: socket.AddressFamily = socket.AF_UNSPEC) -> socket.socket:
    """A listening socket that children may inherit; `only` says of which kind its address is. Raises `OSError`."""
    family, _, _, _, address = socket.getaddrinfo(host, port, only, socket.SOCK_STREAM)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Not SO_REUSEPORT: with it two servers would share a port, and each get half of the requests.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    # Not a descriptor below 3, which it gets where the operator closed one of them: each child makes those its own.
    placed = socket.socket(fileno=fcntl.fcntl(listener, fcntl.F_DUPFD, 3))
    listener.close()
    placed.set_inheritable(True)
    return placed


def let_nobody_in(listener: socket.socket) -> None:
    """From now on a socket takes no new connection, in whatever process; who is in its queue can still be accepted.

    Between the last `accept` and `close` somebody could come, and be thrown out with a question unanswered. A packet
    filter (SO_ATTACH_FILTER, socket(7)) has no such moment: who comes is not heard, tries again, and is refused when
    the socket is closed. It drops what begins a connection, and nothing else: a client that has our answer to that is
    connected for all that it knows, and may have asked already. After `HANDSHAKE_SECONDS` those are in the queue.
    Elsewhere than on Linux that moment stays.
    """
    if sys.platform == "linux":
        import ctypes

        drop = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in _NO_SYN))
        filter = struct.pack("HL", len(_NO_SYN), ctypes.addressof(drop))
        with suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, filter)


def run(listener: socket.socket, gateway: Gateway) -> None:
    """Serve until SIGTERM or SIGINT, and what has begun then is finished."""
    parent = os.getppid()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: gateway.stop())
    with suppress(OSError, ValueError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4 * CONNECTIONS), most))
    # What is there now stays for as long as the process: it need not be looked through again and again.
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)
    gateway.serve(listener)
    say_if_lost(parent, "a web process")


def say_if_lost(parent: int, process: str) -> None:
    """Why a process ends that nobody asked to: its supervisor, which would have said something, is gone."""
    if lost(parent):
        event_log.logger("homerealm.supervisor").error("supervisor.lost", process=process)


def say_how_many_were_late(number: int) -> None:
    event_log.logger("homerealm.gateway").warning("requests.late", number=number)


def main(descriptor: int) -> None:
    """A web process of `homerealm serve`."""
    event_log.configure()
    from broker.web.quick import guessed, quick

    try:
        gateway = Gateway(app(), quick=quick, guessed=guessed, late=say_how_many_were_late)
    except BrokerError as error:
        # For the operator, who sees it once for each try: a traceback would bury it.
        print(f"homerealm: {error}", file=sys.stderr)  # noqa: T201 - before there is a log
        raise SystemExit(1) from None
    run(socket.socket(fileno=descriptor), gateway)


if __name__ == "__main__":
    gc.disable()  # until it serves: what is loaded now stays
    main(int(sys.argv[1]))
