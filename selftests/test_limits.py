"""What a process may use of its machine: its container's cores and memory, not those of the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from neverslower.campaign import campaign
from neverslower.campaign.campaign import Campaign
from neverslower.campaign.settings import Settings
from neverslower.device.readers import limits
from neverslower.worker.process import WorkerSpec
from selftests import in_process
from selftests.support import comparison, scripted

MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def machine(root: Path, own: str, files: dict[str, str]) -> Path:
    """A file system in which this process is in group `own`, and groups have these files, by their paths."""
    groups = {f"sys/fs/cgroup/{name}": content for name, content in files.items()}
    for name, content in {"proc/self/cgroup": own, **groups}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n", encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("own", "files", "memory"),
    [
        ("0::/", {}, MACHINE),
        ("0::/", {"memory.max": "max"}, MACHINE),
        ("0::/", {"memory.max": "1000000"}, 1_000_000),
        ("0::/a/b", {"memory.max": "max", "a/memory.max": "3000", "a/b/memory.max": "max"}, 3000),
        ("0::/a/b", {"a/memory.max": "3000", "a/b/memory.max": "2000"}, 2000),
        ("0::/../..", {"memory.max": "5000"}, 5000),  # As seen from a namespace that does not hold its own group.
        ("4:memory:/a", {"memory.max": "6000"}, 6000),
        ("0::/", {"memory.max": str(1 << 62)}, MACHINE),
        ("0::/", {"memory.max": "nonsense"}, MACHINE),
    ],
)
def test_memory_is_the_least_limit_of_all_groups(tmp_path: Path, own: str, files: dict[str, str], memory: int) -> None:
    assert limits.memory(machine(tmp_path, own, files)) == memory


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "250000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "max 100000", "a/cpu.max": "400000 100000"}, 4),
        ({"cpu.max": "100000 0"}, 8),
        ({"cpu.max": "1600000 100000"}, 8),
    ],
)
def test_cores_are_those_of_affinity_and_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    assert limits.cores(machine(tmp_path, "0::/a", files)) == cores


def test_workers_that_start_ahead_are_those_that_a_container_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "memory", lambda: 8_000_000_000)
    monkeypatch.setattr(limits, "cores", lambda: 16)
    asked: list[tuple[int, int]] = []

    def none_ahead(spec: WorkerSpec, memory: int, cores: int) -> int:
        asked.append((memory, cores))
        return 0

    monkeypatch.setattr(campaign, "how_many_ahead", none_ahead)
    Campaign({"scripted": scripted(tmp_path)}, Settings(), start=in_process.start).run([comparison(1)])
    assert set(asked) == {(8_000_000_000, 16)}
