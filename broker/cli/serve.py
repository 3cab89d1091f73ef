"""`homerealm serve` and `homerealm worker`."""

from __future__ import annotations

import errno
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.cli import REFUSED, WRONG
from broker.cli.options import config_option
from broker.core.errors import ConfigurationError
from broker.supervisor import Process, StartFailed, Supervisor

if TYPE_CHECKING:
    from broker.core.tenant import Settings
    from broker.stores.kv.embedded import EmbeddedValkey

CONFIG = "HOMEREALM_CONFIG"
KEY_VALUE_URL = "HOMEREALM_KEY_VALUE_URL"
NO_UPGRADE = "HOMEREALM_NO_UPGRADE"
RELOAD_BELL = "HOMEREALM_RELOAD_BELL"
"""A file that is touched on SIGHUP (broker/reload.py)."""


@click.command()
@config_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option("--workers", type=click.IntRange(1, 256), help="Web processes; else one for each core.")
@click.option("--no-worker", is_flag=True, help="Without the background worker: `homerealm worker` runs elsewhere.")
@click.option("--no-upgrade", is_flag=True, help="Refuse tables that `homerealm db upgrade` did not bring up to date.")
def serve(config: Path, host: str, port: int, workers: int | None, no_worker: bool, no_upgrade: bool) -> None:
    """The production server: web processes and one background worker, in one command.

    SIGTERM lets requests finish and ends within five seconds; SIGHUP reloads the configuration.
    """
    from broker.wsgi import let_nobody_in

    listener = open_port(host, port)
    facts = read_facts(config)
    number = workers or len(os.sched_getaffinity(0))
    bell = tempfile.NamedTemporaryFile(prefix="homerealm-reload-")  # noqa: SIM115 - goes with this process
    supervisor = Supervisor(event_of_a_process, before_reload=lambda: _ring(bell.name))
    supervisor.install_signals()
    environment = {CONFIG: str(config.resolve()), RELOAD_BELL: bell.name}
    if no_upgrade:
        environment[NO_UPGRADE] = "1"
    store = _start_store(Path(facts["root"]), environment) if facts["key_value"] == "embedded" else None
    try:
        processes = [] if no_worker else [worker_process(environment)]
        processes += web_processes(listener, number, environment)
        if supervisor.start(processes):
            with_worker = "" if no_worker else " and a background worker"
            click.echo(f"Homerealm answers on {facts['base_url']} ({_listening(host, port)}; "
                       f"{number} web process{'es' if number > 1 else ''}{with_worker})")  # fmt: skip
            sys.stdout.flush()
            supervisor.run()
    except StartFailed as failure:
        _say(str(failure))
        raise SystemExit(REFUSED) from None
    finally:
        let_nobody_in(listener)
        listener.close()
        supervisor.stop()
        if store is not None:
            store.stop()


@click.command()
@config_option
def worker(config: Path) -> None:
    """The background worker alone. More of them share the work; each job is done by one."""
    from broker.reload import Live
    from broker.schedule import Worker
    from broker.services import event_log
    from broker.settings.changes import publish

    event_log.configure()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with closing(Live.open(config)) as live:
        # For `homerealm config diff`: this process has nothing more urgent to do, and there is one of it.
        publish(live.runtime.settings)
        live.swapping = lambda runtime: publish(runtime.settings)
        live.watch()
        Worker(lambda: live.runtime).run(stop)


def web_processes(listener: socket.socket, number: int, environment: Mapping[str, str]) -> list[Process]:
    """The web processes for a Supervisor, all on one socket: what one of them leaves unanswered in its queue when it
    dies is taken by another. The last one is ready when one of them answers."""
    host, port = listener.getsockname()[:2]
    command = [sys.executable, "-m", "broker.wsgi", str(listener.fileno())]
    processes = [
        Process(f"web process {one}", command, environment, inherits=[listener.fileno()], on_reload=_reads_by_itself)
        for one in range(number, 0, -1)
    ]
    processes[-1].ready = lambda: answers(host, port)
    return processes


def worker_process(environment: Mapping[str, str]) -> Process:
    """The background worker as a process for a Supervisor."""
    return Process(
        "the background worker",
        [sys.executable, "-m", "broker", "worker", "--config", environment[CONFIG]],
        environment,
        on_reload=_reads_by_itself,
    )


def open_port(host: str, port: int) -> socket.socket:
    """A listening socket for web processes. Raises `SystemExit`, and says why nobody can listen there."""
    from broker.wsgi import listen

    try:
        return listen(host, port)
    except socket.gaierror:
        why = f"{host} is not an address of this machine"
    except OSError as error:
        why = f"cannot listen on {host}:{port}: {error.strerror}"
        if error.errno == errno.EADDRINUSE:
            why = f"port {port} is taken: something listens on {host}:{port} already; stop it, or choose --port"
        if error.errno == errno.EACCES:
            why = f"port {port} needs privileges: choose --port 1024 or above, and put a proxy in front"
    click.echo(f"homerealm: {why}", err=True)
    raise SystemExit(REFUSED)


def answers(host: str, port: int) -> bool:
    """Whether /healthz says that all is well."""
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    connection = http.client.HTTPConnection(local, port, timeout=2)
    try:
        connection.request("GET", "/healthz", headers={"Connection": "close"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def listens(host: str, port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True


def _start_store(root: Path, environment: dict[str, str]) -> EmbeddedValkey:
    from broker.stores.kv.embedded import EmbeddedValkey

    store = EmbeddedValkey(root / "var" / "valkey")
    environment[KEY_VALUE_URL] = store.start()
    return store


def read_facts(config: Path) -> dict[str, str]:
    """What a supervisor has to know of a configuration: `root`, `key_value`, `base_url`.

    Read by a forked child, so that the supervisor itself stays small for as long as it runs. Call it before there are
    threads. Raises `SystemExit` when the configuration is broken; the child has said why.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = WRONG
        try:
            settings = _load(config)
            if settings is not None:
                found = {"root": str(settings.root), "key_value": settings.key_value, "base_url": settings.base_url}
                os.write(writer, json.dumps(found).encode())
                status = 0
        except Exception:
            traceback.print_exc()  # a mistake of ours, which os._exit would swallow
        finally:
            # Not sys.exit: what the parent registered to run at its end is not for this child.
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(os.waitstatus_to_exitcode(status))
    facts: dict[str, str] = json.loads(content)
    return facts


def _load(config: Path) -> Settings | None:
    from broker.wiring import load_settings

    try:
        return load_settings(config)
    except ConfigurationError as error:
        for line in error.problems:
            click.echo(line, err=True)
        return None


def _ring(bell: str) -> bool:
    """Every process reads the configuration by itself, and refuses it by itself, with positions, if it is broken."""
    os.utime(bell)
    return True


def _reads_by_itself(child: subprocess.Popen[bytes]) -> None:
    """What SIGHUP does to a process that watches the configuration: the bell has rung, and that is all."""


def _listening(host: str, port: int) -> str:
    return f"listening on [{host}]:{port}" if ":" in host else f"listening on {host}:{port}"


def event_of_a_process(event: str, **facts: Any) -> None:
    """One JSON line, as all events are."""
    from broker.services import event_log

    event_log.configure()
    event_log.logger("homerealm.supervisor").warning(event, **facts)


def _say(text: str) -> None:
    click.echo(f"homerealm: {text}", err=True)
