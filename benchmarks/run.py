#!/usr/bin/env python3
"""`make bench`: how fast Homerealm is on this machine, in a few minutes. One worker on core 0, the driver on core 1.

    run.py [--seconds 4] [--rounds 3] [--modes discovery,authorize,...] [--raw FILE]

Two servers are measured in turn, so that drift falls on both: as in production, and with a hash that costs nothing. Raw argon2id
is measured on the server's core between the rounds, while the servers are idle. Medians of the rounds. Machines are noisy: compare
figures of one run only, CPU milliseconds before operations a second. For peers beside it: compare.py.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import compare
from nacl.pwhash import argon2id

HERE = Path(__file__).resolve().parent
PLAN = {  # a row of the table: (server, mode of the driver)
    "discovery": ("unhashed", "discovery"),
    "login page": ("unhashed", "authorize"),
    "client credentials": ("unhashed", "cc"),
    "refresh": ("unhashed", "refresh"),
    "userinfo": ("unhashed", "userinfo"),
    "forgot": ("unhashed", "forgot"),
    "whole login (hash off)": ("unhashed", "full"),
    "whole login (argon2id)": ("production", "full"),
}


def log(*words: object) -> None:
    """A line for people."""
    print(*words, file=sys.stderr, flush=True)


def start(folder: Path, name: str, core: int, *options: str) -> tuple[subprocess.Popen[bytes], Path, float]:
    """A server; the process, the file that describes it, and the seconds from its start to its first answer."""
    target = folder / f"{name}.json"
    with target.open("wb") as out, (folder / f"{name}.log").open("wb") as log_file:
        command = [sys.executable, HERE / "homerealm.py", "--dir", folder / name, "--core", str(core), *options]
        process = subprocess.Popen(list(map(str, command)), stdout=out, stderr=log_file)
    while not target.read_text().strip():
        if process.poll() is not None:
            sys.exit(f"{name} did not start:\n{(folder / f'{name}.log').read_text()[-2000:]}")
        time.sleep(0.1)
    return process, target, float(json.loads(target.read_text()).get("started_in", 0))


def raw_rate(core: int, seconds: float = 1.5) -> tuple[float, float]:
    """argon2id (19 MiB, t=2, p=1) by libsodium, one at a time on one core: verifications a second, and CPU ms of each."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        stored = argon2id.str(b"correct horse battery staple", opslimit=2, memlimit=19 * 2**20)
        count, before, wall = 0, os.times(), time.perf_counter()
        while time.perf_counter() - wall < seconds:
            argon2id.verify(stored, b"correct horse battery staple")
            count += 1
        after, spent = os.times(), time.perf_counter() - wall
    finally:
        os.sched_setaffinity(0, allowed)
    return count / spent, (after.user + after.system - before.user - before.system) * 1000 / count


def table(results: dict[str, list[dict]]) -> list[str]:
    """The rows of the report."""
    lines = [
        "| operation | ops/s | CPU ms/op | p50 ms | p99 ms | requests/op | server busy | PSS MB | errors |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row, runs in results.items():
        good = [run for run in runs if "failure" not in run]
        if not good:
            lines.append(f"| {row} | - | - | - | - | - | - | - | {runs[0]['failure'][:100] if runs else 'not run'} |")
            continue
        bound = "at least " if (compare.middle(good, "driver", "busy") or 0) > 0.85 else ""
        figures = [
            bound + compare.cell(compare.middle(good, "ops_per_s")),
            compare.cell(compare.middle(good, "server", "cpu_ms_per_op"), 3),
            compare.cell(compare.middle(good, "p50_ms")),
            compare.cell(compare.middle(good, "p99_ms")),
            compare.cell(compare.middle(good, "requests_per_op"), 1),
            compare.cell(compare.middle(good, "server", "busy")),
            compare.cell(compare.middle(good, "server", "pss_mb"), 0),
            str(sum(run["errors"] for run in good)),
        ]
        lines.append("| " + " | ".join([row, *figures]) + " |")
    return lines


def main() -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="a window")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warmup", type=float, default=1.0)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--rows", default=",".join(PLAN), help="some of: " + ", ".join(PLAN))
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--driver-core", type=int, default=1)
    parser.add_argument("--raw", type=Path, metavar="FILE", help="write every run's JSON there")
    options = parser.parse_args()
    options.mixed = False
    if max(os.sched_getaffinity(0)) < options.driver_core:
        log("one core only: driver and server share it, and the figures mean little")
        options.driver_core = options.server_core
    if unknown := set(options.rows.split(",")) - set(PLAN):
        parser.error(f"no such row: {', '.join(unknown)}")
    rows = {row: PLAN[row] for row in options.rows.split(",")}
    results: dict[str, list[dict]] = {row: [] for row in rows}
    rates: list[tuple[float, float]] = []
    children: list[subprocess.Popen[bytes]] = []
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="hrb-") as scratch:
        folder = Path(scratch)
        try:
            targets, starts = {}, []
            for name, hashing in (("production", "argon2id"), ("unhashed", "off")):
                process, targets[name], seconds = start(folder, name, options.server_core, "--hash", hashing)
                children.append(process)
                starts.append(seconds)
            for turn in range(options.rounds):
                rates.append(raw_rate(options.server_core))
                for row, (server, mode) in rows.items():
                    found = compare.measure(targets[server], mode, options.seconds, options)
                    results[row].append(found)
                    log(f"round {turn + 1}: {row}: {found.get('failure') or found['ops_per_s']}")
                    for sample in found.get("error_samples", [])[:2]:
                        log("   ", sample)
        finally:
            for process in children:
                process.terminate()
            for process in children:
                process.wait(15)
    rate, cost = median(r for r, _ in rates), median(c for _, c in rates)
    print("\n".join(table(results)))
    print(f"\nargon2id (19 MiB, t=2, p=1) alone on the same core: {rate:.1f} a second, {cost:.1f} CPU ms each")
    whole = results.get("whole login (argon2id)", [])
    if whole and (rated := compare.middle(whole, "ops_per_s")):
        spent = compare.middle(whole, "server", "cpu_ms_per_op") or 0
        print(f"whole login with argon2id against that: {rated / rate:.2f} in rate, {cost / spent:.2f} in CPU", end=" ")
        print("(floor 0.65, goal 0.85)")
    print(f"start to first answer: {min(starts):.2f} s; load average {os.getloadavg()[0]:.1f}")
    if options.raw:
        options.raw.write_text(json.dumps({"results": results, "argon2id": rates}, indent=1))
    return int(any("failure" in run or run["errors"] for runs in results.values() for run in runs))


if __name__ == "__main__":
    sys.exit(main())
