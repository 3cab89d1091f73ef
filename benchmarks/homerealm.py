#!/usr/bin/env python3
"""Homerealm itself as a target: `homerealm serve` with one worker on one core; prints the target as JSON and stays until TERM.

    homerealm.py > homerealm.json               argon2id as in production
    homerealm.py --hash off > unhashed.json     the same server, with a hash that costs nothing

SQLite and the embedded Valkey, both durable, are pinned to the same core and counted with it. 1000 users share one password,
and one hash of it, so that they are made in a moment.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from peers.peer import CLIENT, PASSWORD, Family, parser

HERE = Path(__file__).resolve().parent
BROKER = """\
base_url: http://localhost:{port}
database: sqlite:///var/homerealm.db
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


def names(count: int) -> list[str]:
    """User names of equal length."""
    return [f"user{number:07}" for number in range(count)]


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
    given.add_argument("--users", type=int, default=1000)
    given.add_argument("--workers", type=int, default=1, help="web processes (1: figures are per core)")
    given.add_argument("--key-value", default="embedded", help="or redis://...")
    options = given.parse_args()
    with Family(options.core, options.dir, options.port) as family:
        config = family.state / "config"
        (config / "tenants").mkdir(parents=True)
        (config / "broker.yaml").write_text(BROKER.format(port=family.port, key_value=options.key_value))
        (config / "tenants" / "acme.yaml").write_text(TENANT.format(alg=options.alg, **CLIENT))
        environment = {
            "HOMEREALM_CONFIG": str(config),
            "PYTHONPATH": path_of(options),
        }
        subprocess.run(
            [sys.executable, HERE / "people.py", str(config), str(options.users), PASSWORD],
            check=True, env=os.environ | environment, stdout=sys.stderr,
        )  # fmt: skip
        family.start(
            sys.executable, "-m", "broker", "serve", "--config", config, "--host", "127.0.0.1",
            "--port", family.port, "--workers", options.workers, env=environment, cwd=family.state,
        )  # fmt: skip
        family.foreground(
            f"http://localhost:{family.port}/t/acme", names(options.users),
            name=f"homerealm hash {options.hash} {options.alg}", forwarded_for=True, forgot_expect="sent you an email",
            mail=str(family.state / "var" / "mail"),
        )  # fmt: skip


if __name__ == "__main__":
    main()
