"""Imported first by processes of our own: of the libraries that we use, what we do not use is not read at the start.

A third of the modules that were loaded until the first answer were of no use to it, and many of them large
(docs/decisions/start-up.md). Whoever asks for one of them later gets it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
from types import ModuleType
from typing import Any

# structlog (prettier terminals), SQLAlchemy (asyncio) and Flask-WTF (its own texts) ask whether they are there.
_OPTIONAL = ("rich", "opentelemetry", "greenlet", "flask_wtf.i18n")
# Of these, modules inside are used; what the package offers itself comes from modules that nobody needs.
_PACKAGES = (
    "asyncio", "cryptography.x509", "flask_wtf", "importlib.metadata", "jwt", "redis", "werkzeug", "werkzeug.serving",
)  # fmt: skip
_PARTS = {("asyncio", "iscoroutine"): "asyncio.coroutines"}
"""What somebody wants of a package at once, and the module that has it."""
_CALLED_LATER = {
    "importlib.metadata": ["entry_points"],  # Pydantic, for plugins
    "werkzeug": ["run_simple"],  # Flask, for its development server
    "werkzeug.serving": ["run_simple", "is_running_from_reloader"],
}
"""Functions that somebody imports by name, and calls seldom or never."""


class _Unread(ModuleType):
    """A package whose modules can be imported, and whose own file is read when somebody asks for a name in it."""

    _reading = threading.RLock()
    _begun = False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in ("__all__", "__version__"):
            raise AttributeError(name)
        if name in _CALLED_LATER.get(self.__name__, ()):
            return lambda *given, **named: getattr(self._read(), name)(*given, **named)  # noqa: PLW0108 - not before it is called
        if (place := _PARTS.get((self.__name__, name))) is not None:
            return getattr(importlib.import_module(place), name)
        inside = f"{self.__name__}.{name}"
        if inside in sys.modules or (self.__path__ and importlib.util.find_spec(inside) is not None):
            return importlib.import_module(inside)
        return object.__getattribute__(self._read(), name)

    def _read(self) -> ModuleType:
        with _Unread._reading:
            if type(self) is _Unread and not self._begun:
                self._begun = True  # it imports its own modules, which look whether a name is there already
                self.__spec__.loader.exec_module(self)  # type: ignore[union-attr]
                self.__class__ = ModuleType  # type: ignore[assignment]
        return self


def _leave_for_later() -> None:
    for name in _PACKAGES:
        if name not in sys.modules and (spec := importlib.util.find_spec(name)) is not None:
            package = _Unread(name)
            package.__spec__, package.__loader__, package.__file__ = spec, spec.loader, spec.origin
            package.__path__ = spec.submodule_search_locations or []
            sys.modules[name] = package
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, package)


_leave_for_later()
# Pydantic asks every installed package whether it has a plugin. None of ours has.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
_left_out = [name for name in _OPTIONAL if name not in sys.modules]
for _name in _left_out:
    sys.modules[_name] = None  # type: ignore[assignment]  # what `import` takes for: there is none

import flask_wtf.form  # noqa: E402, F401
import redis.connection  # noqa: E402, F401
import sqlalchemy.engine  # noqa: E402, F401
import structlog  # noqa: E402, F401

for _name in _left_out:
    del sys.modules[_name]
