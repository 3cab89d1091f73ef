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
import sys
import tempfile
from pathlib import Path
from statistics import median

import compare
from raw import argon2id_rate
from targets import Targets, log

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
    with tempfile.TemporaryDirectory(prefix="hrb-") as scratch:
        folder = Path(scratch)
        with Targets(folder, options.server_core) as targets:
            starts = [
                targets.start(name, "homerealm.py", "--hash", hashing)["started_in"]
                for name, hashing in (("production", "argon2id"), ("unhashed", "off"))
            ]
            for turn in range(options.rounds):
                rates.append(argon2id_rate(options.server_core))
                for row, (server, mode) in rows.items():
                    found = compare.measure(targets.files[server], mode, options.seconds, options)
                    results[row].append(found)
                    log(f"round {turn + 1}: {row}: {found.get('failure') or found['ops_per_s']}")
                    for sample in found.get("error_samples", [])[:2]:
                        log("   ", sample)
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
