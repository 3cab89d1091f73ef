"""What the peers' start scripts share: a scratch folder, installation, child processes that never outlive the script."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from collections.abc import Callable
from pathlib import Path

CLIENT = {
    "client_id": "bench",
    "client_secret": "bench-secret-of-at-least-32-characters",
    "redirect_uri": "http://localhost:9/callback",
}
PASSWORD = "correct horse battery staple"
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # INT too: a shell's background job begins with it ignored


def parser(description: str) -> argparse.ArgumentParser:
    """Options that every peer has."""
    found = argparse.ArgumentParser(description=description)
    found.add_argument(
        "--dir",
        type=Path,
        default=Path(tempfile.gettempdir()) / "oidc-bench-peers",
        help="scratch folder (in the temporary folder)",
    )
    found.add_argument("--port", type=int, default=0, help="port on localhost (a free one)")
    found.add_argument("--core", type=int, default=0, help="core that everything is pinned to (0)")
    return found


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def log(*words: object) -> None:
    """A line for people."""
    print(*words, file=sys.stderr, flush=True)


def python_with(folder: Path, *packages: str) -> Path:
    """The interpreter of a virtual environment that has exactly these requirements installed."""
    done, want = folder / "installed.txt", "\n".join(packages)
    if not done.exists() or done.read_text() != want:
        log("installing", *packages)
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run(
            [folder / "bin/python", "-m", "pip", "install", "--quiet", *packages], check=True, stdout=sys.stderr
        )
        done.write_text(want)
    return folder / "bin/python"


def node_project(source: Path, folder: Path) -> Path:
    """A copy of a Node project with its dependencies installed (without running install scripts)."""
    done, want = folder / "installed.json", (source / "package.json").read_text()
    folder.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        shutil.copy(file, folder)
    if not done.exists() or done.read_text() != want:
        log("installing", *json.loads(want)["dependencies"])
        subprocess.run(
            ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--silent"],
            cwd=folder,
            check=True,
            stdout=sys.stderr,
        )
        done.write_text(want)
    return folder


class Family:
    """The processes that this script started and the folder of their state. `with` ends and removes them, whatever happens."""

    def __init__(self, core: int, folder: Path, port: int):
        self.core, self.children, self.began = core, [], time.monotonic()
        self.port = port or free_port()
        self.state = folder / f"state-{self.port}"
        self.folders: list[Path] = []
        """More to remove at the end."""

    def __enter__(self) -> Family:
        shutil.rmtree(self.state, ignore_errors=True)
        self.state.mkdir(mode=0o700, parents=True)
        for sign in SIGNALS:
            signal.signal(sign, lambda *_: sys.exit(0))
        return self

    def start(self, *command: object, env: dict[str, str] | None = None, cwd: Path | None = None) -> subprocess.Popen:
        """A child in a process group of its own, pinned; it writes to our standard error."""
        child = subprocess.Popen(
            ["taskset", "-c", str(self.core), *map(str, command)],
            env=os.environ | (env or {}),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            start_new_session=True,
        )
        self.children.append(child)
        self.began = time.monotonic()
        return child

    def wait_for(self, ready: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Until `ready()` is true; a child that dies or a delay ends the script."""
        until = time.monotonic() + seconds
        while not ready():
            if any(child.poll() is not None for child in self.children) or time.monotonic() > until:
                sys.exit(f"{what} did not start")
            time.sleep(0.02)

    def answers(self, issuer: str) -> bool:
        """Whether its metadata is there."""
        try:
            with DIRECT.open(issuer + "/.well-known/openid-configuration", timeout=5) as answer:
                return json.load(answer)["issuer"] == issuer
        except (OSError, ValueError):
            return False

    def foreground(self, issuer: str, names: list[str], **more: object) -> None:
        """Wait for the issuer, print the target as JSON, and stay until a signal or a child's end."""
        users = self.state / "users.txt"
        users.write_text("".join(f"{name}:{PASSWORD}\n" for name in names))
        self.wait_for(lambda: self.answers(issuer), issuer)
        more["started_in"] = round(time.monotonic() - self.began, 3)
        print(
            json.dumps(
                {
                    "issuer": issuer,
                    **CLIENT,
                    "users": str(users),
                    "pid": os.getpid(),
                    "measure": [child.pid for child in self.children],
                    **more,
                }
            ),
            flush=True,
        )
        while all(child.poll() is None for child in self.children):
            time.sleep(0.5)
        sys.exit("a server ended by itself")

    def __exit__(self, *_: object) -> None:
        for sign in SIGNALS:
            signal.signal(sign, signal.SIG_IGN)
        for child in reversed(self.children):
            for sign in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(child.pid, sign)
                    child.wait(5)
                    break
                except ProcessLookupError:
                    break
                except subprocess.TimeoutExpired:
                    continue
        for folder in (self.state, *self.folders):
            shutil.rmtree(folder, ignore_errors=True)
