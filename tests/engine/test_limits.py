"""The memory for pictures: the tightest of all limits, divided."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from compreface_engine import limits
from compreface_engine.core.errors import ConfigurationError
from tests.shared import ROOT

GIB = 1 << 30
MIB = 1 << 20


def write(root: Path, path: str, text: str) -> None:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine of 8 GiB, 4 of them available, and a process of 100 MiB without a limit."""
    write(tmp_path, "proc/self/status", f"VmSize:\t{600 << 10} kB\nVmRSS:\t{100 << 10} kB\n")
    write(tmp_path, "proc/meminfo", f"MemTotal: {8 << 20} kB\nMemAvailable: {4 << 20} kB\n")
    return tmp_path


def seen(root: Path, configured: int = 0) -> tuple[int, int, str]:
    limit = limits.tightest_limit(configured, root)
    assert limit is not None
    return limit.free, limit.size, limit.source


def test_without_a_limit_the_machines_available_memory_counts(root: Path) -> None:
    assert seen(root) == (4 * GIB, 8 * GIB, "this machine")


def test_a_cgroup_of_version_2_counts_without_the_page_cache(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/a/b\n")
    write(root, "sys/fs/cgroup/a/b/memory.max", f"{GIB}\n")
    write(root, "sys/fs/cgroup/a/b/memory.current", f"{500 * MIB}\n")
    write(root, "sys/fs/cgroup/a/b/memory.stat", f"anon {200 * MIB}\nfile {300 * MIB}\n")
    assert seen(root) == (GIB - 200 * MIB, GIB, "the memory limit of its cgroup")
    # The memory of this process counts in any case.
    write(root, "sys/fs/cgroup/a/b/memory.stat", f"file {480 * MIB}\n")
    assert seen(root)[0] == GIB - 100 * MIB


def test_a_parent_cgroup_may_be_tighter(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/a/b\n")
    write(root, "sys/fs/cgroup/a/b/memory.max", "max\n")
    write(root, "sys/fs/cgroup/a/memory.max", f"{2 * GIB}\n")
    write(root, "sys/fs/cgroup/a/memory.current", f"{1900 * MIB}\n")
    assert seen(root) == (148 * MIB, 2 * GIB, "the memory limit of its cgroup")


@pytest.mark.parametrize("path", ["/docker/0123", "/", "/../other"])
def test_in_a_container_its_cgroup_is_the_root(root: Path, path: str) -> None:
    write(root, "proc/self/cgroup", f"5:cpu,cpuacct:/x\n4:memory:{path}\n1:name=systemd:/x\n")
    write(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", f"{GIB}\n")
    write(root, "sys/fs/cgroup/memory/memory.usage_in_bytes", f"{700 * MIB}\n")
    write(root, "sys/fs/cgroup/memory/memory.stat", f"cache 1\ntotal_cache {500 * MIB}\n")
    assert seen(root) == (GIB - 200 * MIB, GIB, "the memory limit of its cgroup")


def test_the_huge_number_of_version_1_is_no_limit(root: Path) -> None:
    write(root, "proc/self/cgroup", "4:memory:/\n")
    write(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert seen(root)[2] == "this machine"


def test_a_configured_limit_is_for_the_whole_process_and_takes_precedence(root: Path) -> None:
    assert seen(root, 300 * MIB) == (200 * MIB, 300 * MIB, "CF_MAX_MEMORY_BYTES")
    with pytest.raises(ConfigurationError, match=r"^CF_MAX_MEMORY_BYTES=1000: "):
        limits.shares(1000, bodies=1, body=1, workers=1, root=root)


def test_without_a_known_limit_there_is_none(tmp_path: Path) -> None:
    shares = limits.shares(0, bodies=5, body=1, workers=1, root=tmp_path)
    assert (shares.bodies, shares.pictures, shares.limit) == (5, None, None)


def test_an_address_space_that_is_limited_counts() -> None:
    program = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "from compreface_engine import limits\n"
        "limit = limits.tightest_limit(0)\n"
        "assert 'ulimit' in limit.source and limit.size == 2 << 30, limit\n"
        "assert 1 << 30 < limit.free < 2 << 30, limit\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": ROOT / "engine"})


@pytest.mark.parametrize("free", [50 * MIB, 300 * MIB, 900 * MIB, 4 * GIB])
def test_bodies_and_pictures_share_the_free_memory(root: Path, free: int) -> None:
    shares = limits.shares(100 * MIB + free, bodies=256 * MIB, body=64 * MIB, workers=2, root=root)
    assert shares.pictures is not None
    assert 64 * MIB <= shares.bodies <= 256 * MIB
    assert shares.pictures >= max(16 * MIB, free // 4)
    if free >= 300 * MIB:
        assert shares.bodies + shares.pictures < free
    assert str(shares.pictures >> 20) in str(shares)
