"""The web server's entry: `python -m broker.wsgi HOST PORT WORKERS`, and `app()` for another WSGI server.

The configuration folder comes from `HOMEREALM_CONFIG`, the address of a supervised key-value store from
`HOMEREALM_KEY_VALUE_URL`. `homerealm serve` starts and supervises all of it.
"""

from __future__ import annotations

import os
import sys

from broker import tether
from broker.core.errors import BrokerError
from broker.gateway import Gateway, WsgiApp
from broker.services import event_log

HEAD_BYTES = 16_384
HEAD_MILLISECONDS = 10_000
KILL_SECONDS = 3
"""How long a worker may take to finish what it is doing: idle keep-alive connections would hold it for ever."""
CONNECTIONS = 4096
_SERVER = "HOMEREALM_WEB_SERVER"


def app() -> WsgiApp:
    """A WSGI app. Servers that pass on half a request, or two Host headers, need a proxy in front that does not."""
    from broker.app import create_app

    return create_app(os.environ.get("HOMEREALM_CONFIG"))


def gateway() -> Gateway:
    """The RSGI app that Granian runs, once in each worker process."""
    # A worker must not outlive the process that restarts it: it would keep the port and answer with old code.
    if not tether.tie(int(os.environ.get(_SERVER) or os.getppid())):
        raise SystemExit(0)
    event_log.configure()
    try:
        return Gateway(app())
    except BrokerError as error:
        # For the operator, who sees it once for each try: a traceback would bury it.
        print(f"homerealm: {error}", file=sys.stderr)  # noqa: T201 - before there is a log
        raise SystemExit(1) from None


def run(host: str, port: int, workers: int, target: str = "broker.wsgi:gateway") -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP starts new worker processes and then ends the old ones.

    `target` is the function that makes the RSGI app, `module:name`.
    """
    os.environ[_SERVER] = str(os.getpid())
    from granian.constants import Interfaces
    from granian.http import HTTP1Settings
    from granian.log import LogLevels
    from granian.server import Server

    Server(
        target,
        factory=True,
        address=host,
        port=port,
        interface=Interfaces.RSGI,
        workers=workers,
        http="1",  # type: ignore[arg-type]
        http1_settings=HTTP1Settings(header_read_timeout=HEAD_MILLISECONDS, max_buffer_size=HEAD_BYTES),
        websockets=False,
        backlog=2048,
        backpressure=CONNECTIONS,
        respawn_failed_workers=True,
        respawn_interval=3.0,  # how long old and new ones overlap on SIGHUP: a new one needs a second to start
        workers_kill_timeout=KILL_SECONDS,
        log_level=LogLevels.warning,
    ).serve()


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
