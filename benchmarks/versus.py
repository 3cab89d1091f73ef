#!/usr/bin/env python3
"""`make bench-peers`: Homerealm and its peers in one run, as one page of Markdown on standard output.

    versus.py [--seconds 1.5] [--rounds 3] [--parts operations,hashed,flood,growth,crew,limits] [--dir FOLDER] [--raw FILE] > docs/benchmarks.md

Each server is one process on core 0, with its store; the driver is on core 1 and verifies every answer. Rounds are interleaved:
every target is measured in each, in changing order. CPU milliseconds of an operation come first: they move far less
than rates when a machine is shared. Ratios say how many times better Homerealm is: medians of the ratios within a round.
The first run installs the peers into FOLDER (npm, pip) and builds Argon2id for this CPU where there is a compiler.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import compare
import machine
from raw import everything, signing_rate
from scale import crew_part, growth_part, limits_part, verdict
from targets import HERE, Targets, log

NODE, MEMORY, CANAILLE, US = "node-oidc-provider, Valkey", "node-oidc-provider, memory", "Canaille, SQLite", "Homerealm"
OPERATIONS = {  # what it is called: mode of the driver
    "discovery": "discovery", "login page": "authorize", "client credentials": "cc", "refresh": "refresh",
    "userinfo": "userinfo", "whole login, hash off": "full", "forgot": "forgot",
}  # fmt: skip
"""Forgotten passwords last: their mails are sent later, on the core that the next operation would be measured on."""
WANTED = {  # against whom, floor, goal; Canaille: 5 and 15 everywhere else
    "discovery": (CANAILLE, 5.0, 8.0), "login page": (NODE, 1.3, 1.8), "client credentials": (NODE, 0.95, 1.2),
    "refresh": (NODE, 0.95, 1.2), "whole login, hash off": (NODE, 1.2, 1.6),
}  # fmt: skip
NOT_THEIRS = {(NODE, "forgot"), (MEMORY, "forgot"), (CANAILLE, "refresh")}
"""Node has no such page; Canaille makes equal tokens within a second and answers 500 (benchmarks/README.md)."""

Runs = dict[str, dict[str, list[dict]]]


def measured(targets: Targets, operations: dict[str, str], names: list[str], options: argparse.Namespace,
             mixed: bool = False) -> Runs:  # fmt: skip
    """By operation and target, the runs of the driver."""
    settings = argparse.Namespace(**vars(options), mixed=mixed)
    found: Runs = {}
    for operation, mode in operations.items():
        having = [name for name in names if (name, operation) not in NOT_THEIRS]
        found[operation] = {name: [] for name in having}
        for name in having:
            compare.measure(targets.files[name], mode, 1, settings)  # not counted: compilers and caches warm up
        for number in range(options.rounds):
            turn = number % len(having)
            for name in having[turn:] + having[:turn]:
                run = compare.measure(targets.files[name], mode, options.seconds, settings)
                found[operation][name].append(run)
                figure = run.get("failure") or run.get("ops_per_s") or run.get("rate_ratio")
                log(f"{operation}, round {number + 1}, {name}: {figure}")
    return found


def operations_part(targets: Targets, options: argparse.Namespace) -> tuple[list[str], Runs]:
    """Every operation against every peer, hashing off where it can be."""
    start_peers(targets, options)
    targets.start(US, "homerealm.py", "--hash", "off")
    runs = measured(targets, OPERATIONS, [US, NODE, MEMORY, CANAILLE], options)
    targets.end()
    note = ("Hash off: a password's hash costs nothing, neither itself nor the way to it (a queue and a process of ours, a "
            "thread pool of theirs). Canaille cannot do without its own, PBKDF2-SHA512.")  # fmt: skip
    lines = ["## Operations", "", note, "", compare.tables(runs, False), "", "| against | operation | in CPU | in rate | floor | goal | |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for operation, by_target in runs.items():
        ours = by_target[US]
        who, floor, goal = WANTED.get(operation, (None, 0.0, 0.0))
        rows = ([(who, floor, goal)] if who else []) + ([(CANAILLE, 5.0, 15.0)] if who != CANAILLE else [])
        for peer, low, high in rows:
            if peer in by_target:
                cpu = compare.ratio(ours, by_target[peer], "server", "cpu_ms_per_op", less_is_better=True)
                rate = compare.ratio(ours, by_target[peer], "ops_per_s")
                cells = [
                    peer,
                    operation,
                    compare.cell(cpu),
                    compare.cell(rate),
                    f"{low:g}",
                    f"{high:g}",
                    verdict(cpu, low, high),
                ]
                lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *signed(runs, options)]
    return lines, runs


def signed(runs: Runs, options: argparse.Namespace) -> list[str]:
    """A token beside the one thing in it that nobody can do without."""
    _, bare = signing_rate("ES256", options.server_core, 1.5)
    cost = compare.middle(runs["client credentials"][US], "server", "cpu_ms_per_op")
    share = compare.cell(bare / cost) if cost else "unknown"
    return [
        f"The bare ES256 signature of a token takes {bare:.3f} ms on this core, {share} of what client credentials take."
    ]


def start_peers(targets: Targets, options: argparse.Namespace) -> None:
    """The three peers, hashing off where they allow it."""
    peers = {"--dir": str(options.dir)}
    given = [part for pair in peers.items() for part in pair]
    targets.start(NODE, "peers/node.py", *given, "--store", "redis", PEER_HASH="off")
    targets.start(MEMORY, "peers/node.py", *given, "--store", "memory", PEER_HASH="off")
    targets.start(CANAILLE, "peers/canaille.py", *given)


def hashed_part(targets: Targets, options: argparse.Namespace) -> tuple[list[str], Runs]:
    """Whole logins with Argon2id, 19 MiB, two passes, one lane: by stock wheels, and built for this CPU."""
    stock, fast = f"{US}, stock wheels", f"{US}, Argon2id built for the CPU"
    built = bindings(options.dir)
    theirs = {f"{NODE}, Rust Argon2id": "redis", f"{MEMORY}, Rust Argon2id": "memory"}
    names = [stock, *([fast] if built else []), *theirs]
    targets.start(stock, "homerealm.py", "--bindings", "none")
    if built:
        targets.start(fast, "homerealm.py", "--bindings", str(built))
    for name, store in theirs.items():
        targets.start(name, "peers/node.py", "--dir", str(options.dir), "--store", store)
    rates = {"stock": everything(options.server_core, 1.5)}
    if built:
        rates["built"] = raw_with(built, options.server_core)
    runs = measured(targets, {"whole login, argon2id": "full"}, names, options)
    targets.end()
    if built:
        rates["built again"] = raw_with(built, options.server_core)
    rates["stock again"] = everything(options.server_core, 1.5)
    by_target = runs["whole login, argon2id"]
    lines = [
        "## Whole logins with their hash",
        "",
        compare.tables(runs, False),
        "",
        "| alone on the core | a second | CPU ms |",
        "|---|---|---|",
    ]
    for label, by_name in rates.items():
        for name, (rate, cost) in by_name.items():
            lines.append(f"| {name} ({label}) | {rate:,.1f} | {cost:.3f} |")
    lines += ["", "| whole login with argon2id | in CPU | in rate | floor | goal | |", "|---|---|---|---|---|---|"]

    def row(title: str, cpu: float | None, rate: float | None, floor: float, goal: float) -> None:
        lines.append(
            f"| {title} | {compare.cell(cpu)} | {compare.cell(rate)} | {floor:g} | {goal:g} | {verdict(cpu, floor, goal)} |"
        )

    for name, library, label, floor, goal in (
        (stock, "argon2id, PyNaCl", "stock", 0.6, 0.9),
        (fast, "argon2id, argon2-cffi", "built", 1.0, 1.3),
    ):
        if name in by_target:
            raw = [rates[turn][library] for turn in (label, f"{label} again")]
            cost = compare.middle(by_target[name], "server", "cpu_ms_per_op")
            rate = compare.middle(by_target[name], "ops_per_s")
            row(f"{name}, against {library} alone", median(c for _, c in raw) / cost if cost else None,
                rate / median(r for r, _ in raw) if rate else None, 0.65, 0.85)  # fmt: skip
            for peer in theirs:
                cpu = compare.ratio(by_target[name], by_target[peer], "server", "cpu_ms_per_op", less_is_better=True)
                row(
                    f"{name}, against {peer}",
                    cpu,
                    compare.ratio(by_target[name], by_target[peer], "ops_per_s"),
                    floor,
                    goal,
                )
    return lines, runs


def bindings(folder: Path) -> Path | None:
    """A folder with argon2-cffi compiled for this CPU; None without a compiler."""
    place = folder / "argon2-for-this-cpu"
    if not (place / "argon2").exists():
        if not shutil.which("cc"):
            return None
        log("building Argon2id for this CPU")
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--target",
                place,
                "--no-binary",
                "argon2-cffi-bindings",
                "argon2-cffi==25.1.0",
            ],
            env=os.environ | {"CFLAGS": "-O3 -march=native"},
        )
        if done.returncode:
            return None
    return place


def raw_with(folder: Path, core: int) -> dict[str, tuple[float, float]]:
    """The raw rates of an environment in which these bindings come first."""
    command = [sys.executable, HERE / "raw.py", "--core", str(core), "--seconds", "1.5"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(folder)}, stdout=subprocess.PIPE, check=True)
    return {name: tuple(pair) for name, pair in json.loads(done.stdout).items() if "argon2-cffi" in name}


def flood_part(targets: Targets, options: argparse.Namespace) -> tuple[list[str], Runs]:
    """Tokens and pages while somebody guesses passwords."""
    theirs = f"{NODE}, Rust Argon2id"
    targets.start(US, "homerealm.py", "--bindings", "none", "--challenge", "under_attack")
    targets.start(theirs, "peers/node.py", "--dir", str(options.dir), "--store", "redis")
    runs = measured(
        targets,
        {"client credentials": "cc", "login page": "authorize"},
        [US, theirs],
        options,
        mixed=True,
    )
    targets.end()
    lines = [
        "## Under a flood of wrong passwords",
        "",
        compare.tables(runs, True),
        "",
        "| | | floor | goal | |",
        "|---|---|---|---|---|",
    ]
    for operation, by_target in runs.items():
        kept = compare.middle(by_target[US], "rate_ratio")
        slower = compare.middle(by_target[US], "p99_ratio")
        lines += [
            f"| {operation}, rate left | {compare.cell(kept)} | 0.9 | 0.98 | {verdict(kept, 0.9, 0.98)} |",
            f"| {operation}, times its p99 | {compare.cell(slower)} | 2 | 1.1 | {verdict(slower, 2, 1.1)} |",
        ]
    return lines, runs


PARTS = {
    "operations": operations_part, "hashed": hashed_part, "flood": flood_part,
    "growth": growth_part, "crew": crew_part, "limits": limits_part,
}  # fmt: skip


def main() -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--seconds", type=float, default=1.5, help="a window")
    add("--rounds", type=int, default=3)
    add("--warmup", type=float, default=1.0)
    add("--concurrency", type=int, default=16)
    add("--parts", default=",".join(PARTS), help="some of: " + ", ".join(PARTS))
    add(
        "--dir",
        type=Path,
        default=Path(tempfile.gettempdir()) / "oidc-bench-peers",
        help="where peers are installed and kept",
    )
    add("--server-core", type=int, default=0)
    add("--driver-core", type=int, default=1)
    add("--raw", type=Path, metavar="FILE", help="write every run's JSON there")
    options = parser.parse_args()
    if options.rounds < 3:
        parser.error("at least three rounds: single runs on a shared machine say nothing")
    if unknown := set(options.parts.split(",")) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}")
    if max(os.sched_getaffinity(0)) < options.driver_core:
        parser.error("needs a core for the server and another for the driver")
    options.dir.mkdir(parents=True, exist_ok=True)
    began, results, pages = machine.load(), {}, []
    with tempfile.TemporaryDirectory(prefix="hrb-") as scratch, Targets(Path(scratch), options.server_core) as targets:
        for part in options.parts.split(","):
            lines, results[part] = PARTS[part](targets, options)
            pages += ["", *lines]
            if options.raw:
                options.raw.write_text(json.dumps(results, indent=1))
    print(machine.page(options, began), *pages, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
