#!/usr/bin/env python3
"""Load driver for any OpenID Provider on loopback: verified operations, latency, and the server's CPU time per operation.

    flow.py --target peer.json --mode full --concurrency 16 --seconds 10
    flow.py --issuer URL --client-id ID --client-secret S --redirect-uri URI --users FILE --pid-tree PID --mode cc --json
    flow.py --target peer.json --mode cc --mixed          token traffic, without and with a flood of wrong passwords
    flow.py --selftest                                    what the driver can drive, and that it notices wrong answers

Standard library only. Exit status: 0 no errors, 1 some operation failed, 2 wrong usage. See README.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import proctree
from engine import Engine, Failure
from journeys import MODES, Provider, Refused, User, check, discovery, wrong_password


class Tally:
    """What the workers of one kind have done since the last `reset`."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start counting afresh."""
        self.latencies: list[float] = []
        self.steps: dict[str, list[float]] = defaultdict(list)
        self.problems: Counter[str] = Counter()
        self.errors = self.refused = self.requests = self.bytes_in = self.bytes_out = 0

    def done(self, user: User, began: float) -> None:
        """An operation that succeeded."""
        self.latencies.append(time.perf_counter() - began)
        self.requests += user.requests
        self.bytes_in += user.bytes_in
        self.bytes_out += user.bytes_out
        for step, moment in user.marks:
            self.steps[step].append(moment - began)
            began = moment

    def failed(self, error: Failure) -> None:
        """An operation that did not."""
        self.errors += 1
        self.problems[str(error)] += 1

    def summary(self, seconds: float) -> dict:
        """Rates and percentiles over a window of `seconds`."""
        ops = len(self.latencies)
        return {
            "ops": ops,
            "ops_per_s": round(ops / seconds, 2),
            **percentiles(self.latencies),
            "errors": self.errors,
            "error_samples": [f"{count} x {problem}" for problem, count in self.problems.most_common(5)],
            "requests_per_op": round(self.requests / ops, 2) if ops else None,
            "bytes_in_per_op": self.bytes_in // ops if ops else None,
            "bytes_out_per_op": self.bytes_out // ops if ops else None,
            "steps": {name: {"count": len(values), **percentiles(values)} for name, values in self.steps.items()},
        }


def percentiles(seconds: list[float]) -> dict[str, float | None]:
    """p50, p95 and p99 in milliseconds, by nearest rank."""
    ranked = sorted(seconds)
    return {
        f"p{n}_ms": round(ranked[min(len(ranked) - 1, len(ranked) * n // 100)] * 1000, 3) if ranked else None
        for n in (50, 95, 99)
    }


def worker(
    user: User, operation: Callable, prepare: Callable | None, tally: Tally, going: Callable[[], bool]
) -> Iterator:
    """One virtual user, over and over; after an error it prepares anew, because its tokens may be dead."""
    ready = prepare is None or bool(user.tokens)
    while going():
        try:
            if not ready:
                yield from prepare(user)
                ready = True
            user.requests = user.bytes_in = user.bytes_out = 0
            user.marks.clear()
            began = time.perf_counter()
            yield from operation(user)
        except Refused:
            tally.refused += 1
        except Failure as error:
            tally.failed(error)
            ready = prepare is None
            yield 0.01
        else:
            tally.done(user, began)


class Bench:
    """One provider under one kind of load."""

    def __init__(self, provider: Provider, options: argparse.Namespace):
        self.provider, self.options = provider, options
        self.engine = Engine(provider.addresses, options.timeout)

    def once(self, users: list[User], operation: Callable) -> None:
        """Run an operation once for each user, all at the same time; raises the first `Failure`."""
        problems: list[Failure] = []

        def attempt(user: User) -> Iterator:
            try:
                yield from operation(user)
            except Failure as error:
                problems.append(error)

        for user in users:
            user.steps = attempt(user)
            self.engine.start(user)
        self.engine.run(120)
        check(not self.engine.jobs, "preparation took more than 120 s")
        if problems:
            raise problems[0]

    def crew(
        self, size: int, operation: Callable, prepare: Callable | None, going: Callable[[], bool] = lambda: True
    ) -> Tally:
        """Prepare `size` users and set them to work."""
        tally, users = Tally(), [self.provider.visitor() for _ in range(size)]
        if prepare:
            self.once(users, prepare)
        for user in users:
            user.steps = worker(user, operation, prepare, tally, going)
            self.engine.start(user)
        return tally

    def discover(self) -> None:
        """Read and verify the metadata."""
        user = self.provider.visitor()
        self.once([user], discovery)
        self.provider.metadata = json.loads(self.provider.verified[self.provider.discovery_url])

    def window(self, seconds: float, tally: Tally, *others: Tally) -> dict:
        """Measure for `seconds` (up to five times that, for `--min-ops`): what the crew did, what it cost the server and the driver."""
        for each in (tally, *others):
            each.reset()
        roots = self.options.pid_tree
        self.engine.reconnects = 0
        before, own, start = proctree.cpu(roots), time.process_time(), time.perf_counter()
        self.engine.run(seconds)
        while len(tally.latencies) + tally.errors < self.options.min_ops and time.perf_counter() - start < 5 * seconds:
            self.engine.run(seconds / 4)
        wall, own, after = time.perf_counter() - start, time.process_time() - own, proctree.cpu(roots)
        found = {"seconds": round(wall, 3), **tally.summary(wall), "reconnects": self.engine.reconnects}
        if roots:
            found["server"] = proctree.report(roots, before, after, wall, found["ops"])
        found["driver"] = {
            "cpu_ms_per_op": round(own * 1000 / found["ops"], 4) if found["ops"] else None,
            "busy": round(own / wall, 3),
        }
        return found

    def plain(self) -> dict:
        """One mode."""
        operation, prepare = MODES[self.options.mode]
        tally = self.crew(self.options.concurrency, operation, prepare)
        self.engine.run(self.options.warmup)
        return {
            "mode": self.options.mode,
            "concurrency": self.options.concurrency,
            **self.window(self.options.seconds, tally),
        }

    def mixed(self) -> dict:
        """The mode's traffic in four windows, without and with the flood in turn, so that drift falls on both.

        Each window keeps a copy of its latencies: the crew goes on between them, and what it does then is not theirs.
        """
        operation, prepare = MODES[self.options.mode]
        tally = self.crew(self.options.concurrency, operation, prepare)
        self.engine.run(self.options.warmup)
        windows: dict[str, list[tuple[dict, list[float]]]] = {"quiet": [], "flooded": []}
        guesses, refused, seconds, problems = 0, 0, 0.0, Counter()
        for _ in range(2):
            windows["quiet"].append((self.window(self.options.seconds / 2, tally), list(tally.latencies)))
            flooding = [True]
            flood = self.crew(self.options.flood, wrong_password, None, lambda state=flooding: state[0])
            self.engine.run(1)
            windows["flooded"].append((self.window(self.options.seconds / 2, tally, flood), list(tally.latencies)))
            guesses, refused, seconds = (
                guesses + len(flood.latencies),
                refused + flood.refused,
                seconds + windows["flooded"][-1][0]["seconds"],
            )
            problems += flood.problems
            flooding[0] = False
            until = time.perf_counter() + self.options.timeout
            while len(self.engine.jobs) > self.options.concurrency and time.perf_counter() < until:
                self.engine.run(0.2)
        out = {
            "mode": self.options.mode,
            "mixed": True,
            "concurrency": self.options.concurrency,
            "flood": self.options.flood,
        }
        for name, runs in windows.items():
            latencies = [value for _, values in runs for value in values]
            out[name] = {
                "ops": len(latencies),
                "ops_per_s": round(len(latencies) / sum(run["seconds"] for run, _ in runs), 2),
                **percentiles(latencies),
                "driver_busy": max(run["driver"]["busy"] for run, _ in runs),
            }
        out["rate_ratio"] = (
            round(out["flooded"]["ops_per_s"] / out["quiet"]["ops_per_s"], 3) if out["quiet"]["ops"] else None
        )
        out["p99_ratio"] = (
            round(out["flooded"]["p99_ms"] / out["quiet"]["p99_ms"], 2)
            if out["quiet"]["ops"] and out["flooded"]["ops"]
            else None
        )
        runs = [run for pair in windows.values() for run, _ in pair]
        out |= {
            "guesses_per_s": round(guesses / seconds, 2),
            "guesses_refused": refused,
            "errors": problems.total() + sum(run["errors"] for run in runs),
            "error_samples": [sample for run in runs for sample in run["error_samples"]]
            + [f"{count} x {problem}" for problem, count in problems.most_common(3)],
        }
        if self.options.pid_tree:
            out["server"] = runs[-1]["server"]
        return out


def measure(options: argparse.Namespace) -> dict:
    """Run what the options ask for; raises `Failure` when the load cannot even begin."""
    bench = Bench(Provider(options), options)
    gc.collect()
    gc.freeze()
    try:
        bench.discover()
        return bench.mixed() if options.mixed else bench.plain()
    finally:
        bench.engine.close()


def selftest(options: argparse.Namespace) -> int:
    """Drive the stub provider: the driver's own ceiling, then every fault, each of which must be reported."""
    from stub import FAULTS

    cores = sorted(os.sched_getaffinity(0))

    def against(fault: str, mode: str, seconds: float, mixed: bool = False) -> dict:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("stub.py")), str(port), fault], stdout=subprocess.PIPE
        )
        try:
            os.sched_setaffinity(server.pid, {cores[0]})
            server.stdout.readline()
            here = f"http://127.0.0.1:{port}"
            return measure(
                arguments(
                    [
                        "--issuer",
                        here,
                        "--client-id",
                        "bench",
                        "--client-secret",
                        "s",
                        "--redirect-uri",
                        "http://127.0.0.1:1/cb",
                        "--mode",
                        mode,
                        "--seconds",
                        str(seconds),
                        "--warmup",
                        "0.2",
                        "--concurrency",
                        str(options.concurrency),
                        "--pid-tree",
                        str(server.pid),
                        *(["--mixed"] if mixed else []),
                    ]
                )
            )
        except Failure as failure:
            return {"errors": 1, "error_samples": [str(failure)]}
        finally:
            server.kill()
            server.wait()

    os.sched_setaffinity(0, {cores[-1]})
    good = True
    for mode in MODES:
        found = against("", mode, 2)
        good &= not found["errors"] and found["ops"] > 0
        print(
            f"{mode:10} {found.get('ops_per_s', 0):9.0f} ops/s {found.get('ops_per_s', 0) * found.get('requests_per_op', 0):9.0f} requests/s"
            f"   driver {found['driver']['cpu_ms_per_op'] * 1000:6.0f} us CPU an operation, {found['driver']['busy']:4.0%} busy; stub {found['server']['busy']:4.0%} busy"
            f"   errors {found['errors']} {found['error_samples']}"
        )
    for fault in FAULTS:
        mode = {"private-jwks": "jwks", "accepts-any-password": "cc"}.get(fault, "full")
        found = against(fault, mode, 0.6, mixed=fault == "accepts-any-password")
        good &= found["errors"] > 0
        print(
            f"fault {fault:20} {'noticed' if found['errors'] else 'NOT NOTICED'}: {(found['error_samples'] or ['-'])[0][:110]}"
        )
    print("selftest passed" if good else "selftest FAILED")
    return 0 if good else 1


def human(found: dict) -> str:
    """The report as lines to read."""

    def line(part: dict) -> str:
        return f"{part['ops_per_s']} ops/s   p50 {part['p50_ms']}  p95 {part['p95_ms']}  p99 {part['p99_ms']} ms"

    lines = [f"{found['mode']}, {found['concurrency']} at a time"]
    if found.get("mixed"):
        lines += [
            f"  quiet     {line(found['quiet'])}",
            f"  flooded   {line(found['flooded'])}   by {found['flood']} attackers, "
            f"{found['guesses_per_s']} guesses/s, {found['guesses_refused']} refused",
            f"  ratio     rate {found['rate_ratio']}   p99 {found['p99_ratio']}",
        ]
    else:
        lines += [
            f"  {line(found)}   in {found['seconds']} s, {found['ops']} operations",
            f"  an operation: {found['requests_per_op']} requests, {found['bytes_in_per_op']} bytes in, {found['bytes_out_per_op']} out; {found['reconnects']} reconnects",
        ]
        lines += [
            f"  step {name:12} {part['count']:7} x   p50 {part['p50_ms']}  p95 {part['p95_ms']}  p99 {part['p99_ms']} ms"
            for name, part in found["steps"].items()
        ]
        lines += [
            f"  driver: {found['driver']['cpu_ms_per_op']} ms CPU an operation, {found['driver']['busy']:.0%} of a core"
            + (" - THE DRIVER IS THE BOTTLENECK: ops/s is a lower bound" if found["driver"]["busy"] > 0.85 else "")
        ]
    if server := found.get("server"):
        lines += [
            f"  server: {server['cpu_ms_per_op']} ms CPU an operation, {server['busy']:.0%} of a core, PSS {server['pss_mb']} MB, RSS {server['rss_mb']} MB"
        ]
        lines += [
            f"    {part['name']:16} {part['cpu_ms_per_op']} ms/op, PSS {part['pss_mb']} MB, RSS {part['rss_mb']} MB"
            for part in server["processes"]
        ]
    lines += [f"  errors: {found['errors']}"] + [f"    {sample}" for sample in found["error_samples"]]
    return "\n".join(lines)


def read_users(path: str) -> list[tuple[str, str]]:
    """Lines of `identifier:password`; the identifier ends at the first colon."""
    pairs = [tuple(line.split(":", 1)) for line in Path(path).read_text().splitlines() if line]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise argparse.ArgumentTypeError(f"{path}: want lines of identifier:password")
    return pairs


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line, over the defaults of the --target file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add(
        "--target",
        metavar="FILE",
        help="JSON as the peers print it; gives issuer, client, users, pid and any other option by name",
    )
    add("--issuer")
    add("--client-id")
    add("--client-secret", default="")
    add("--client-auth", choices=("auto", "basic", "post"), default="auto")
    add("--redirect-uri")
    add("--mode", choices=MODES)
    add(
        "--mixed",
        action="store_true",
        help="the mode's traffic, without and with a flood of wrong passwords (made for cc, refresh and authorize)",
    )
    add("--flood", type=int, default=16, metavar="N", help="attackers in --mixed (16)")
    add("--concurrency", type=int, default=16, metavar="N")
    add("--seconds", type=float, default=10.0, metavar="S")
    add(
        "--min-ops",
        type=int,
        default=100,
        metavar="N",
        help="go on, up to five times as long, until so many have ended (100)",
    )
    add("--warmup", type=float, default=2.0, metavar="S", help="run this long before measuring (2)")
    add("--timeout", type=float, default=30.0, metavar="S", help="an answer that takes longer is an error (30)")
    add("--users", type=read_users, metavar="FILE", help="lines of identifier:password, used in turn")
    add("--scope", default="openid profile email")
    add("--cc-scope", default="", help="scope for client credentials")
    add("--forgot-url", help="page for forgotten passwords (<issuer>/forgot)")
    add("--forgot-expect", metavar="REGEX", help="text that the answer to a forgotten password must contain")
    add(
        "--forwarded-for",
        action="store_true",
        help="a new X-Forwarded-For address for each visitor (needs a trusted loopback proxy)",
    )
    add(
        "--connect",
        action="append",
        metavar="HOST:PORT",
        help="send to this loopback address instead; repeat for replicas, taken in turn",
    )
    add(
        "--pid-tree",
        type=int,
        action="append",
        default=None,
        metavar="PID",
        help="measure CPU and memory of this process and its descendants",
    )
    add("--core", type=int, help="pin the driver to this core")
    add("--json", action="store_true")
    add("--selftest", action="store_true")
    first, _ = parser.parse_known_args(argv)
    if first.target:
        target = json.loads(Path(first.target).read_text())
        known = {action.dest for action in parser._actions}
        given = {key: value for key, value in target.items() if key in known}
        given["pid_tree"] = target.get("measure") or ([target["pid"]] if target.get("pid") else None)
        parser.set_defaults(**given)
    options = parser.parse_args(argv)
    options.pid_tree = options.pid_tree or []
    missing = [name for name in ("issuer", "client_id", "redirect_uri", "mode") if not getattr(options, name)]
    if missing and not options.selftest:
        parser.error("needs " + ", ".join("--" + name.replace("_", "-") for name in missing))
    return options


def main() -> int:
    """Command line entry."""
    options = arguments()
    if options.selftest:
        return selftest(options)
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    try:
        found = measure(options)
    except Failure as failure:
        print(f"{options.mode}: {failure}", file=sys.stderr)
        return 1
    print(json.dumps(found, indent=1) if options.json else human(found))
    return 1 if found["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
