"""Processes that belong together: started in order, restarted when they die, stopped as one.

Used by `homerealm serve` and by the demo. Everything is tied to the supervisor (tether.py): when it is killed,
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

from broker.processes.forked import Forked
from broker.processes.tether import tethered

START_SECONDS = 30.0
STOP_SECONDS = 4.5
"""After that what is left is killed: the whole of it ends within five seconds."""
STEADY_SECONDS = 60.0
"""A process that lived this long is restarted at once; one that did not, after a pause that doubles."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0


Child = subprocess.Popen[bytes] | Forked


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
    title: str = ""
    """What `ps` shows of a fork, at most 15 characters."""
    begin: Callable[[], None] | None = None
    """What its first launch runs in a fork of us, instead of `command`: that takes no time, and shares our memory."""
    last: bool = False
    """Others need it: it is asked to end when they have ended."""
    inherits: Sequence[int] = ()
    """File descriptors that it shares with us."""
    on_reload: Callable[[Child], None] | None = None
    """What SIGHUP does to it; None: it is started anew."""


@dataclass
class _Running:
    process: Process
    child: Child
    started: float
    pause: float = 0.0
    restart_at: float | None = None


class Supervisor:
    """Call `start` in the main thread, then `run` until a signal comes, and `stop` in any case."""

    def __init__(
        self,
        tell: Callable[..., None],
        *,
        before_reload: Callable[[], bool] = lambda: True,
        errors: int | None = None,
    ) -> None:
        """`before_reload` is asked on SIGHUP; False: nothing changes. `errors` is the file descriptor for what commands
        write to standard error; None: ours.

        `tell` gets events for the operator: `process.ended` (`process`, `how`, `after` and `again_in`, in seconds),
        `process.unstarted` (`process`, `why`, `again_in`), `process.killed` (`process`, `after`), `processes.reload`.
        """
        self._tell = tell
        self._before_reload = before_reload
        self._errors = errors
        self._running: list[_Running] = []
        self._happened: SimpleQueue[signal.Signals | Child] = SimpleQueue()
        self._stopping = False

    def install_signals(self) -> None:
        """SIGTERM and SIGINT end `run`, SIGHUP reloads. Before `start`: a signal that comes early ends it as well."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._signalled)

    def fork(self, process: Process) -> Child:
        """Launch one that has a `begin`, before `start` and before there are threads."""
        if process.begin is None or not hasattr(os, "pidfd_open"):
            raise RuntimeError(f"{process.name} cannot be forked here")
        running = _Running(process, Forked(process.title, process.begin), time.monotonic())
        self._running.append(running)
        return running.child

    def start(self, processes: Sequence[Process]) -> bool:
        """In this order, each when the one before is ready; False when a signal came meanwhile.

        Raises `StartFailed`.
        """
        for running in self._running:
            self._look_after(running)
        for process in processes:
            running = next((one for one in self._running if one.process is process), None) or self._launch(process)
            if running not in self._running:
                self._running.append(running)
            deadline = time.monotonic() + START_SECONDS
            while not process.ready():
                if self._stopping:
                    return False
                status = running.child.poll()
                if status is not None:
                    raise StartFailed(f"{process.name} ended while it started ({how_ended(status)})")
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
            if isinstance(event, signal.Signals):
                if event is signal.SIGHUP:
                    self._reload()
            else:
                self._ended(event)

    def stop(self) -> None:
        """Ask everything to end, last one first, and kill what is left after a while."""
        self._stopping = True
        deadline = time.monotonic() + STOP_SECONDS
        for last in (False, True):
            self._end([one for one in reversed(self._running) if one.process.last is last], deadline)
        self._running.clear()

    def _end(self, ending: Sequence[_Running], deadline: float) -> None:
        for running in ending:
            if running.child.poll() is None:
                running.child.terminate()
        for running in ending:
            try:
                running.child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._tell("process.killed", process=running.process.name, after=STOP_SECONDS)
                _kill_group(running.child)
                running.child.wait()

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
            stderr=self._errors,
            pass_fds=process.inherits,
            start_new_session=True,  # the terminal's Ctrl-C is for the supervisor
        )
        running = _Running(process, child, time.monotonic())
        try:
            self._look_after(running)
        except RuntimeError:  # no thread is left, and it would die unseen
            _kill_group(child)
            child.wait()
            raise
        return running

    def _look_after(self, running: _Running) -> None:
        name = f"watch-{running.process.name}"
        threading.Thread(target=self._watch, args=(running.child,), name=name, daemon=True).start()

    def _watch(self, child: Child) -> None:
        child.wait()
        self._happened.put(child)

    def _ended(self, child: Child) -> None:
        for running in self._running:
            if running.child is child and running.restart_at is None:
                lived = time.monotonic() - running.started
                running.pause = 0.0 if lived > STEADY_SECONDS else _longer(running.pause)
                running.restart_at = time.monotonic() + running.pause
                self._tell(
                    "process.ended",
                    process=running.process.name,
                    how=how_ended(child.returncode or 0),
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
                try:
                    again = self._launch(running.process)
                except (OSError, RuntimeError) as error:  # the machine has no process, memory or thread left just now
                    running.pause = _longer(running.pause)
                    running.restart_at = time.monotonic() + running.pause
                    self._tell(
                        "process.unstarted", process=running.process.name, why=str(error), again_in=running.pause
                    )
                else:
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


def _longer(pause: float) -> float:
    return min(max(pause * 2, FIRST_PAUSE), LONGEST_PAUSE)


def _kill_group(child: Child) -> None:
    """A child and what it started: it leads a group of its own."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def how_ended(status: int) -> str:
    """In words, from what `Popen.returncode` says."""
    if status < 0:
        names = {number.value: number.name for number in signal.Signals}
        return names.get(-status, f"signal {-status}")  # those of real time have no names
    return f"exit status {status}"
