"""`homerealm serve` and `homerealm worker`."""

from __future__ import annotations

import errno
import gc
import importlib
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.processes import bell, last_good, lean  # noqa: F401 - lean is the first of all

# isort: split
from broker.cli import REFUSED, WRONG
from broker.cli.lookout import counting, listen_in_a_thread, lookout_process, open_lookout
from broker.cli.options import config_option, metrics_option
from broker.cli.reached import answers
from broker.core.errors import BrokerError, ConfigurationError
from broker.processes.cores import lanes_for_hashing, usable_cores
from broker.processes.environment import (
    CONFIG,
    HASHING_LANES,
    KEY_VALUE_URL,
    LAST_GOOD,
    METRICS,
    NO_UPGRADE,
    ROLE,
)
from broker.processes.first_process import work_in_a_child
from broker.processes.handed_down import inherited
from broker.processes.supervisor import Child, Process, StartFailed, Supervisor
from broker.processes.tether import asked_to_end

if TYPE_CHECKING:
    from broker.core.tenant import Settings


@click.command()
@config_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option("--workers", type=click.IntRange(1, 256), help="Web processes; else one for each core that it may use.")
@click.option("--no-worker", is_flag=True, help="Without the background worker: `homerealm worker` runs elsewhere.")
@click.option("--no-upgrade", is_flag=True, help="Refuse tables that `homerealm db upgrade` did not bring up to date.")
@metrics_option
def serve(
    config: Path, host: str, port: int, workers: int | None, no_worker: bool, no_upgrade: bool, metrics: str | None
) -> None:
    """The production server: web processes and one background worker, in one command.

    SIGTERM lets requests finish and ends within five seconds; SIGHUP reloads the configuration.
    """
    work_in_a_child()
    gc.disable()  # what is loaded now stays; every web process looks for garbage when it serves
    from broker.wsgi import HANDSHAKE_SECONDS, let_nobody_in

    listener = open_port(host, port)
    settings = _load(config)
    if settings is None:
        raise SystemExit(WRONG)
    internal = open_lookout(settings, metrics)
    number = workers or usable_cores()
    environment = {CONFIG: str(config.resolve())}
    if no_upgrade:
        environment[NO_UPGRADE] = "1"
    last_good.make(environment)
    bell.hang(environment)
    # Every process reads the configuration by itself, and refuses it by itself, with positions, if it is broken.
    supervisor = Supervisor(event_of_a_process, before_reload=lambda: bell.ring(environment))
    supervisor.install_signals()
    roles = ["web"] if no_worker else ["web", "worker"]
    processes = [] if internal is None else [lookout_process(internal, listener, settings, metrics, roles, environment)]
    answering = os.eventfd(0)
    if not no_worker:
        processes.append(worker_process(environment, answering))
    processes += web_processes(listener, number, environment)
    try:
        fork_all(supervisor, settings, processes, environment)
        if supervisor.start(processes):
            os.eventfd_write(answering, 1)
            with_worker = "" if no_worker else " and a background worker"
            click.echo(f"Homerealm answers on {settings.base_url} ({_listening(host, port)}; "
                       f"{number} web process{'es' if number > 1 else ''}{with_worker})")  # fmt: skip
            sys.stdout.flush()
            supervisor.run()
    except StartFailed as failure:
        _say(str(failure))
        raise SystemExit(REFUSED) from None
    finally:
        let_nobody_in(listener)
        time.sleep(HANDSHAKE_SECONDS)
        listener.close()
        supervisor.stop()


def fork_all(
    supervisor: Supervisor, settings: Settings, processes: Sequence[Process], environment: dict[str, str]
) -> None:
    """Everything starts as a fork of this process, so that all of it is imported once, and its memory shared.

    The store first: it gets ready while we import. There must be no thread here until the last fork. What dies later
    is started by its command: then there are threads.
    """
    keeper = None
    if settings.key_value == "embedded":
        reader, writer = os.pipe()
        keeper = supervisor.fork(store_process(Path(settings.root) / "var" / "valkey", writer))
        os.close(writer)
    for name in _WHAT_THEY_IMPORT:
        importlib.import_module(name)
    if keeper is not None:
        with os.fdopen(reader, "rb") as pipe:
            url = pipe.read().decode()
        if not url:  # the keeper has said why
            raise SystemExit(keeper.wait())
        environment[KEY_VALUE_URL] = url
    gc.freeze()
    for process in processes:
        supervisor.fork(process)


_WHAT_THEY_IMPORT = (
    "broker.app", "broker.reload", "broker.services.blocklist", "broker.services.clock",
    "broker.services.fetcher", "broker.services.hashing", "broker.services.secrets", "broker.services.upstream",
    "broker.services.verifier", "broker.settings.load", "broker.stores.kv.grants", "broker.stores.kv.logins",
    "broker.stores.kv.redis", "broker.stores.kv.sessions", "broker.stores.kv.throttle",
    "broker.stores.kv.transactions", "broker.stores.sql.database", "broker.web.quick",
)  # fmt: skip


@click.command()
@config_option
@metrics_option
def worker(config: Path, metrics: str | None) -> None:
    """The background worker alone. More of them share the work; each job is done by one."""
    if LAST_GOOD not in os.environ:  # else a supervisor has settled it, and the files may be wrong meanwhile
        _count_alone(config, metrics)
    work(config)


def _count_alone(config: Path, metrics: str | None) -> None:
    """The numbers of a worker without a supervisor. Raises `SystemExit`."""
    settings = _load(config)
    if settings is None:
        raise SystemExit(WRONG)
    listener = open_lookout(settings, metrics) if metrics else None
    if metrics or settings.metrics:
        folder = counting(settings, metrics)
        os.environ[METRICS] = str(folder)
        if metrics and listener is not None:
            listen_in_a_thread(listener, metrics, folder)


def work(config: Path) -> None:
    """What a background worker does until SIGTERM or SIGINT."""
    from broker.background.schedule import Worker
    from broker.reload import Live
    from broker.services import event_log
    from broker.settings.changes import publish
    from broker.wsgi import say_if_lost

    os.environ[ROLE] = "worker"
    event_log.configure()
    parent = os.getppid()
    stop = asked_to_end()
    with closing(Live.open(config)) as live:
        # For `homerealm config diff`: this process has nothing more urgent to do, and there is one of it.
        publish(live.runtime.settings)
        live.swapping = lambda runtime: publish(runtime.settings)
        live.watch()
        Worker(lambda: live.runtime, live.runtime.engines.spans).run(stop)
    say_if_lost(parent, "the background worker")


def web_processes(listener: socket.socket, number: int, environment: dict[str, str]) -> list[Process]:
    """The web processes for a Supervisor, all on one socket: what one of them leaves unanswered in its queue when it
    dies is taken by another. The last one is ready when one of them answers."""
    environment[HASHING_LANES] = str(lanes_for_hashing(number))
    host, port = listener.getsockname()[:2]
    command = [sys.executable, "-m", "broker.wsgi", str(listener.fileno())]
    processes = [
        Process(
            f"web process {one}",
            command,
            environment,
            title="broker.wsgi",
            begin=lambda: _serve(listener.fileno(), environment),
            inherits=[listener.fileno(), *inherited(environment)],
            on_reload=_reads_by_itself,
        )
        for one in range(number, 0, -1)
    ]
    processes[-1].ready = lambda: answers(host, port)
    return processes


def worker_process(environment: Mapping[str, str], answering: int | None = None) -> Process:
    """The background worker as a process for a Supervisor. Its fork waits until somebody writes into `answering`, an
    eventfd: it would take the core from the process that people wait for, and has modules of its own to import."""
    return Process(
        "the background worker",
        [sys.executable, "-m", "broker", "worker", "--config", environment[CONFIG]],
        environment,
        title="broker worker",
        begin=lambda: _work(environment, answering),
        inherits=inherited(environment),
        on_reload=_reads_by_itself,
    )


def store_process(folder: Path, address: int) -> Process:
    """The embedded key-value store as a process for a Supervisor; it writes its address into a file descriptor."""

    def begin() -> None:
        from broker.stores.kv.embedded import keep_one

        keep_one(folder, address, event_of_a_process)

    return Process(
        "the key-value store",
        [sys.executable, "-m", "broker.cli.store", str(folder)],
        title="broker store",
        begin=begin,
        last=True,
        on_reload=_reads_by_itself,
    )


def _serve(descriptor: int, environment: Mapping[str, str]) -> None:
    from broker import wsgi

    os.environ.update(environment)
    wsgi.main(descriptor)


def _work(environment: Mapping[str, str], answering: int | None) -> None:
    if answering is not None:
        os.eventfd_read(answering)
    os.environ.update(environment)
    gc.enable()
    try:
        work(Path(environment[CONFIG]))
    except BrokerError as error:
        _say(f"{error.detail or error.code} [{error.code}]")  # as the command says it
        raise SystemExit(REFUSED) from None


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


def _load(config: Path) -> Settings | None:
    from broker.wiring import load_settings

    try:
        return load_settings(config)
    except ConfigurationError as error:
        for line in error.problems:
            click.echo(line, err=True)
        return None


def _reads_by_itself(child: Child) -> None:
    """What SIGHUP does to a process that watches the configuration: the bell has rung, and that is all."""


def _listening(host: str, port: int) -> str:
    return f"listening on [{host}]:{port}" if ":" in host else f"listening on {host}:{port}"


def event_of_a_process(event: str, **facts: Any) -> None:
    """One JSON line, as all events are."""
    _pen_of_the_supervisor().warning(event, **facts)


@cache
def _pen_of_the_supervisor() -> Any:
    from broker.services import event_log

    event_log.configure()
    return event_log.logger("homerealm.supervisor")


def _say(text: str) -> None:
    click.echo(f"homerealm: {text}", err=True)
