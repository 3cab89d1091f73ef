"""Where the data folders lie: beside the package in a checkout, inside it (`broker/_data`) once installed."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def templates() -> Path:
    """Pages, mails, static files and translations. Raises `FileNotFoundError` when the installation is incomplete."""
    return _folder("templates")


def config() -> Path:
    """The configuration that runs on a fresh machine. Raises `FileNotFoundError` as `templates` does."""
    return _folder("config")


def _folder(name: str) -> Path:
    # A wheel is asked first: site-packages may hold somebody else's folder called `templates`.
    for place in (_PACKAGE / "_data" / name, _PACKAGE.parent / name):
        if place.is_dir():
            return place
    raise FileNotFoundError(f"{name}/ is missing: neither {_PACKAGE / '_data'} nor {_PACKAGE.parent} has it")
