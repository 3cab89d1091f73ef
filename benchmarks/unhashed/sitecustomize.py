"""A password's hash is computed at once and costs nothing: `homerealm.py --hash off` puts this folder on the path of its servers.

Python imports it when a process starts. Only a benchmark can do this: the product has no switch for it. Nobody queues
for such a hash and none goes to another process: that belongs to what hashing costs, and the peers' is not there either.
"""

from broker.services import hashing

_make = hashing.Argon2Hasher.__init__


def _cheap(self: hashing.Argon2Hasher, *given: object, **named: object) -> None:
    _make(self, **{**named, "memory_kib": 8, "time_cost": 1})


def _at_once(self: hashing.Argon2Hasher, work: object) -> object:
    return work(self.engine)


hashing.Argon2Hasher.__init__ = _cheap
hashing.Argon2Hasher._run = _at_once
