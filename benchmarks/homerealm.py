#!/usr/bin/env python3
"""Homerealm itself as a target: `homerealm serve` with one worker on one core; prints the target as JSON and stays until TERM.

    homerealm.py > homerealm.json               argon2id as in production
    homerealm.py --hash off > unhashed.json     the same server, with a hash that costs nothing
    homerealm.py --database postgresql --key-value redis --replicas 2      two of them on stores of their own

SQLite and the embedded Valkey, both durable, are pinned to the same core and counted with it; so are a PostgreSQL and a
redis-server that it starts. 1000 users share one password, and one hash of it, so that they are made in a moment.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import proctree
import stores
from peers.peer import CLIENT, PASSWORD, Family, free_port, parser

HERE = Path(__file__).resolve().parent
BROKER = """\
base_url: http://localhost:{port}
database: {database}
key_value: {key_value}
secret_key_file: var/secret.key
mail: {{from: "Bench <no-reply@localhost>", transport: "maildir:var/mail"}}
trusted_proxies: [127.0.0.0/8]
"""
TENANT = """\
tenant: acme
name: Acme
rules:
  password: {{blocklist: false}}
  guard: {{challenge: "{challenge}"}}
connections:
  - {{id: users, type: database, title: "Acme account", identifiers: [username, email]}}
clients:
  - client_id: {client_id}
    client_name: Bench
    client_secret: {client_secret}
    redirect_uris: ["{redirect_uri}"]
    grant_types: [authorization_code, refresh_token, client_credentials]
    id_token_signed_response_alg: {alg}
"""


SIGNING_IN = 20_000
"""More users than that stay away: the driver has a list of those who come, from all over the table."""


def names(count: int) -> list[str]:
    """User names of equal length."""
    return [f"user{number:07}" for number in range(count)]


def visitors(count: int) -> list[str]:
    """Those who sign in, in no order."""
    chosen = names(count)[:: max(1, count // SIGNING_IN)]
    random.Random(1).shuffle(chosen)
    return chosen


def path_of(options: argparse.Namespace) -> str:
    """What comes before the installed packages."""
    if options.hash == "off":
        return str(HERE / "unhashed")
    if options.bindings == "none":
        return str(HERE / "sodium")
    return options.bindings or ""


def main() -> None:
    """Command line entry."""
    given = parser(__doc__.splitlines()[0])
    given.add_argument("--hash", choices=["argon2id", "off"], default="argon2id", help="what passwords are hashed with")
    given.add_argument(
        "--bindings", help="a folder with an argon2-cffi to use, or `none`: PyNaCl only (default: as installed)"
    )
    given.add_argument("--alg", choices=["ES256", "RS256"], default="ES256", help="of ID tokens")
    given.add_argument(
        "--challenge", default="off", help="`under_attack`: as the product has it (the driver solves none)"
    )
    given.add_argument("--users", type=int, default=1000)
    given.add_argument("--workers", type=int, default=1, help="web processes (1: figures are per core)")
    given.add_argument("--replicas", type=int, default=1, help="of the whole server, on the same stores")
    given.add_argument(
        "--key-value", default="embedded", help="`valkey`, `redis`: one that is started and counted; or redis://..."
    )
    given.add_argument(
        "--database", default="sqlite", help="`postgresql`: one that is started and counted; or an address"
    )
    given.add_argument(
        "--starts", type=int, default=0, help="start and end it so often before, and tell how long it took"
    )
    options = given.parse_args()
    with Family(options.core, options.dir, options.port) as family:
        database, key_value = stores.addresses(family, options.database, options.key_value)
        config = family.state / "config"
        (config / "tenants").mkdir(parents=True)
        broker = BROKER.format(port=family.port, key_value=key_value, database=database)
        (config / "broker.yaml").write_text(broker)
        (config / "tenants" / "acme.yaml").write_text(
            TENANT.format(alg=options.alg, challenge=options.challenge, **CLIENT)
        )
        environment = {"HOMEREALM_CONFIG": str(config), "PYTHONPATH": path_of(options)}
        subprocess.run(
            [sys.executable, HERE / "people.py", str(config), str(options.users), PASSWORD],
            check=True, env=os.environ | environment, stdout=sys.stderr,
        )  # fmt: skip
        os.sync()  # a million people are on disk before anything is measured

        def serve(port: int, env: dict[str, str] = environment) -> subprocess.Popen:
            return family.start(
                sys.executable, "-m", "broker", "serve", "--config", config, "--host", "127.0.0.1",
                "--port", port, "--workers", options.workers, env=env, cwd=family.state,
            )  # fmt: skip

        def as_installed(port: int) -> subprocess.Popen:
            """What this benchmark puts on the path imports modules before the product does."""
            return serve(port, environment | {"PYTHONPATH": ""})

        issuer = f"http://localhost:{family.port}/t/acme"
        starts = [first_answer(family, as_installed, issuer) for _ in range(options.starts)]
        ports = [family.port, *(free_port() for _ in range(options.replicas - 1))]
        for port in ports:
            serve(port)
        family.foreground(
            issuer, visitors(options.users), name=f"homerealm hash {options.hash} {options.alg}", forwarded_for=True,
            forgot_expect="sent you an email", mail=str(family.state / "var" / "mail"), key_value=key_value,
            starts=starts, connect=[f"127.0.0.1:{port}" for port in ports],
        )  # fmt: skip


def first_answer(family: Family, serve: Callable[[int], subprocess.Popen], issuer: str) -> tuple[float, float]:
    """Seconds from exec to a first answer, and of CPU until then. The server has ended when this returns."""
    child = serve(family.port)
    family.wait_for(lambda: family.answers(issuer), issuer)
    taken = time.monotonic() - family.began, sum(proctree.cpu([child.pid]).values())
    child.terminate()
    child.wait(20)
    family.children.remove(child)
    return taken


if __name__ == "__main__":
    main()
