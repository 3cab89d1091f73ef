"""Passwords are hashed with parameters that cost nothing: `homerealm.py --hash off` puts this folder on the path of its servers.

Python imports it when a process starts. Only a benchmark can do this: the product has no switch for it.
"""

from broker.services import hashing

_CHEAP = {"memory_kib": 8, "time_cost": 1}
_make = hashing.Argon2Hasher.__init__
_names = _make.__code__.co_varnames[1 : _make.__code__.co_argcount]
_make.__defaults__ = tuple(
    _CHEAP.get(name, value) for name, value in zip(_names, _make.__defaults__ or (), strict=True)
)
