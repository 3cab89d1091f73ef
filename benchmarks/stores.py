"""PostgreSQL and Redis for a benchmark: Debian's, durable as they come, on the server's core and counted with it."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from peers.peer import Family, free_port


def addresses(family: Family, database: str, key_value: str) -> tuple[str, str]:
    """What stands in the configuration. `postgresql`, `redis` and `valkey` (the server that is embedded otherwise, on a
    port) start one; a program that is missing ends the run."""
    if database == "sqlite":
        database = "sqlite:///var/homerealm.db"
    elif database == "postgresql":
        database = postgresql(family)
    if key_value == "redis":
        key_value = redis(family, shutil.which("redis-server"))
    elif key_value == "valkey":
        from broker.stores.kv.embedded import find_server

        key_value = redis(family, find_server())
    return database, key_value


def redis(family: Family, program: str | Path | None) -> str:
    """An append-only file, synced every second, as the embedded store has it."""
    port = free_port()
    if program is None:
        sys.exit("no redis-server here: apt install redis-server")
    folder = family.state / "redis"
    folder.mkdir()
    family.start(
        program, "--port", port, "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "yes",
        "--loglevel", "warning",
    )  # fmt: skip
    family.wait_for(lambda: listens(port), "redis-server")
    return f"redis://127.0.0.1:{port}/0"


def postgresql(family: Family) -> str:
    """On a TCP port, as it is reached by replicas; every commit is synced."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not found:
        sys.exit("no PostgreSQL here: apt install postgresql")
    folder, port = Path(tempfile.mkdtemp(prefix="hr-pg-")), free_port()
    family.folders.append(folder)  # the scratch folder may be closed to whom it runs as
    data, before = folder / "data", []
    if os.getuid() == 0:  # it refuses to run as root
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        before = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    initdb = [*before, found[-1] / "initdb", "-D", data, "-U", "homerealm", "-A", "trust", "-E", "UTF8", "--locale=C"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd="/")
    family.start(
        *before, found[-1] / "postgres", "-D", data, "-k", folder, "-p", port, "-c", "listen_addresses=127.0.0.1",
        "-c", "shared_buffers=128MB", "-c", "log_min_messages=fatal", cwd=Path("/"),
    )  # fmt: skip
    command = [found[-1] / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "homerealm", "homerealm"]
    family.wait_for(lambda: subprocess.run(command, capture_output=True).returncode == 0, "PostgreSQL")
    return f"postgresql://homerealm@127.0.0.1:{port}/homerealm"


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True
