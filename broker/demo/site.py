"""The demo's broker: the real one, and a mailbox viewer. `homerealm serve` never loads this module."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from broker import tether
from broker.app import create_app
from broker.demo.mailbox import mailbox
from broker.gateway import Gateway
from broker.services import event_log

MAILDIRS = "HOMEREALM_DEMO_MAILDIRS"


def gateway() -> Gateway:
    if not tether.tie(os.getppid()):
        raise SystemExit(0)
    event_log.configure()
    app = create_app(os.environ["HOMEREALM_CONFIG"])
    app.register_blueprint(mailbox([Path(folder) for folder in os.environ[MAILDIRS].split(os.pathsep)]))
    return Gateway(app)


if __name__ == "__main__":
    from broker.wsgi import run

    run(sys.argv[1], int(sys.argv[2]), 1, "broker.demo.site:gateway")
