#!/usr/bin/env python3
"""Peer: Canaille (Flask, Authlib) on SQLite under hypercorn, one worker on one core; prints the target as JSON and stays until TERM.

Its own password hash (PBKDF2-SHA512), one client, RS512 access tokens and RS256 ID tokens. Mails of its forgotten-password page go to a sink in this
script, which is not part of the measured processes; Canaille sends them while the browser waits.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from peer import CLIENT, PASSWORD, Family, parser, python_with

SEED = """
import json, sys
from canaille import create_app
from canaille.app import models
from canaille.backends import Backend
wish = json.load(sys.stdin)
app = create_app()
with app.app_context(), Backend.instance.session():
    for name in wish["names"]:
        Backend.instance.save(models.User(user_name=name, family_name=name, formatted_name=name, emails=[name + "@example.org"], password=wish["password"]))
    client = models.Client(client_id=wish["client_id"], client_secret=wish["client_secret"], client_name="bench", client_uri="https://bench.example",
                           redirect_uris=[wish["redirect_uri"]], scope=["openid", "profile", "email", "offline_access"], response_types=["code"],
                           grant_types=["authorization_code", "refresh_token", "client_credentials"], token_endpoint_auth_method="client_secret_basic")
    client.audience = [client]
    Backend.instance.save(client)
"""


async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An SMTP server that accepts everything and keeps nothing (RFC 5321)."""
    writer.write(b"220 sink\r\n")
    with contextlib.suppress(ConnectionError):
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                writer.write(b"354 go on\r\n")
                while (await reader.readline()) not in (b".\r\n", b""):
                    pass
            writer.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 fine\r\n")
            await writer.drain()
            if verb == b"QUIT":
                break
    writer.close()


def sink() -> int:
    """Start the SMTP sink in a thread; returns its port."""
    ready, found = threading.Event(), []

    async def serve() -> None:
        server = await asyncio.start_server(converse, "127.0.0.1", 0)
        found.append(server.sockets[0].getsockname()[1])
        ready.set()
        await server.serve_forever()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    ready.wait(5)
    return found[0]


def output(*command: object, cwd: Path, given: str = "") -> str:
    """What a command prints; its failure ends the script with its last words."""
    done = subprocess.run(command, input=given, cwd=cwd, text=True, capture_output=True)
    if done.returncode:
        sys.exit(f"{command[1]}: {done.stderr[-800:]}")
    return done.stdout


def main() -> None:
    """Install what is missing, make database, key, user and client, start, stay."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument(
        "--users",
        type=int,
        default=256,
        help="how many (256; equal tokens of one user within a second are a server error)",
    )
    options = options.parse_args()
    python = python_with(options.dir / "canaille", "Canaille[front,oidc,server,sqlite]==0.3.6")
    with Family(options.core, options.dir, options.port) as family:
        issuer, state, command = f"http://localhost:{family.port}", family.state, python.with_name("canaille")
        key = json.loads(output(command, "jwk", "create", "rsa", cwd=state).splitlines()[-1])
        (state / "canaille.toml").write_text(f"""SECRET_KEY = "{os.urandom(24).hex()}"
SERVER_NAME = "localhost:{family.port}"
PREFERRED_URL_SCHEME = "http"
[CANAILLE]
DATABASE = "sql"
CAPTCHA_ENABLED = false
LOGGING = {{version = 1, disable_existing_loggers = true, root = {{level = "ERROR"}}}}
[CANAILLE.SMTP]
HOST = "127.0.0.1"
PORT = {sink()}
FROM_ADDR = "bench@example.org"
[CANAILLE_SQL]
DATABASE_URI = "sqlite:///{state}/canaille.sqlite"
[CANAILLE_OIDC]
ACTIVE_JWKS = [{{{", ".join(f"{name} = {json.dumps(value)}" for name, value in key.items())}}}]
""")
        names = [f"user{number}" for number in range(options.users)]
        output(command, "db", "upgrade", cwd=state)
        output(python, "-c", SEED, cwd=state, given=json.dumps({"names": names, "password": PASSWORD, **CLIENT}))
        family.start(command, "run", "--bind", f"localhost:{family.port}", "--loglevel", "ERROR", cwd=state)
        family.foreground(issuer, names, name="Canaille SQLite", forgot_url=issuer + "/reset")


if __name__ == "__main__":
    main()
