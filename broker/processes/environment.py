"""The environment variables by which processes of one installation tell each other what they need.

All but `CONFIG` and `NO_UPGRADE` are set by `homerealm serve` for its children, and by nobody else.
"""

from __future__ import annotations

CONFIG = "HOMEREALM_CONFIG"
"""The configuration folder, where no `--config` names one."""
KEY_VALUE_URL = "HOMEREALM_KEY_VALUE_URL"
"""Where the embedded store listens."""
NO_UPGRADE = "HOMEREALM_NO_UPGRADE"
"""Set to anything: the tables are upgraded by `homerealm db upgrade` alone."""
METRICS = "HOMEREALM_METRICS"
"""The folder of the tallies."""
ROLE = "HOMEREALM_ROLE"
"""`web` or `worker`: what a process is called in its metrics."""
LAST_GOOD = "HOMEREALM_LAST_GOOD"
"""The descriptor and inode of the file with the last good configuration (broker/processes/last_good)."""
RELOAD_BELL = "HOMEREALM_RELOAD_BELL"
"""The descriptor and inode of the file that says how often SIGHUP came (broker/processes/bell)."""
HASHING_LANES = "HOMEREALM_HASHING_LANES"
"""How many passwords each process hashes at a time, in a process for that. Unset: on threads, one for each core."""
