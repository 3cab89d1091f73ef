"""Processes that belong together: started in order, restarted when they die, stopped as one.

Used by `homerealm serve` and by the demo. Everything is tied to the supervisor (broker/tether): when it is killed,
nothing of it stays behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any

from broker.tether import tethered

START_SECONDS = 30.0
STOP_SECONDS = 4.5
"""After that what is left is killed: the whole of it ends within five seconds."""
STEADY_SECONDS = 60.0
"""A process that lived this long is restarted at once; one that did not, after a pause that doubles."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0


class StartFailed(Exception):
    """A process ended, or was not ready in time. The text says which; what it said itself is on standard error."""


@dataclass
class Process:
    """One program to keep running."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to our own."""
    ready: Callable[[], bool] = lambda: True
    """Asked until it says yes; the next process starts after that. Must not block for long."""
    inherits: Sequence[int] = ()
    """File descriptors that it shares with us."""
    on_reload: Callable[[subprocess.Popen[bytes]], None] | None = None
    """What SIGHUP does to it; None: it is started anew."""


@dataclass
class _Running:
    process: Process
    child: subprocess.Popen[bytes]
    started: float
    pause: float = 0.0
    restart_at: float | None = None


class Supervisor:
    """Call `start` in the main thread, then `run` until a signal comes, and `stop` in any case."""

    def __init__(self, tell: Callable[..., None], *, before_reload: Callable[[], bool] = lambda: True) -> None:
        """`before_reload` is asked on SIGHUP; False: nothing changes.

        `tell` gets events for the operator: `process.ended` (`process`, `how`, `after` and `again_in`, in seconds),
        `process.killed` (`process`, `after`), `processes.reload`.
        """
        self._tell = tell
        self._before_reload = before_reload
        self._running: list[_Running] = []
        self._happened: SimpleQueue[signal.Signals | subprocess.Popen[bytes]] = SimpleQueue()
        self._stopping = False

    def install_signals(self) -> None:
        """SIGTERM and SIGINT end `run`, SIGHUP reloads. Before `start`: a signal that comes early ends it as well."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._signalled)

    def start(self, processes: Sequence[Process]) -> bool:
        """In this order, each when the one before is ready; False when a signal came meanwhile.

        Raises `StartFailed`.
        """
        for process in processes:
            running = self._launch(process)
            self._running.append(running)
            deadline = time.monotonic() + START_SECONDS
            while not process.ready():
                if self._stopping:
                    return False
                status = running.child.poll()
                if status is not None:
                    raise StartFailed(f"{process.name} ended while it started ({_status(status)})")
                if time.monotonic() > deadline:
                    raise StartFailed(f"{process.name} did not get ready in {START_SECONDS:.0f} s")
                time.sleep(0.01)
        return not self._stopping

    def run(self) -> None:
        """Restart what dies; returns after SIGTERM or SIGINT."""
        while not self._stopping:
            try:
                event = self._happened.get(timeout=self._until_next_restart())
            except Empty:
                self._restart_due()
                continue
            if isinstance(event, subprocess.Popen):
                self._ended(event)
            elif event is signal.SIGHUP:
                self._reload()

    def stop(self) -> None:
        """Ask everything to end, last one first, and kill what is left after a while."""
        self._stopping = True
        for running in reversed(self._running):
            if running.child.poll() is None:
                running.child.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for running in reversed(self._running):
            try:
                running.child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._tell("process.killed", process=running.process.name, after=STOP_SECONDS)
                _kill_group(running.child)
                running.child.wait()
        self._running.clear()

    def pid(self, name: str) -> int | None:
        """The process id that a name has now."""
        return next((one.child.pid for one in self._running if one.process.name == name), None)

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGHUP:
            self._stopping = True
        self._happened.put(signal.Signals(number))

    def _launch(self, process: Process) -> _Running:
        child = subprocess.Popen(
            tethered(process.command),
            env={**os.environ, **process.environment},
            stdin=subprocess.DEVNULL,
            pass_fds=process.inherits,
            start_new_session=True,  # the terminal's Ctrl-C is for the supervisor
        )
        threading.Thread(target=self._watch, args=(child,), name=f"watch-{process.name}", daemon=True).start()
        return _Running(process, child, time.monotonic())

    def _watch(self, child: subprocess.Popen[bytes]) -> None:
        child.wait()
        self._happened.put(child)

    def _ended(self, child: subprocess.Popen[bytes]) -> None:
        for running in self._running:
            if running.child is child and running.restart_at is None:
                lived = time.monotonic() - running.started
                running.pause = (
                    0.0 if lived > STEADY_SECONDS else min(max(running.pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
                )
                running.restart_at = time.monotonic() + running.pause
                self._tell(
                    "process.ended",
                    process=running.process.name,
                    how=_status(child.returncode),
                    after=round(lived, 1),
                    again_in=running.pause,
                )
                _kill_group(child)
        self._restart_due()

    def _until_next_restart(self) -> float | None:
        due = [one.restart_at for one in self._running if one.restart_at is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _restart_due(self) -> None:
        now = time.monotonic()
        for index, running in enumerate(self._running):
            if running.restart_at is not None and now >= running.restart_at and not self._stopping:
                again = self._launch(running.process)
                again.pause = running.pause
                self._running[index] = again

    def _reload(self) -> None:
        if not self._before_reload():
            return
        for running in self._running:
            if running.restart_at is not None:
                continue
            if running.process.on_reload is not None:
                running.process.on_reload(running.child)
            else:
                running.started = 0.0  # an end that was asked for is no failure
                running.child.terminate()
        self._tell("processes.reload")


def _kill_group(child: subprocess.Popen[Any]) -> None:
    """A child and what it started: it leads a group of its own."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _status(status: int) -> str:
    if status < 0:
        return signal.Signals(-status).name
    return f"exit status {status}"
