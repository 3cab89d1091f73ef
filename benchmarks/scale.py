"""Parts of `make bench-peers` that need no peer: what grows with users, tenants and logins, what a second worker or replica adds,
memory, start-up, and what a login leaves behind. Every row has its floor and its goal, and a word on which was reached."""

from __future__ import annotations

import argparse
import re
from contextlib import closing
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import compare
import redis
from targets import Targets, log

Runs = dict[str, dict[str, list[dict]]]
ROW = "| {} | {} | {} | {} | {} |"
HEAD = ["| figure | measured | floor | goal | |", "|---|---|---|---|---|"]
MEGA = 1_000_000
LIVE, FINISHED = 100_000, 10_000
"""Logins that somebody has begun, and that somebody has finished."""
TENANT_ROUNDS = 3


def verdict(value: float | None, floor: float, goal: float) -> str:
    """In words that a reader can search for. Where the goal is below the floor, less is better."""
    if value is None:
        return "not measured"
    if goal < floor:
        value, floor, goal = -value, -floor, -goal
    return "goal reached" if value >= goal else "above the floor" if value >= floor else "**below the floor**"


def row(title: str, value: float | None, floor: float, goal: float, digits: int = 2, note: str = "") -> str:
    """A line of a table."""
    shown = compare.cell(value, digits) + (f" ({note})" if note else "")
    return ROW.format(title, shown, f"{floor:g}", f"{goal:g}", verdict(value, floor, goal))


def interleaved(
    targets: Targets, modes: list[str], names: list[str], options: argparse.Namespace, **other: object
) -> Runs:
    """By mode and target, the runs of the driver, in changing order; `other` replaces options."""
    settings = argparse.Namespace(**{**vars(options), "mixed": False, **other})
    found: Runs = {mode: {name: [] for name in names} for mode in modes}
    for mode in modes:
        for name in names:
            compare.measure(targets.files[name], mode, 1, settings)  # not counted
        for number in range(options.rounds):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                run = tell_apart(compare.measure(targets.files[name], mode, settings.seconds, settings))
                found[mode][name].append(run)
                log(
                    f"{mode}, round {number + 1}, {name}: {run.get('failure') or run['ops_per_s']} {run.get('error_samples') or ''}"
                )
    return found


def growth_part(targets: Targets, options: argparse.Namespace) -> tuple[list[str], Runs]:
    """p50 of one visitor at a time, and CPU, of a small installation and a big one."""
    modes = ["authorize", "forgot-post", "full"]
    few, many = "1,000 users", "1,000,000 users"
    fresh, live = "nobody else", f"{LIVE:,} live logins"
    targets.start(few, "homerealm.py", "--hash", "off")
    targets.start(many, "homerealm.py", "--hash", "off", "--users", str(MEGA))
    runs = interleaved(targets, modes, [few, many], options, concurrency=1)
    lines = ["## Growth", "", "Median latency of one visitor at a time in the best round, and CPU, as times of the small installation (less is better).",
             "", *HEAD]  # fmt: skip
    lines += growth_rows(runs, few, many)
    targets.end()
    targets.start(fresh, "homerealm.py", "--hash", "off")
    targets.start(live, "homerealm.py", "--hash", "off")
    for mode, number in (
        ("full", FINISHED),
        ("authorize", LIVE),
    ):  # each leaves a session, or a login that somebody has begun
        crowd = argparse.Namespace(**{**vars(options), "mixed": False, "min_ops": number})
        compare.measure(targets.files[live], mode, 10, crowd)
    again = interleaved(targets, ["full", "authorize"], [fresh, live], options, concurrency=1)
    lines += growth_rows(again, fresh, live)
    begun, more = (sum(run.get("ops", 0) for mode in again.values() for run in mode[name]) for name in (fresh, live))
    lines += [
        "",
        f"The measurement itself leaves logins behind: {begun:,} on the side of nobody else, {more:,} on the other.",
        "",
        *HEAD,
    ]
    targets.end()
    lines += tenants_rows()
    return lines, runs | {f"{mode}, live": found for mode, found in again.items()}


def growth_rows(runs: Runs, few: str, many: str) -> list[str]:
    """Two lines for each mode: the median latency of the best round, since a disk that is busy makes it three times as
    long on both sides; and CPU, the median of the rounds."""
    titles = {"authorize": "login page", "forgot-post": "forgot, answer", "full": "whole login, hash off"}
    lines = []
    for mode, by_target in runs.items():
        best = [
            min((run["p50_ms"] for run in by_target[name] if run.get("p50_ms")), default=None) for name in (few, many)
        ]
        cost = [compare.middle(by_target[name], "server", "answer_ms_per_op") for name in (few, many)]
        for label, (small, big) in (("p50", best), ("CPU", cost)):
            note = f"{compare.cell(small, 3)} -> {compare.cell(big, 3)} ms"
            lines.append(
                row(f"{titles[mode]}, {label}, {many}", big / small if small and big else None, 1.25, 1.1, note=note)
            )
    return lines


def tenants_rows() -> list[str]:
    """The login page among a thousand tenants, and how long those take to load, in one process, by its CPU time."""
    import growth

    pairs = []
    for _ in range(TENANT_ROUNDS):
        with TemporaryDirectory(prefix="hr-") as folder:
            pairs.append([growth.measure(Path(folder), tenants) for tenants in (1, growth.MANY)])
    page = "login page, ms"
    one, many = (median(pair[side][page] for pair in pairs) for side in (0, 1))
    lines = [row("login page, CPU, 1,000 tenants", median(pair[1][page] / pair[0][page] for pair in pairs), 1.25, 1.1,
                 note=f"{one:.3f} -> {many:.3f} ms")]  # fmt: skip
    for title, figure in (
        ("1,000 tenants, 5,000 connections", "load, ms"),
        ("one changed file of them", "reload of one file, ms"),
    ):
        seconds = median(pair[1][figure] for pair in pairs) / 1000
        lines.append(ROW.format(f"{title}: loaded, s of CPU", compare.cell(seconds), 2, 2, verdict(-seconds, -2, -2)))
    return lines


def crew_part(targets: Targets, options: argparse.Namespace) -> tuple[list[str], Runs]:
    """Two workers, and two replicas, against one.

    Each web process has a core, and the driver and the stores take their part of it: of one core with one, of both
    with two. Capacity is twice the CPU of an operation with one, by that with two. Whatever the two wait
    for each other is in the rate, and in `server busy`, the cores that all processes of the server used.
    """
    one, two = "one worker", "two workers"
    targets.start(one, "homerealm.py", "--hash", "off")
    targets.start(two, "homerealm.py", "--hash", "off", "--workers", "2")
    alone, both = "one replica", "two replicas"
    engines = ("--hash", "off", "--database", "postgresql", "--key-value", "redis")
    targets.start(alone, "homerealm.py", *engines)
    targets.start(both, "homerealm.py", *engines, "--replicas", "2")
    lines = ["## Two against one", "", *[line.strip() for line in (crew_part.__doc__ or "").splitlines()[2:]], "",
             "| | operation | CPU ms, one | CPU ms, two | capacity | rate | server busy | floor | goal | capacity | rate |",
             "|---|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    runs: Runs = {}
    for single, double, floor, goal in ((one, two, 1.8, 1.95), (alone, both, 1.6, 1.8)):
        for mode in ("full", "authorize", "cc"):
            found = against(targets, mode, single, double, options)
            runs[f"{mode}, {double}"] = found
            cpu = [compare.middle(found[name], "server", "cpu_ms_per_op") for name in (single, double)]
            times = compare.ratio(found[double], found[single], "server", "cpu_ms_per_op", less_is_better=True)
            capacity = 2 * times if times else None
            rate = compare.ratio(found[double], found[single], "ops_per_s")
            cells = [double, mode, *(compare.cell(value, 3) for value in cpu), compare.cell(capacity), compare.cell(rate),
                     compare.cell(compare.middle(found[double], "server", "busy")), f"{floor:g}", f"{goal:g}",
                     verdict(capacity, floor, goal), verdict(rate, floor, goal)]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
    targets.end()
    return lines, runs


def against(
    targets: Targets, mode: str, single: str, double: str, options: argparse.Namespace
) -> dict[str, list[dict]]:
    """One of them and the driver on one core, two of them and the driver on two, in turn."""
    found: dict[str, list[dict]] = {single: [], double: []}
    for number in range(options.rounds + 1):
        for name, people in ((single, 16), (double, 32)):
            settings = argparse.Namespace(**{**vars(options), "mixed": False, "concurrency": people})
            if name == double:
                settings.each = "broker.wsgi"
            else:
                settings.driver_core = options.server_core
            run = compare.measure(targets.files[name], mode, options.seconds, settings)
            log(
                f"{mode}, round {number}, {name}: {run.get('failure') or run['ops_per_s']} {run.get('error_samples') or ''}"
            )
            if number:  # the first is not counted
                found[name].append(run)
    return found


def limits_part(targets: Targets, options: argparse.Namespace) -> tuple[list[str], Runs]:
    """Memory, start-up, what a login leaves behind, and a forgotten password beside the login page."""
    us, told, other = "Homerealm", "Homerealm on Valkey", "Homerealm on Redis"
    starts = targets.start(us, "homerealm.py", "--bindings", "none", "--starts", "6")["starts"][1:]
    urls = {
        name: targets.start(name, "homerealm.py", "--hash", "off", "--key-value", store)["key_value"]
        for name, store in ((told, "valkey"), (other, "redis"))
    }
    runs = interleaved(targets, ["authorize", "forgot-post", "forgot-answer", "full"], [us], options)
    page, answer, shown = (
        compare.middle(runs[mode][us], "server", "answer_ms_per_op")
        for mode in ("authorize", "forgot-post", "forgot-answer")
    )
    mail = compare.middle(runs["forgot-post"][us], "server", "worker_ms_per_op")
    last = runs["full"][us][-1].get("server", {})
    web = [part["pss_mb"] for part in last.get("processes", []) if part["name"].startswith("broker.wsgi")]
    left, on_redis = (left_behind(targets.files[name], url, options) for name, url in urls.items())
    targets.end()
    wall, cpu = (median(start[which] for start in starts) for which in (0, 1)) if starts else (None, None)
    lines = ["## Limits", "", *HEAD,
             row("forgot (answer), times as fast as the login page, in CPU", page / answer if page and answer else None,
                 0.8, 1.0, note=f"{compare.cell(answer, 3)} against {compare.cell(page, 3)} ms; with the page behind it "
                 f"{compare.cell(shown, 3)}; the worker, for what mails it sent meanwhile, {compare.cell(mail, 3)}"),
             row("memory of the web process after load, MB (PSS)", max(web, default=None), 130, 95, 0,
                 f"all processes {compare.cell(last.get('pss_mb'), 0)}"),
             row("start to first answer, s, all on one core", wall, 0.6, 0.35, note=f"CPU until then {compare.cell(cpu)} s"),
             row("bytes that a finished login leaves in the key-value store, in its first seconds", left, 1000, 500, 0,
                 note=f"in Redis {compare.cell(on_redis, 0)}")]  # fmt: skip
    return lines, runs


def tell_apart(run: dict) -> dict:
    """With CPU-ms an operation of what answers (web process and stores), and of the worker behind it.

    The worker is slower than many who ask at once, and does what is left later: its share is of what it did meanwhile.
    """
    if parts := (run.get("server") or {}).get("processes"):
        for title, worker in (("answer_ms_per_op", False), ("worker_ms_per_op", True)):
            shares = [one["cpu_ms_per_op"] or 0 for one in parts if one["name"].startswith("broker worker") is worker]
            run["server"][title] = sum(shares)
    return run


def left_behind(target: Path, url: str, options: argparse.Namespace) -> float | None:
    """Bytes by which the store grew for each login."""
    settings = argparse.Namespace(**{**vars(options), "mixed": False, "min_ops": 2000, "warmup": 0})
    compare.measure(target, "full", 1, settings)  # scripts, keys and connections are there
    with closing(redis.Redis.from_url(url)) as store:
        before = used(store)
        run = compare.measure(target, "full", 2, settings)
        return (used(store) - before) / run["ops"] if run.get("ops") and not run["errors"] else None


def used(store: redis.Redis) -> int:
    """Bytes of data with their keys, without what connections take."""
    told = store.execute_command("MEMORY", "STATS")
    named = {key.decode() if isinstance(key, bytes) else key: value for key, value in told.items()}
    return int(named["dataset.bytes"]) + sum(
        sum(int(size) for size in table.values()) for name, table in named.items() if re.fullmatch(r"db\.\d+", name)
    )
