"""The demo's folder: two configurations to look at and to change, under var/demo."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from broker import resources

BROKER_PORT = 8000


@dataclass(frozen=True)
class Addresses:
    """Where the three servers of the demo listen: three ports in a row, on loopback."""

    first: int = BROKER_PORT

    @property
    def broker(self) -> str:
        return f"http://localhost:{self.first}"

    @property
    def app(self) -> str:
        return f"http://localhost:{self.first + 1}"

    @property
    def upstream(self) -> str:
        return f"http://localhost:{self.first + 2}"

    @property
    def ports(self) -> tuple[int, int, int]:
        return self.first, self.first + 1, self.first + 2


def prepare(folder: Path, addresses: Addresses, *, reset: bool) -> tuple[Path, Path]:
    """The configuration folders of the broker and of the upstream; made when they are not there.

    What somebody changed in them stays, until `--reset`. Raises `OSError`.
    """
    if reset and folder.exists():
        shutil.rmtree(folder)
    made = []
    for name in ("broker", "upstream"):
        config = folder / name / "config"
        if not config.exists():
            _copy(resources.config() / "demo" / name, config, addresses)
        made.append(config)
    return made[0], made[1]


def _copy(source: Path, target: Path, addresses: Addresses) -> None:
    """The files of config/demo, with the addresses of this run in them. Complete, or not there at all."""
    fresh = target.with_name("config.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(source, fresh)
    usual = Addresses()
    for path in fresh.rglob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        for ours, theirs in (
            (usual.broker, addresses.broker), (usual.app, addresses.app), (usual.upstream, addresses.upstream),
        ):  # fmt: skip
            text = text.replace(ours, f"@{theirs}@")
        for theirs in (addresses.broker, addresses.app, addresses.upstream):
            text = text.replace(f"@{theirs}@", theirs)
        path.write_text(text, encoding="utf-8")
    fresh.rename(target)
