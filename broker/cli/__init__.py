"""`homerealm`: every command is in a module of its own and imported when it is called, so that --help is quick."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

import click

from broker.core.errors import BrokerError, ConfigurationError

REFUSED = 1
"""Exit code: refused or failed."""
WRONG = 2
"""Exit code: wrong usage or configuration. Click uses the same for wrong usage."""


class Command(NamedTuple):
    place: str
    """`module:attribute` of a click command."""
    summary: str


COMMANDS: Mapping[str, Command] = {
    "demo": Command("broker.cli.demo:demo", "The whole product on this machine, with sample users and a mailbox."),
    "serve": Command("broker.cli.serve:serve", "The production server: web processes and one background worker."),
    "worker": Command("broker.cli.serve:worker", "The background worker alone."),
    "check": Command("broker.cli.config:check", "Every mistake in the configuration, with its line."),
    "config": Command("broker.cli.config:config", "The configuration: schema, example, effective values, differences."),
    "tenant": Command("broker.cli.config:tenant", "Tenants and their environments."),
    "user": Command("broker.cli.user:user", "One user: add, show, block, send a reset, ..."),
    "db": Command("broker.cli.db:db", "The database: bring its tables up to date, move it to another one."),
    "keys": Command("broker.cli.keys:keys", "Signing keys."),
    "explain": Command("broker.cli.explain:explain", "Why a page said no: the story behind its reference."),
    "audit": Command("broker.cli.audit:audit", "Who changed what, and whether the log is whole."),
}


def _imported(name: str) -> ModuleType:
    """What is imported stays: to look for garbage among it takes a tenth of the time, and once more at the end."""
    if name in sys.modules or not gc.isenabled():
        return importlib.import_module(name)
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        gc.enable()


class LazyGroup(click.Group):
    """A group that knows its commands by name, and imports one when it is called."""

    def __init__(self, *args: Any, lazy: Mapping[str, Command] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        known = self.lazy.get(cmd_name)
        if known is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = known.place.partition(":")
        found = getattr(_imported(module), attribute)
        if not isinstance(found, click.Command):
            raise TypeError(f"{known.place} is not a command")
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in --help, from the summaries here: nothing is imported for it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in self.lazy.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Errors that we know become a message and an exit code, and never a traceback."""
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            for line in error.problems:
                click.echo(line, err=True)
            ctx.exit(WRONG)
        except BrokerError as error:
            click.echo(f"homerealm: {error.detail or error.code} [{error.code}]", err=True)
            ctx.exit(REFUSED)
        except BrokenPipeError:
            raise
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            click.echo(f"homerealm: {error.strerror or error}{where}", err=True)
            ctx.exit(REFUSED)


def _print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        click.echo(f"homerealm {version('homerealm')}")
    except PackageNotFoundError:
        click.echo("homerealm (not installed: a checkout)")
    ctx.exit()


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version."
)
def main() -> None:
    """Homerealm, a self-hosted identity broker.

    Results go to standard output, messages to standard error. Exit codes: 0 done, 1 refused or failed, 2 wrong usage
    or configuration.
    """
