"""Imported first by processes of our own: of the libraries that we use, what we do not use is not read at the start.

Half of the modules that were loaded until the first answer were of no use to it (docs/decisions/start-up.md). Whoever
asks for one of them later gets it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from types import ModuleType
from typing import Any

# Whether they are there is asked by structlog (prettier terminals), redis-py (metrics of its own) and SQLAlchemy (asyncio).
_OPTIONAL = ("rich", "opentelemetry", "greenlet")
# Of these only modules inside are used; what the package itself offers comes from modules that nobody needs.
_PACKAGES = ("asyncio", "jwt", "redis", "werkzeug")
_NAMES = {("werkzeug", "run_simple"): "werkzeug.serving", ("asyncio", "iscoroutine"): "asyncio.coroutines"}
"""What somebody imports from the package itself, and where it is."""


class _Unread(ModuleType):
    """A package whose modules can be imported, and whose own file is read when somebody asks for a name in it."""

    _reading = threading.RLock()
    _begun = False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in ("__all__", "__version__"):
            raise AttributeError(name)
        if (place := _NAMES.get((self.__name__, name))) is not None:
            return getattr(importlib.import_module(place), name)
        inside = f"{self.__name__}.{name}"
        if inside in sys.modules or importlib.util.find_spec(inside) is not None:
            return importlib.import_module(inside)
        with _Unread._reading:
            if type(self) is _Unread and not self._begun:
                self._begun = True  # it imports its own modules, which look whether a name is there already
                self.__spec__.loader.exec_module(self)  # type: ignore[union-attr]
                self.__class__ = ModuleType  # type: ignore[assignment]
        return object.__getattribute__(self, name)


def _leave_for_later() -> None:
    for name in _PACKAGES:
        if name not in sys.modules and (spec := importlib.util.find_spec(name)) is not None:
            package = _Unread(name)
            package.__spec__, package.__loader__, package.__file__ = spec, spec.loader, spec.origin
            package.__path__ = spec.submodule_search_locations or []
            sys.modules[name] = package


_leave_for_later()
_left_out = [name for name in _OPTIONAL if name not in sys.modules]
for _name in _left_out:
    sys.modules[_name] = None  # type: ignore[assignment]  # what `import` takes for: there is none

import sqlalchemy.engine  # noqa: E402, F401
import structlog  # noqa: E402, F401

for _name in _left_out:
    del sys.modules[_name]
