"""The frame of the command line: quick help, and errors as messages with exit codes."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from broker.cli import COMMANDS, LazyGroup, main
from broker.core.errors import ConfigurationError, Denied

HEAVY = ("flask", "pydantic", "sqlalchemy", "authlib", "redis", "yaml", "cryptography", "httpx2", "broker.wiring")


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom broker.cli import main\n"
        "try:\n    main(['--help'], prog_name='homerealm')\nexcept SystemExit:\n    pass\n"
        f"print('imported:', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    for name, command in COMMANDS.items():
        assert f"{name} " in done.stdout
        assert command.summary in done.stdout
    assert "imported: []" in done.stdout


def test_the_version_is_printed() -> None:
    done = CliRunner().invoke(main, ["--version"])
    assert done.exit_code == 0
    assert done.output.startswith("homerealm ")


def test_an_unknown_command_is_wrong_usage() -> None:
    done = CliRunner().invoke(main, ["frobnicate"])
    assert done.exit_code == 2
    assert "No such command 'frobnicate'" in done.output


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ConfigurationError(["a.yaml:1:1: one", "a.yaml:2:1: two"]), 2, "a.yaml:1:1: one\na.yaml:2:1: two\n"),
        (Denied("ada may not do this"), 1, "homerealm: ada may not do this [access.denied]\n"),
        (PermissionError(13, "Permission denied", "var/x"), 1, "homerealm: Permission denied: var/x\n"),
    ],
)
def test_an_error_is_a_message_on_standard_error_and_an_exit_code(error: Exception, code: int, message: str) -> None:
    @click.group(cls=LazyGroup)
    def group() -> None: ...

    @group.command()
    def fail() -> None:
        click.echo("a result")
        raise error

    done = CliRunner().invoke(group, ["fail"])
    assert done.exit_code == code
    assert done.stdout == "a result\n"
    assert done.stderr == message


def test_a_mistake_of_ours_is_not_hidden() -> None:
    @click.group(cls=LazyGroup)
    def group() -> None: ...

    @group.command()
    def fail() -> None:
        raise KeyError("a mistake of ours")

    with pytest.raises(KeyError):
        CliRunner().invoke(group, ["fail"], catch_exceptions=False)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_has_its_help(name: str) -> None:
    done = CliRunner().invoke(main, [name, "--help"])
    assert done.exit_code == 0, done.output
    assert f"Usage: main {name}" in done.output
