"""The internal listener (broker/serving/lookout) of `homerealm serve` and of `homerealm worker`."""

from __future__ import annotations

import errno
import gc
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli import REFUSED
from broker.cli.reached import answers, reached
from broker.processes.environment import METRICS
from broker.processes.supervisor import Child, Process

if TYPE_CHECKING:
    from broker.core.tenant import Settings


def counting(settings: Settings, metrics: str | None) -> Path:
    """Where the processes of this command count, from now on and in one place with what dead ones have counted.

    With `--metrics` it is a folder of that address: what two listeners of one machine say can be added up. Else it is
    that of the installation, which a worker shares with the `serve` beside it.
    """
    from broker.services.tally import total

    folder = Path(settings.root) / "var" / "metrics"
    if metrics:
        folder /= metrics
    with suppress(OSError):  # a full disk: whoever is asked for the numbers does it later
        total(folder)  # what dead processes left is put away, and does not pile up where nobody asks
    return folder


def open_lookout(settings: Settings, metrics: str | None) -> socket.socket | None:
    """The socket of the internal listener; None where there is to be none.

    Raises `SystemExit`, and says why nobody can listen there.
    """
    from broker.wsgi import listen

    where = metrics or settings.metrics
    if not where:
        return None
    host, port = _parted(where)
    try:
        return listen(host, port, socket.AF_INET6 if ":" in host else socket.AF_INET)
    except socket.gaierror:
        why = f"{host} is not an address of this machine"
    except OSError as error:
        why = f"cannot listen there: {error.strerror}"
        if error.errno == errno.EADDRINUSE:
            why = "this address is taken, something listens there already"
    said_by = "--metrics" if metrics else "`metrics.listen` in broker.yaml"
    click.echo(
        f"homerealm: {said_by} {where}: {why}; give every `homerealm serve` and `homerealm worker` of a machine an "
        "address of its own with --metrics HOST:PORT",
        err=True,
    )
    raise SystemExit(REFUSED)


def lookout_process(
    listener: socket.socket,
    web: socket.socket,
    settings: Settings,
    metrics: str | None,
    roles: Sequence[str],
    environment: dict[str, str],
) -> Process:
    """The internal listener for a Supervisor; from here on every process keeps its numbers for it. Its socket is
    ours: who asks while the process is started again waits, and nobody else gets the address meanwhile. `web` is the
    socket of the web processes."""
    folder = counting(settings, metrics)
    environment[METRICS] = str(folder)
    host, _ = _parted(metrics or settings.metrics or "")
    asked = "{}:{}".format(*_address(web))

    def begin() -> None:
        from broker.serving.lookout import run

        gc.enable()
        run(listener.fileno(), host, asked, folder, roles)

    return Process(
        "the internal listener",
        [sys.executable, "-m", "broker.serving.lookout", str(listener.fileno()), host, asked, str(folder), *roles],
        title="broker metrics",
        begin=begin,
        inherits=[listener.fileno()],
        on_reload=_knows_no_configuration,
        ready=lambda: answers(*_address(listener), "/", b"HTTP/1."),
    )


def listen_in_a_thread(listener: socket.socket, where: str, folder: Path) -> None:
    """On HOST:PORT, for a worker alone that counts in this folder: there is nobody else to answer."""
    from broker.serving.lookout import Lookout

    server = Lookout(listener, folder, ["worker"], name=_parted(where)[0])
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


def _parted(where: str) -> tuple[str, int]:
    host, _, port = where.rpartition(":")
    return host.strip("[]"), int(port)


def _address(listener: socket.socket) -> tuple[str, int]:
    """Where a process of this machine reaches it."""
    host, port = listener.getsockname()[:2]
    return reached(host), port


def _knows_no_configuration(child: Child) -> None:
    """What SIGHUP does to it: nothing."""
