"""`homerealm demo`: the whole promise on one machine."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli import REFUSED

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.demo.preparation import Addresses
    from broker.processes.supervisor import Process
    from broker.stores.kv.embedded import EmbeddedValkey

HOST = "127.0.0.1"


@click.command()
@click.option("--reset", is_flag=True, help="Start afresh: forget users, mails, and changes of the configuration.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("var/demo"), show_default=True)
@click.option("--port", type=click.IntRange(1024, 65533), default=8000, show_default=True,
              help="The broker's; the app and the upstream provider take the next two.")  # fmt: skip
def demo(reset: bool, folder: Path, port: int) -> None:
    """The whole product on this machine: broker, an app, an upstream provider, sample users, a mailbox."""
    from broker.cli.serve import open_port
    from broker.demo import sample
    from broker.demo.events import Events
    from broker.demo.preparation import Addresses, prepare
    from broker.processes.supervisor import StartFailed, Supervisor

    addresses = Addresses(port)
    for one in addresses.ports:
        open_port(HOST, one).close()
    folder = folder.absolute()
    broker, upstream = prepare(folder, addresses, reset=reset)
    events = Events(folder)
    supervisor = Supervisor(events.of_a_process, errors=events.descriptor)
    supervisor.install_signals()
    stores = []
    try:
        processes = []
        for config, people in ((broker, sample.BROKER), (upstream, sample.UPSTREAM)):
            environment, store = _store(config, events.of_a_process)
            stores.append(store)
            sample.fill_once(config, people, environment)
            processes += _servers(config, environment, addresses, folder)
        processes.append(_app(addresses))
        if supervisor.start(_side_by_side(processes)):
            click.echo(table(addresses, folder))
            sys.stdout.flush()
            supervisor.run()
    except StartFailed as failure:
        click.echo(f"homerealm: {failure}", err=True)
        raise SystemExit(REFUSED) from None
    finally:
        supervisor.stop()
        for store in stores:
            store.stop()
        events.close()


def _side_by_side(processes: list[Process]) -> list[Process]:
    """None of them needs another one to start, so nobody waits for the one before: the last waits for all."""

    def all_ready() -> bool:
        return all(one.ready() for one in processes)

    first = [replace(one, ready=lambda: True) for one in processes[:-1]]
    return [*first, replace(processes[-1], ready=all_ready)]


def _store(config: Path, tell: Callable[..., None]) -> tuple[dict[str, str], EmbeddedValkey]:
    from broker.processes.environment import CONFIG, KEY_VALUE_URL
    from broker.stores.kv.embedded import EmbeddedValkey

    store = EmbeddedValkey(config.parent / "var" / "valkey", tell=tell)
    return {CONFIG: str(config), KEY_VALUE_URL: store.start()}, store


def _servers(config: Path, environment: dict[str, str], addresses: Addresses, folder: Path) -> list[Process]:
    """The web server and the worker of one broker; the first one also shows the mails of both."""
    from broker.cli.reached import answers
    from broker.cli.serve import open_port, web_processes, worker_process
    from broker.demo.site import MAILDIRS
    from broker.processes.supervisor import Process

    if config.parent.name == "upstream":
        port = addresses.ports[2]
        return [*web_processes(open_port(HOST, port), 1, environment), worker_process(environment)]
    port = addresses.ports[0]
    maildirs = ":".join(str(folder / name / "var" / "mail") for name in ("broker", "upstream"))
    site = Process(
        "the broker",
        [sys.executable, "-m", "broker.demo.site", HOST, str(port)],
        environment | {MAILDIRS: maildirs},
        ready=lambda: answers(HOST, port),
    )
    return [site, worker_process(environment)]


def _app(addresses: Addresses) -> Process:
    from broker.cli.reached import listens
    from broker.processes.supervisor import Process

    port = addresses.ports[1]
    return Process(
        "the demo app",
        [sys.executable, "-m", "broker.demo.relying_party", HOST, str(port)],
        {"HOMEREALM_DEMO_APP": addresses.app, "HOMEREALM_DEMO_BROKER": addresses.broker},
        ready=lambda: listens(HOST, port),
    )


def table(addresses: Addresses, folder: Path) -> str:
    """Addresses, people, and what to try."""
    from broker.demo import sample
    from broker.demo.events import NAME

    here = Path(os.path.relpath(folder))

    people = [
        (one.username or one.email, f"{one.tenant}: {one.note}") for one in (*sample.BROKER, *sample.UPSTREAM)
    ]  # fmt: skip
    tries = (
        ("Sign in", f"{addresses.app}, Sign in at Acme, as ada"),
        ("Forget a password", "there: Don't remember your password?  Then read the mail, choose a new one"),
        ("On another device", "open that mail in another browser: Continue to Demo app"),
        ("A password elsewhere", "type carol@contoso.example: you are sent to Contoso's own reset page"),
        ("Help somebody", f"{addresses.broker}/t/acme/admin, as grace: find ada, open More"),
        ("A one-time link", f"{_program()} user login-link ada --tenant acme --config {here / 'broker' / 'config'}"),
    )
    rows: list[tuple[str, str]] = [
        ("The app", addresses.app),
        ("The broker", f"{addresses.broker}/t/acme/login"),
        ("Upstream provider", f"{addresses.upstream}/t/contoso/login"),
        ("Mailbox", f"{addresses.broker}/dev/mailbox"),
        ("What happens", f"{here / NAME}: an event a line; what goes wrong is said here, too"),
    ]
    lines = ["", "Homerealm's demo is ready. Ctrl-C stops everything.", ""]
    for title, block in (
        ("Addresses", rows), (f'People (everybody\'s password: "{sample.PASSWORD}")', people), ("Try", tries),
    ):  # fmt: skip
        width = max(len(left) for left, _ in block)
        lines += [title, *(f"  {left:{width}}  {right}" for left, right in block), ""]
    return "\n".join(lines)


def _program() -> str:
    """How this command is called from where we are: `make demo` runs it from a folder that is not in PATH."""
    ours = Path(sys.argv[0])
    found = shutil.which("homerealm")
    if found is not None and os.path.realpath(found) == os.path.realpath(ours):
        return "homerealm"
    return os.path.relpath(ours)
