"""What a container may use, read from files such as the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from broker.processes.cores import HASH_MEMORY, lanes_for_hashing, usable_cores
from broker.services.hashing import MEMORY_KIB, Argon2Hasher

MIB = 1 << 20


@pytest.fixture(autouse=True)
def node(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 64 cores; the rest is in files."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))


def machine(root: Path, groups: str = "0::/\n") -> Path:
    """What /proc/self/cgroup says there."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    return root


def given(root: Path, limits: list[tuple[str, str]]) -> Path:
    """Limits by their paths below /sys/fs/cgroup."""
    for name, text in limits:
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 64), ("200000 100000", 2), ("250000 100000", 3), ("50000 100000", 1), ("9900000 100000", 64)],
)
def test_a_quota_is_as_many_cores_as_it_needs_and_never_more_than_there_are(
    tmp_path: Path, quota: str, cores: int
) -> None:
    assert usable_cores(given(machine(tmp_path), [("cpu.max", quota)])) == cores


def test_where_nobody_limits_anything_every_core_is_ours(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == 64, "no /proc, as elsewhere than on Linux"
    assert usable_cores(machine(tmp_path)) == 64
    assert lanes_for_hashing(2, tmp_path) == 32


def test_the_tightest_quota_of_all_groups_above_us_counts(tmp_path: Path) -> None:
    machine(tmp_path, "0::/kubepods.slice/pod1/broker\n")
    given(tmp_path, [("kubepods.slice/cpu.max", "3200000 100000"), ("kubepods.slice/pod1/cpu.max", "400000 100000"),
                     ("kubepods.slice/pod1/broker/cpu.max", "max 100000"), ("another/cpu.max", "1 1")])  # fmt: skip
    assert usable_cores(tmp_path) == 4


@pytest.mark.parametrize("path", ["/../../kubepods/pod1", "/docker/0123456789abcdef"])
def test_a_path_that_is_not_mounted_here_leaves_what_is(tmp_path: Path, path: str) -> None:
    assert usable_cores(given(machine(tmp_path, f"0::{path}\n"), [("cpu.max", "200000 100000")])) == 2


def test_version_1_counts_as_well(tmp_path: Path) -> None:
    machine(tmp_path, "5:memory:/web\n4:cpu,cpuacct:/web\n1:name=systemd:/web\n0::/\n")
    given(tmp_path, [("cpu/web/cpu.cfs_quota_us", "150000"), ("cpu/web/cpu.cfs_period_us", "100000"),
                     ("cpu/cpu.cfs_quota_us", "-1"), ("cpu/cpu.cfs_period_us", "100000"),
                     ("memory/memory.limit_in_bytes", "9223372036854771712")])  # fmt: skip
    assert usable_cores(tmp_path) == 2
    assert lanes_for_hashing(1, tmp_path) == 2
    given(tmp_path, [("memory/web/memory.limit_in_bytes", str(64 * MIB))])
    assert lanes_for_hashing(1, tmp_path) == 1


@pytest.mark.parametrize("text", ["", "max", "200000", "0 0", "many 100000", "-1 100000"])
def test_a_limit_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    assert usable_cores(given(machine(tmp_path), [("cpu.max", text), ("memory.max", text)])) == 64


def test_hashes_never_take_more_than_half_of_the_memory_of_a_container_without_a_quota(tmp_path: Path) -> None:
    given(machine(tmp_path), [("memory.max", str(768 * MIB))])
    for processes in range(1, 11):
        together = processes * lanes_for_hashing(processes, tmp_path)
        assert together * HASH_MEMORY <= 384 * MIB
        assert (together + processes) * HASH_MEMORY > 384 * MIB, "and not less than would fit"
    assert lanes_for_hashing(256, tmp_path) == 1


def test_with_memory_to_spare_the_lanes_are_the_cores(tmp_path: Path) -> None:
    given(machine(tmp_path), [("memory.max", str(768 * MIB)), ("cpu.max", "200000 100000")])
    assert [lanes_for_hashing(processes, tmp_path) for processes in (1, 2, 3)] == [2, 1, 1]


def test_the_memory_of_a_hash_is_that_of_the_hasher() -> None:
    assert HASH_MEMORY == MEMORY_KIB * 1024


def test_a_hasher_that_is_told_nothing_asks_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.services.hashing.usable_cores", lambda: 3)
    assert " on all 3 of this machine" in Argon2Hasher(memory_kib=8, time_cost=1).capacity()[0]
