"""A changed configuration takes the place of the one that runs: validated whole, and swapped whole.

Every process watches by itself; nothing coordinates them. What went out of use stays for as long as a login may live
that began with it. See docs/decisions/reload.md.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from broker import wiring
from broker.core.errors import ConfigurationError
from broker.core.tenant import Settings
from broker.processes import bell, last_good
from broker.services import event_log
from broker.settings.changes import NEED_A_RESTART
from broker.settings.load import BRANDING_FOLDER, BROKER_FILE, TENANTS_FOLDER, Loader
from broker.settings.watch import Fingerprint, fingerprint
from broker.wiring import Runtime

TICK = 0.25
"""Seconds between two looks at the bell."""
LOOK = 0.5
"""Seconds between two looks at the files. What changed must look the same twice: an editor may be in the middle."""
EARLIER = 8
"""How many configurations that went out of use are kept, at most."""
_IN_FILES = {"secret_key": "secret_key_file", "other_secret_keys": "other_secret_key_files"}

log = event_log.logger("homerealm.config")


@dataclass(frozen=True)
class Earlier:
    """A configuration that went out of use, and until when a login may live that began with it."""

    runtime: Runtime
    until: datetime


@dataclass(frozen=True)
class _Look:
    """At the files and at the bell, before they were read: what changes after it is a change."""

    files: Fingerprint
    rung: int


class Live:
    """The Runtime of the moment. `runtime` is one reference, swapped whole: take it once a request."""

    def __init__(self, runtime: Runtime, loader: Loader | None = None, before: _Look | None = None) -> None:
        """Without a `loader` nothing ever changes; without a look `before` what changed until now is not seen."""
        self.runtime = runtime
        self.refused: tuple[str, ...] = ()
        """What is wrong with the files, while they are not those that run."""
        self.swapping: Callable[[Runtime], None] = lambda _: None
        """Called before a Runtime becomes the current one, and again when a file such as a logo changed."""
        self._loader = loader
        self._earlier: dict[str, Earlier] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        before = before or _Look(_fingerprint(loader), bell.rung())
        self._seen, self._rung = before.files, before.rung
        self._settling: Fingerprint | None = None
        self._looked = 0.0
        self._measure()

    @classmethod
    def open(
        cls,
        config: str | Path | None = None,
        *,
        url_prefix: str = "",
        environ: Mapping[str, str] = os.environ,
        **engines: Any,
    ) -> Live:
        """Read a configuration folder and connect to its stores. Raises as `wiring.build` and `wiring.must_lie_at`.

        A process of an installation that runs begins with what the others have while the files are wrong.
        """
        loader = wiring.loader(wiring.config_folder(config), environ)
        refused: tuple[str, ...] = ()
        # Stores take their time: while another process changes the tables, seconds.
        files, rung = _fingerprint(loader), bell.rung()
        earlier = last_good.kept()
        if isinstance(earlier, Settings):
            try:
                settings = _load(loader, earlier)
            except ConfigurationError as error:
                settings, refused = earlier, tuple(error.problems)
        else:
            settings = loader.load()
        before = _Look(_with_new(files, loader), rung)
        wiring.must_lie_at(url_prefix, settings)
        live = cls(Runtime(settings, wiring.open_engines(settings, **engines)), loader, before)
        if refused:
            live._refuse(refused)
        else:
            last_good.keep(settings.version, settings)
        return live

    # --- Versions -----------------------------------------------------------------------------------------------

    def at_version(self, version: str) -> Runtime | None:
        """The configuration that a login began with; None when this process does not have it (any more)."""
        current = self.runtime
        if version == current.settings.version:
            return current
        found = self._earlier.get(version)
        return found.runtime if found is not None and found.until > current.clock.now() else None

    def _keep(self, old: Runtime) -> None:
        now = old.clock.now()
        longest = max((one.rules.lifetimes.transaction for one in old.settings.tenants.values()), default=timedelta())
        alive = [*((version, one) for version, one in self._earlier.items() if one.until > now)]
        alive.append((old.settings.version, Earlier(old, now + longest)))
        self._earlier = dict(alive[-EARLIER:])

    # --- Reloading ----------------------------------------------------------------------------------------------

    def reload(self) -> bool:
        """Take what the files say now, if it is right. True when another configuration runs now.

        What is wrong is logged with its positions, once for each change, and the one that runs stays.
        """
        with self._lock:
            return self._reload() if self._loader is not None else False

    def _reload(self) -> bool:
        before, started = self.runtime, time.process_time()
        self._settling = None
        self._seen, outside = _fingerprint(self._loader), _outside(self._loader)
        try:
            settings = _load(self._loader, before.settings) if self._loader else before.settings
        except ConfigurationError as error:
            if self.refused != tuple(error.problems):
                self._refuse(tuple(error.problems))
            return False
        finally:
            gone = outside - _outside(self._loader)
            self._seen = _with_new({path: one for path, one in self._seen.items() if path not in gone}, self._loader)
        if self.refused:
            self.refused = ()
            self._measure()
            log.info("config.accepted", version=settings.version)
        if settings.version == before.settings.version:
            self.swapping(before)  # a logo may have changed, which no version counts
            return False
        after = wiring.successor(before, settings)
        self._keep(before)
        self.swapping(after)
        self.runtime = after
        after.meter.level("config_info", 0, before.settings.version)
        self._measure()
        milliseconds = round((time.process_time() - started) * 1000)
        log.info("config.reloaded", version=settings.version, before=before.settings.version,
                 tenants=_changed(before.settings, settings), cpu_ms=milliseconds)  # fmt: skip
        last_good.keep(settings.version, settings)
        return True

    def _refuse(self, problems: tuple[str, ...]) -> None:
        self.refused = problems
        self._measure()
        log.error("config.refused", problems=list(problems), version=self.runtime.settings.version)

    def _measure(self) -> None:
        self.runtime.meter.level("config_info", 1, self.runtime.settings.version)
        self.runtime.meter.level("config_refused", len(self.refused) > 0)

    # --- Watching -----------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Look at the files from now on, in a thread that ends with this object, or with `close`."""
        if self._loader is None:
            return
        self._begin()
        log.info("config.watched", version=self.runtime.settings.version)
        this = weakref.ref(self)
        # A server that loads the app before it forks leaves the thread behind.
        os.register_at_fork(after_in_child=lambda: _begin_again(this))

    def _begin(self) -> None:
        self._lock = threading.Lock()
        this = weakref.ref(self)
        threading.Thread(target=_watch, args=(this, self._stop), name="config-watch", daemon=True).start()

    def look(self, *, now: float) -> None:
        """One look; `now` in seconds of any steady clock."""
        rung = bell.rung()
        if rung != self._rung:
            self._rung = rung
            self.reload()
        elif now - self._looked >= LOOK:
            self._looked = now
            self._look_at_files()

    def _look_at_files(self) -> None:
        found = _fingerprint(self._loader)
        if found == self._seen:
            self._settling = None
        elif found == self._settling:
            self.reload()
        else:
            self._settling = found

    def close(self) -> None:
        """Stop watching, and let go of the engines."""
        self._stop.set()
        self.runtime.close()


def _fingerprint(loader: Loader | None) -> Fingerprint:
    if loader is None:
        return {}
    folder = loader.config_dir
    files = (str(folder / BROKER_FILE), *_outside(loader))
    return fingerprint((folder / TENANTS_FOLDER, folder / BRANDING_FOLDER), files)


def _with_new(seen: Fingerprint, loader: Loader | None) -> Fingerprint:
    """And files that are referred to since then. What could not be read is watched, too: it may come."""
    return {**fingerprint((), (path for path in _outside(loader) if path not in seen)), **seen}


def _outside(loader: Loader | None) -> frozenset[str]:
    return frozenset(map(str, loader.outside)) if loader is not None else frozenset()


def _watch(this: weakref.ref[Live], stop: threading.Event) -> None:
    while not stop.wait(TICK):
        live = this()
        if live is None:
            return
        try:
            live.look(now=time.monotonic())
        except Exception:
            log.exception("config.watch_failed")
        del live


def _begin_again(this: weakref.ref[Live]) -> None:
    live = this()
    if live is not None and not live._stop.is_set():
        live._begin()


def _load(loader: Loader, running: Settings) -> Settings:
    """Raises `ConfigurationError`, also for what only a restart can change."""
    settings = loader.load()
    wrong = []
    for key in NEED_A_RESTART:
        if getattr(settings, key) != getattr(running, key):
            written = next((one for one in (key, _IN_FILES.get(key)) if one in loader.positions), key)
            place = loader.positions.get(written or key) or f"{loader.config_dir / BROKER_FILE}:1:1"
            wrong.append(f"{place}: {written}: changed, which needs a restart; what runs has the earlier one")
    if wrong:
        raise ConfigurationError(wrong)
    return settings


def _changed(old: Settings, new: Settings) -> list[str]:
    """Tenants that came, went or changed, at most 20 of them."""
    ids = dict.fromkeys([*old.tenants, *new.tenants])
    return [str(id) for id in ids if old.tenants.get(id) != new.tenants.get(id)][:20]
