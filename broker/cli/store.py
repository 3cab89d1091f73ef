"""The process that keeps the embedded key-value store, when it is started again: `-m broker.cli.store FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from broker.cli.serve import event_of_a_process
from broker.stores.kv.embedded import keep_one

if __name__ == "__main__":
    keep_one(Path(sys.argv[1]), tell=event_of_a_process)
