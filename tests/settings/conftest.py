"""A configuration folder, written by a test and loaded by the real loader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, model_validator

from broker.core.errors import ConfigurationError
from broker.core.tenant import Settings, Tenant
from broker.settings.connection import ConnectionSettings, SecretText, ServiceAddress, wrong
from broker.settings.load import load

MINIMAL = "tenant: acme\n"
KEY = b"k" * 32


class Passwords(ConnectionSettings):
    """People with a password here."""

    identifiers: tuple[Literal["email", "username"], ...] = ("email",)
    """What they sign in with."""
    signup: bool = False
    """Whether strangers may sign up."""


class Upstream(ConnectionSettings):
    """Another provider."""

    issuer: ServiceAddress = Field(examples=["https://sso.acme.example"])
    """Its issuer."""
    client_id: str = Field(examples=["homerealm"])
    """Ours, there."""
    client_secret: SecretText | None = Field(default=None, examples=["${ENV:SSO_SECRET}"])
    """Ours, there."""
    timeout: int = Field(default=5, ge=1, le=60)
    """Seconds."""
    ratio: float = 0.5
    """A number."""

    @model_validator(mode="after")
    def _deep_link_needs_a_page(self) -> Upstream:
        if self.reset is not None and self.reset.how == "deep_link" and self.reset.url is None:
            raise wrong("is deep_link, but there is no url; a url would be right", key="reset.how")
        return self


TYPES: Mapping[str, type[ConnectionSettings]] = {"database": Passwords, "oidc": Upstream}


class Folder:
    """`config/` below a test's own folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "config"
        (self.path / "tenants").mkdir(parents=True)
        self.environ: dict[str, str] = {}
        self.write("broker.yaml", "base_url: http://localhost:8000\n")

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def load(self, read_or_make_key: Callable[[Path], bytes] = lambda _: KEY) -> Settings:
        return load(self.path, TYPES.get, lambda: TYPES, self.environ, read_or_make_key)

    def tenant(self, content: str, id: str = "acme") -> Tenant:
        """The tenant that one file describes."""
        self.write("tenants/acme.yaml", content)
        return next(tenant for tenant in self.load().tenants.values() if tenant.id == id)

    def problems(self) -> list[str]:
        """What the loader says, with files relative to the configuration folder; empty when it loads."""
        try:
            self.load()
        except ConfigurationError as error:
            return [line.removeprefix(f"{self.path}/") for line in error.problems]
        return []


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)
