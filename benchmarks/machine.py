"""On what, with what, and when: the head of a page of figures."""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

NOT_SHOWN = re.compile(r"--(?:raw|dir)[ =]\S+")
"""Options that change no figure."""
HEAD = """# Measured against its peers

Made by `make bench-peers{arguments}` (benchmarks/versus.py) on {date}; [benchmarks/README.md](../benchmarks/README.md) says what an operation is
and what is verified. Do not carry absolute figures to another machine: the ratios are those of one run.

* Machine: {cpu}, {cores} cores{virtual}, {memory} GB; {system}. Load average {began} at the beginning, {ended} at the end (the run itself is about 1).
* Homerealm {homerealm} on Python {python}: one web process, one background worker, SQLite and the embedded Valkey, all durable, all on
  one core and counted. Authlib {authlib}, Flask {flask}, httptools {httptools}, SQLAlchemy {sqlalchemy}, PyNaCl {nacl}.
* Peers: node-oidc-provider 9.13.3 on Node {node} (one process; Valkey 9.1 durable on the same core and counted, or memory), Canaille 0.3.6.
* {rounds} interleaved rounds of {seconds:g} s, {concurrency} at a time; medians. ES256 tokens (Canaille: RS256, RS512).

Why a figure is below its floor or goal, and what it would take: [decisions/figures-below-their-goal.md](decisions/figures-below-their-goal.md)."""


def load() -> str:
    """Of the last minute."""
    return f"{os.getloadavg()[0]:.1f}"


def first(path: str, name: str) -> str:
    """The value of the first line of a file in /proc that begins with a name."""
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return "unknown"


def output(*command: str) -> str:
    """What a command says, or `none`."""
    try:
        return subprocess.run(command, text=True, capture_output=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "none"


def page(options: argparse.Namespace, began: str) -> str:
    """The head of the page."""
    given = shlex.join(NOT_SHOWN.sub("", " ".join(sys.argv[1:])).split())
    return HEAD.format(
        arguments=f" ARGS='{given}'" if given else "",
        date=datetime.now(UTC).date().isoformat(),
        cpu=first("/proc/cpuinfo", "model name"),
        cores=os.cpu_count(),
        virtual=" (virtual)" if "hypervisor" in first("/proc/cpuinfo", "flags") else "",
        memory=round(int(first("/proc/meminfo", "MemTotal").split()[0]) / 2**20),
        system=f"{platform.system()} {platform.release().partition('-')[0]}",
        began=began,
        ended=load(),
        homerealm=version("homerealm"),
        python=".".join(map(str, sys.version_info[:3])),
        authlib=version("authlib"),
        flask=version("flask"),
        httptools=version("httptools"),
        sqlalchemy=version("sqlalchemy"),
        nacl=version("pynacl"),
        node=output("node", "--version").removeprefix("v"),
        rounds=options.rounds,
        seconds=options.seconds,
        concurrency=options.concurrency,
    )
