"""The demo's broker: the real one, and a mailbox viewer. `homerealm serve` never loads this module."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from broker.app import create_app
from broker.demo.mailbox import mailbox
from broker.services import event_log
from broker.serving.gateway import Gateway
from broker.web.quick import quick

MAILDIRS = "HOMEREALM_DEMO_MAILDIRS"


def gateway() -> Gateway:
    event_log.configure()
    app = create_app(os.environ["HOMEREALM_CONFIG"])
    app.register_blueprint(mailbox([Path(folder) for folder in os.environ[MAILDIRS].split(os.pathsep)]))
    return Gateway(app, quick=quick)


if __name__ == "__main__":
    from broker.wsgi import listen, run

    run(listen(sys.argv[1], int(sys.argv[2])), gateway())
