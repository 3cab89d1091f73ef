"""Imported first by processes of our own: what libraries load for prettier terminals and for metrics of theirs stays
out. It took a third of the time to import structlog and redis-py together, and 8 MB of each process.

Only while those two are imported: whoever imports such a module later gets it.
"""

from __future__ import annotations

import sys

_OPTIONAL = ("rich", "opentelemetry")
_left_out = [name for name in _OPTIONAL if name not in sys.modules]
for _name in _left_out:
    sys.modules[_name] = None  # type: ignore[assignment]  # what `import` takes for: there is none

import redis  # noqa: E402, F401
import structlog  # noqa: E402, F401

for _name in _left_out:
    del sys.modules[_name]
