#!/usr/bin/env python3
"""Compare running targets: interleaved rounds, servers on one core, the driver on another, medians and ratios as Markdown.

    compare.py homerealm.json redis.json canaille.json --modes discovery,cc,refresh,full --rounds 3 --seconds 5

The first target is the one in question. Both ratios say how many times better it is: operations per second of the first over
this one, and CPU time per operation of this one over the first; each is the median of the ratios within a round.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import proctree
from journeys import MODES

FLOW = Path(__file__).with_name("flow.py")


def measure(target: Path, mode: str, seconds: float, options: argparse.Namespace) -> dict:
    """One run of the driver; a run that could not begin is `{"failure": why}`."""
    described = json.loads(target.read_text())
    roots = described.get("measure") or [described["pid"]]
    if each := getattr(options, "each", None):  # a process for each of two cores
        proctree.spread(roots, each, [options.server_core, options.driver_core])
    else:
        proctree.bind(roots, {options.server_core})
    command = [
        *(["taskset", "-c", f"{options.server_core},{options.driver_core}"] if each else []),
        sys.executable,
        FLOW,
        "--target",
        target,
        "--mode",
        mode,
        "--json",
        *([] if each else ["--core", options.driver_core]),
        *(["--min-ops", options.min_ops] if getattr(options, "min_ops", None) else []),
        "--concurrency",
        options.concurrency,
        "--seconds",
        seconds,
        "--warmup",
        options.warmup,
        *(["--mixed"] if options.mixed else []),
    ]
    done = subprocess.run(
        list(map(str, command)),
        text=True,
        capture_output=True,
        timeout=seconds * 10 + options.warmup + 240,
    )
    if mode.startswith("forgot"):
        proctree.quiet(roots)  # mails are sent behind the answers
    time.sleep(0.5)
    return (
        json.loads(done.stdout) if done.stdout else {"failure": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    )


def middle(runs: list[dict], *path: str) -> float | None:
    """The median over the rounds of a figure; None if a round lacks it."""
    values = []
    for run in runs:
        for key in path:
            run = (run or {}).get(key)
        values.append(run)
    return None if None in values or not values else median(values)


def ratio(ours: list[dict], theirs: list[dict], *path: str, less_is_better: bool = False) -> float | None:
    """The median over the rounds of how many times better the first target was; None if anything failed, for a wrong answer has no speed."""
    if any(run.get("errors", 1) for run in ours + theirs):
        return None
    pairs = [(middle([a], *path), middle([b], *path)) for a, b in zip(ours, theirs, strict=False)]
    if any(not a or not b for a, b in pairs):
        return None
    return median(b / a if less_is_better else a / b for a, b in pairs)


def cell(value: float | None, digits: int = 2) -> str:
    """A figure for the table: three or more significant digits, a dash for none."""
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.{digits}f}"


def problems(runs: list[dict]) -> str:
    """How many operations failed in all rounds, or that the mode could not begin."""
    return "fails" if any("failure" in run for run in runs) else str(sum(run["errors"] for run in runs))


def tables(results: dict[str, dict[str, list[dict]]], mixed: bool) -> str:
    """All modes as one Markdown table, and below it what went wrong."""
    if mixed:
        head = [
            "mode",
            "target",
            "quiet ops/s",
            "flooded ops/s",
            "rate left",
            "quiet p99 ms",
            "flooded p99 ms",
            "p99 times",
            "guesses/s",
            "errors",
        ]
    else:
        head = [
            "mode",
            "target",
            "ops/s",
            "CPU-ms/op",
            "p50 ms",
            "p99 ms",
            "requests/op",
            "PSS MB",
            "server busy",
            "errors",
            "ops/s ratio",
            "CPU ratio",
        ]
    rows, notes = [], []
    for mode, by_target in results.items():
        first = next(iter(by_target.values()))
        for name, runs in by_target.items():
            if mixed:
                figures = [
                    cell(middle(runs, *path))
                    for path in (
                        ("quiet", "ops_per_s"),
                        ("flooded", "ops_per_s"),
                        ("rate_ratio",),
                        ("quiet", "p99_ms"),
                        ("flooded", "p99_ms"),
                        ("p99_ratio",),
                        ("guesses_per_s",),
                    )
                ] + [problems(runs)]
            else:
                bound = (middle(runs, "driver", "busy") or 0) > 0.85
                figures = [
                    ("at least " if bound else "") + cell(middle(runs, "ops_per_s")),
                    cell(middle(runs, "server", "cpu_ms_per_op"), 3),
                    cell(middle(runs, "p50_ms")),
                    cell(middle(runs, "p99_ms")),
                    cell(middle(runs, "requests_per_op"), 1),
                    cell(middle(runs, "server", "pss_mb"), 0),
                    cell(middle(runs, "server", "busy")),
                    problems(runs),
                ]
                figures += (
                    ["1", "1"]
                    if runs is first
                    else [
                        cell(ratio(first, runs, "ops_per_s")),
                        cell(ratio(first, runs, "server", "cpu_ms_per_op", less_is_better=True)),
                    ]
                )
            rows.append([mode, name, *figures])
            for text in dict.fromkeys(
                text for run in runs for text in ([run["failure"]] if "failure" in run else run["error_samples"])
            ):
                notes.append(f"* {mode}, {name}: `{text[:200].replace('`', ' ')}`")
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + (
        "\n\n" + "\n".join(notes[:20]) if notes else ""
    )


def main() -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("targets", nargs="+", type=Path, help="JSON files of running targets, the one in question first")
    add(
        "--modes",
        default="discovery,jwks,authorize,cc,refresh,userinfo,full",
        help="comma-separated, of " + ", ".join(MODES),
    )
    add(
        "--mixed",
        action="store_true",
        help="each mode without and with a flood of wrong passwords (made for cc, refresh and authorize)",
    )
    add("--rounds", type=int, default=3)
    add("--seconds", type=float, default=5.0)
    add("--warmup", type=float, default=2.0)
    add("--concurrency", type=int, default=16)
    add("--server-core", type=int, default=0)
    add("--driver-core", type=int, default=1)
    add("--raw", type=Path, metavar="FILE", help="write every run's JSON there")
    options = parser.parse_args()
    if options.rounds < 3 or len(options.targets) < 2:
        parser.error("at least two targets and three rounds: single runs on a shared machine say nothing")
    modes = options.modes.split(",")
    if unknown := [mode for mode in modes if mode not in MODES]:
        parser.error(f"no such mode: {', '.join(unknown)}")
    names = {target: json.loads(target.read_text()).get("name", target.stem) for target in options.targets}
    if len(set(names.values())) < len(names):
        names = {target: f"{name} ({target.stem})" for target, name in names.items()}
    results: dict[str, dict[str, list[dict]]] = {mode: {name: [] for name in names.values()} for mode in modes}
    for mode in modes:
        for target in options.targets:
            measure(target, mode, 1, options)  # not counted: compilers and caches warm up
        for number in range(options.rounds):
            turn = number % len(options.targets)
            for target in options.targets[turn:] + options.targets[:turn]:
                found = measure(target, mode, options.seconds, options)
                results[mode][names[target]].append(found)
                print(
                    f"{mode} round {number + 1} {names[target]}: {found.get('failure') or found.get('ops_per_s') or found.get('rate_ratio')}",
                    file=sys.stderr,
                    flush=True,
                )
    if options.raw:
        options.raw.write_text(json.dumps(results, indent=1))
    print(
        f"{options.rounds} rounds of {options.seconds:g} s, {options.concurrency} at a time, server on core {options.server_core} and driver on core "
        f"{options.driver_core} of {os.cpu_count()}, load average {os.getloadavg()[0]:.1f}; medians.\n"
    )
    print(tables(results, options.mixed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
