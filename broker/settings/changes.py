"""What a reload would change: two configurations, or the one that runs and the one on disk, key by key.

The background worker leaves a description of what runs in `var/running.json`. It holds no secret: each is there as a
digest that only the installation's key makes, so that a changed one is seen and none can be guessed at.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from broker.core.errors import NotFound
from broker.core.tenant import Settings
from broker.settings.effective import document

RUNNING = Path("var") / "running.json"
NEED_A_RESTART = ("base_url", "database", "key_value", "secret_key", "other_secret_keys")
_UNTOLD = ("version", "config_dir", "root")


@dataclass(frozen=True, slots=True)
class Change:
    """One key. `old` and `new` as they may be shown; None where there was or is nothing."""

    key: str
    old: Any
    new: Any
    restart: bool = False
    """Whether it holds only after a restart."""
    loses: str = ""
    """What is lost by it, in words."""

    @property
    def what(self) -> str:
        return "added" if self.old is None else "removed" if self.new is None else "changed"


def describe(settings: Settings, key: bytes | None = None) -> dict[str, Any]:
    """JSON-able; secrets as digests by `key`, the configuration's own secret key by default."""
    return document(settings, partial(_digest, key or settings.secret_key))


def describe_like(running: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """As `describe`, comparable with a description made under an earlier secret key that is still known."""
    made_by = running.get("secret_key", {}).get("secret")
    known = (settings.secret_key, *settings.other_secret_keys)
    return describe(settings, next((key for key in known if _digest(key, key) == made_by), None))


def _digest(key: bytes, value: object) -> str:
    raw = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
    return hmac.new(key, raw, "sha256").hexdigest()[:24]


def publish(settings: Settings) -> None:
    """Leave the description of what runs beside the other files of the installation; a folder that cannot be written
    to is no reason to stop."""
    path = Path(settings.root) / RUNNING
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(describe(settings), file)
        draft.replace(path)
    except OSError:
        return


def published(root: Path) -> dict[str, Any]:
    """What runs here. Raises `NotFound`."""
    try:
        found: dict[str, Any] = json.loads((root / RUNNING).read_text())
    except (OSError, ValueError):
        raise NotFound(
            f"{root / RUNNING} does not say what runs: no background worker has run here; --against DIR compares with "
            "a folder",
            code="config.not_running",
        ) from None
    return found


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Between two descriptions. What came or went as a whole is one change."""
    return list(_changes("", old, new))


def _changes(prefix: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for name in dict.fromkeys([*old, *new]):
        key = f"{prefix}{name}"
        before, after = old.get(name), new.get(name)
        if key in _UNTOLD or before == after:
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping) and not (_is_secret(before) or _is_secret(after)):
            yield from _changes(f"{key}.", before, after)
        else:
            shown = _shown(before), _shown(after)
            yield Change(key, *shown, restart=key in NEED_A_RESTART, loses=_lost(key) if after is None else "")


def _is_secret(value: object) -> bool:
    return isinstance(value, Mapping) and "secret" in value and set(value) <= {"secret", "shown"}


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return value.get("shown", "***") if _is_secret(value) else {key: _shown(item) for key, item in value.items()}
    return [_shown(item) for item in value] if isinstance(value, list) else value


def _lost(key: str) -> str:
    match key.split("."):
        case ["tenants", _]:
            return "nobody can sign in there any more, and what it issued is refused; its people stay in the database"
        case ["tenants", _, "connections", _]:
            return "whoever signs in by it cannot any more; their accounts stay in the database"
        case ["tenants", _, "clients", _]:
            return "its sessions of people and its refresh tokens end"
        case _:
            return ""
