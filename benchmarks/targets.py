"""Servers to be measured: started from their scripts, ended together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def log(*words: object) -> None:
    """A line for people."""
    print(*words, file=sys.stderr, flush=True)


class Targets:
    """Running servers by name. `with` ends them, whatever happens."""

    def __init__(self, folder: Path, core: int) -> None:
        self.folder, self.core = folder, core
        self.files: dict[str, Path] = {}
        """The file that describes each (benchmarks/README.md)."""
        self._scripts: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Targets:
        for sign in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(sign, lambda *_: sys.exit(1))
        return self

    def start(self, name: str, script: str, *options: str, python: str = sys.executable, core: int | None = None,
              **environment: str) -> dict:  # fmt: skip
        """Start a server and wait until it answers; returns its description. A server that does not start ends the run."""
        target, said = self.folder / f"{name}.json", self.folder / f"{name}.log"
        where = str(self.core if core is None else core)
        command = [python, str(HERE / script), "--dir", str(self.folder / "s"), "--core", where, *options]
        with target.open("wb") as out, said.open("wb") as errors:
            process = subprocess.Popen(command, stdout=out, stderr=errors, env=os.environ | environment)
        self._scripts[name] = process
        while not target.read_text().strip():
            if process.poll() is not None:
                sys.exit(f"{name} did not start:\n{said.read_text()[-2000:]}")
            time.sleep(0.1)
        self.files[name] = target
        described = json.loads(target.read_text())
        log(f"{name}: first answer after {described.get('started_in', 0):.2f} s")
        return described

    def end(self, *names: str) -> None:
        """End these; without names, all."""
        ending = [self._scripts.pop(name) for name in names or list(self._scripts)]
        for process in ending:
            process.terminate()
        for process in ending:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()

    def __exit__(self, *_: object) -> None:
        self.end()
