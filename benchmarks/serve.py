"""The `homerealm` command; with BENCH_HASH=off, passwords are hashed with parameters that cost nothing.

Only a benchmark can do this: the product has no switch for it. The change is made when this file is imported, so worker processes
that import it again have it, too.
"""

from __future__ import annotations

import os

from broker.services import hashing

if os.environ.get("BENCH_HASH") == "off":
    make = hashing.Argon2Hasher.__init__
    make.__kwdefaults__ = make.__kwdefaults__ or {}
    cheap = {"memory_kib": 8, "time_cost": 1}
    names = make.__code__.co_varnames[1 : make.__code__.co_argcount]
    make.__defaults__ = tuple(
        cheap.get(name, value) for name, value in zip(names, make.__defaults__ or (), strict=True)
    )

if __name__ == "__main__":
    from broker.cli import main

    main()
