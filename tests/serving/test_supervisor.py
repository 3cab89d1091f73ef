"""Processes are started in order, restarted, and stopped as one; nothing stays behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import ROOT

PLAN = """\
import resource, sys, threading
from pathlib import Path
from broker.processes.supervisor import Process, StartFailed, Supervisor

folder = Path(sys.argv[1])
def program(name, then):
    code = f'''
import os, signal, sys, time
def note(what):
    with open({str(folder / "log")!r}, "a") as log: log.write(f"{{what}} {name} {{os.getpid()}}" + chr(10))
def end(*_):
    note("end"); sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if {name == "deaf"} else end)
note("start")
open({str(folder)!r} + "/{name}", "w").close()
{then}
'''
    return [sys.executable, "-c", code]

PAUSE = "while True: time.sleep(1)"
DEAF = "while True: time.sleep(1)"
plans = {
    "descriptors": [("first", PAUSE), ("second", PAUSE)],
    "threads": [("first", PAUSE), ("second", PAUSE)],
    "two": [("first", PAUSE), ("second", PAUSE)],
    "deaf": [("deaf", DEAF)],
    "fails": [("first", PAUSE), ("fails", "(folder_missing)")],
    "parent": [("parent", "os.fork() or (note('child'), time.sleep(60))" + chr(10) + PAUSE)],
}

import broker.processes.supervisor
broker.processes.supervisor.STOP_SECONDS = 1.0 if sys.argv[2] == "deaf" else 4.5
refused = []
def take(number):  # what it takes to start a process, and nothing that this one needs meanwhile
    if sys.argv[2] == "descriptors":
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (3 if number else most, most))
    if sys.argv[2] == "threads":
        threading.stack_size(number)
def tell(event, **facts):
    print(event, *facts.values(), sep=" | " if event == "process.unstarted" else " ", flush=True)
    if event == "process.ended":
        take(1 << 47)
    if event == "process.unstarted":
        refused.append(event)
        if len(refused) == 2:
            take(0)
def good():
    found = (folder / "good").exists()
    tell("good" if found else "bad")
    return found
supervisor = Supervisor(tell, before_reload=good)
supervisor.install_signals()

def ready(name):
    return lambda: (folder / name).exists() and name != "fails"

try:
    if supervisor.start([Process(n, program(n, then), ready=ready(n)) for n, then in plans[sys.argv[2]]]):
        print("ready", flush=True)
        supervisor.run()
except StartFailed as failure:
    print(failure, flush=True)
finally:
    supervisor.stop()
print("stopped", flush=True)
"""


class Run:
    """A supervisor in a process of its own."""

    def __init__(self, folder: Path, plan: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", PLAN, str(folder), plan], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )

    def say(self) -> str:
        """The next line that it says."""
        if self.process.stdout is None:
            raise RuntimeError("no pipe")
        if not select.select([self.process.stdout], [], [], 20)[0]:
            raise RuntimeError("says nothing")
        return self.process.stdout.readline().strip()

    def log(self) -> list[str]:
        return (self.folder / "log").read_text().splitlines()

    def names(self) -> list[str]:
        return [line.rpartition(" ")[0] for line in self.log()]

    def pid(self, name: str) -> int:
        """The newest process of a name."""
        return int(next(line for line in reversed(self.log()) if f" {name} " in line).rpartition(" ")[2])

    def wait_for(self, name: str, times: int) -> None:
        """Until something was noted that often."""
        for _ in range(2000):
            if self.names().count(name) >= times:
                return
            select.select([], [], [], 0.01)
        raise RuntimeError(f"{name}: {self.log()}")


@pytest.fixture
def start(tmp_path: Path) -> Iterator:
    runs: list[Run] = []

    def start(plan: str) -> Run:
        runs.append(Run(tmp_path, plan))
        return runs[-1]

    yield start
    for run in runs:
        run.process.kill()
        run.process.wait()
        if run.process.stdout:
            run.process.stdout.close()


def ends(pid: int) -> bool:
    """Whether a process that need not be ours ends within ten seconds."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with os.fdopen(descriptor):
        return bool(select.select([descriptor], [], [], 10)[0])


def test_each_starts_when_the_one_before_is_ready_and_all_end_with_a_signal(start) -> None:
    run = start("two")
    assert run.say() == "ready"
    assert run.names() == ["start first", "start second"]
    run.process.send_signal(signal.SIGTERM)
    assert run.say() == "stopped"
    assert run.process.wait(10) == 0
    assert sorted(run.names()[2:]) == ["end first", "end second"]


def test_ctrl_c_ends_it_the_same_way(start) -> None:
    run = start("two")
    run.say()
    run.process.send_signal(signal.SIGINT)
    assert run.say() == "stopped"
    assert sorted(run.names()[2:]) == ["end first", "end second"]


def test_what_dies_is_started_again_also_several_times(start) -> None:
    run = start("two")
    run.say()
    for times in (2, 3):
        os.kill(run.pid("second"), signal.SIGKILL)
        event, name, how, _lived, pause = run.say().split()
        assert (event, name, how) == ("process.ended", "second", "SIGKILL")
        assert float(pause) == 0.1 * (times - 1)
        run.wait_for("start second", times)
    assert run.names().count("start first") == 1


def test_one_that_does_not_listen_is_killed(start) -> None:
    run = start("deaf")
    run.say()
    pid = run.pid("deaf")
    run.process.terminate()
    assert run.say() == "process.killed deaf 1.0"
    assert run.say() == "stopped"
    assert ends(pid)


def test_one_that_fails_while_it_starts_ends_everything_and_is_named(start) -> None:
    run = start("fails")
    assert run.say() == "fails ended while it started (exit status 1)"
    assert run.say() == "stopped"
    assert "end first" in run.names()


def test_a_reload_that_is_refused_changes_nothing_and_one_that_is_not_starts_anew(start) -> None:
    run = start("two")
    run.say()
    run.process.send_signal(signal.SIGHUP)
    assert run.say() == "bad"
    (run.folder / "good").touch()
    run.process.send_signal(signal.SIGHUP)
    assert run.say() == "good"
    run.wait_for("start first", 2)
    run.wait_for("start second", 2)
    assert run.names().count("end first") == 1


@pytest.mark.parametrize(
    ("missing", "why"), [("descriptors", "Too many open files"), ("threads", "can't start new thread")]
)
def test_what_cannot_be_started_again_just_now_is_tried_later_and_the_others_go_on(
    start, missing: str, why: str
) -> None:
    """A container at its limit of processes, a machine without memory: for a moment."""
    run = start(missing)
    assert run.say() == "ready"
    os.kill(run.pid("second"), signal.SIGKILL)
    assert run.say().startswith("process.ended second SIGKILL")
    for pause in ("0.2", "0.4"):
        event, name, said, again_in = run.say().split(" | ")
        assert (event, name, again_in) == ("process.unstarted", "second", pause)
        assert why in said
    run.wait_for("start second", 2)
    assert run.names().count("start first") == 1
    (children,) = Path(f"/proc/{run.process.pid}/task").glob(f"{run.process.pid}/children")
    assert len(children.read_text().split()) == 2
    run.process.terminate()
    assert run.say() == "stopped"


@pytest.mark.crash
def test_a_killed_supervisor_leaves_nothing_behind(start) -> None:
    run = start("two")
    run.say()
    pids = [run.pid("first"), run.pid("second")]
    run.process.kill()
    assert all(ends(pid) for pid in pids)


@pytest.mark.crash
def test_what_a_killed_process_had_started_goes_with_it(start) -> None:
    run = start("parent")
    run.say()
    run.wait_for("child parent", 1)
    grandchild = run.pid("parent")
    os.kill(int(run.log()[0].rpartition(" ")[2]), signal.SIGKILL)
    assert ends(grandchild)


def test_the_last_words_of_a_fork_are_written_and_the_end_of_its_parent_is_not_its_own() -> None:
    script = """
import atexit
from broker.processes.forked import Forked
from broker.services import event_log
def begin():
    event_log.configure()
    event_log.logger("x").warning("the last words")
atexit.register(print, "the parent ends")
raise SystemExit(Forked("x", begin).wait(20))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0
    assert done.stderr.count("the last words") == 1
    assert done.stdout == "the parent ends\n"


HALF_DEAD = """
import ctypes, os, sys, threading
from broker.processes.tether import lost
looked, look = os.pipe()
reader, writer = os.pipe()
ours = os.getpid()
if os.fork() == 0:
    print(os.getppid() == ours, lost(ours), flush=True)
    os.write(look, b"1")
    os.read(reader, 1)
    while not lost(ours): pass
    print(os.getppid() == ours, lost(ours), flush=True)
    os.close(writer)
    os.kill(ours, 9)
    os._exit(0)
os.read(looked, 1)
def last_thread():
    os.write(writer, b"1")
    threading.Event().wait()
threading.Thread(target=last_thread).start()
ctypes.CDLL(None).syscall(ctypes.c_long(60 if os.uname().machine == "x86_64" else 93), 0)  # exit(2): of this thread
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads that end alone, and /proc")
def test_whoever_is_told_by_a_dying_main_thread_knows_that_its_parent_is_lost() -> None:
    """The signal comes before the parent is another one: nobody would say why this process ends."""
    with subprocess.Popen([sys.executable, "-c", HALF_DEAD], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.read().split("\n") == ["True False", "True True", ""]


def test_who_has_no_descriptor_left_still_notices_that_a_fork_has_ended() -> None:
    script = """
import os, subprocess, resource
from broker.processes.forked import Forked
reader, writer = os.pipe()
child = Forked("x", lambda: os.read(reader, 1))
resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
try:
    child.wait(0.2)
except subprocess.TimeoutExpired:
    print("waits")
os.write(writer, b"1")
print(child.wait(20))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("waits\n0\n", "")


ENDS_MEANWHILE = """
import os, threading
from broker.processes.forked import Forked
reader, writer = os.pipe()
child = Forked("x", lambda: os.read(reader, 1))
kill = os.kill
def slow(pid, number):
    os.write(writer, b"1")
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    watcher = threading.Thread(target=child.wait)
    watcher.start()
    watcher.join(0.3)
    kill(pid, number)
os.kill = slow
child.terminate()
print(child.wait())
"""


def test_a_fork_that_ends_while_it_is_told_to_is_no_mistake() -> None:
    """Whoever waits for it may ask for its status first; the number is nobody's then, or somebody else's."""
    done = subprocess.run([sys.executable, "-c", ENDS_MEANWHILE], capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
    assert done.stdout == "0\n"
