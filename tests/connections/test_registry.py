"""Types by name: ours, and those of other packages as they are really installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from broker import registry, sdk
from broker.core.errors import ConfigurationError

PACKAGE = """\
from broker.sdk import Connection, ConnectionSettings, Hint, Identity, PasswordSignIn

class PigeonSettings(ConnectionSettings):
    loft: str

class Pigeon(Connection[PigeonSettings], PasswordSignIn):
    Settings = PigeonSettings
    def check_password(self, identifier: str, password: str) -> Identity | None:
        return None

class Bare(Connection[PigeonSettings]):
    pass

not_a_class = 7
"""
ENTRY_POINTS = """\
[broker.connections]
pigeon = pigeons:Pigeon
google = pigeons:Pigeon
missing = pigeons:NoSuchThing
no_module = no_such_module:X
broken = broken_pigeons:X
number = pigeons:not_a_class
bare = pigeons:Bare
twice = pigeons:Pigeon
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two packages of somebody else, on the path as pip leaves them."""
    (tmp_path / "pigeons.py").write_text(PACKAGE)
    (tmp_path / "broken_pigeons.py").write_text("raise RuntimeError('no feathers')")
    for name, points in (("pigeon-post", ENTRY_POINTS), ("other-post", "[broker.connections]\ntwice = pigeons:Bare\n")):
        info = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("pigeons", "broken_pigeons"):
        monkeypatch.delitem(sys.modules, module, raising=False)


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_every_built_in_type_is_there_with_its_settings(name: str) -> None:
    kind = registry.resolve(name)
    assert kind is not None
    assert issubclass(kind, sdk.Connection)
    assert registry.settings_of(name) is kind.Settings


def test_a_name_that_nobody_has_is_nothing() -> None:
    assert registry.resolve("no-such-type") is None
    assert registry.settings_of("no-such-type") is None
    assert registry.known() == sorted(registry.BUILT_IN)


@pytest.mark.usefixtures("installed")
def test_another_package_brings_a_type() -> None:
    assert "pigeon" in registry.known()
    settings = registry.settings_of("pigeon")
    assert settings is not None
    assert settings.__name__ == "PigeonSettings"


@pytest.mark.usefixtures("installed")
def test_a_built_in_name_cannot_be_taken() -> None:
    kind = registry.resolve("google")
    assert kind is not None
    assert kind.__module__ == "connections.social.google"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", "pigeon-post.*cannot be loaded.*NoSuchThing"),
        ("no_module", "no_such_module"),
        ("broken", "RuntimeError: no feathers"),
        ("number", "not a subclass of broker.sdk.Connection"),
        ("bare", "Settings is not a subclass"),
        ("twice", "other-post and the package pigeon-post"),
    ],
)
def test_a_broken_package_is_named_and_all_others_go_on_working(name: str, words: str) -> None:
    for ask in (registry.resolve, registry.settings_of):
        with pytest.raises(ConfigurationError, match=f"connection type {name}: .*{words}"):
            ask(name)
    assert name in registry.known()
    assert registry.resolve("pigeon") is not None
    assert registry.resolve("oidc") is not None


def test_naming_the_types_loads_none_of_them() -> None:
    code = "import sys; from broker import registry; registry.known(); print(list(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'connections." not in done.stdout


def test_the_sdk_exports_what_it_says() -> None:
    assert sdk.__all__ == sorted(sdk.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert [name for name in sdk.__all__ if not hasattr(sdk, name)] == []
