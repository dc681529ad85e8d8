"""The host's facts against the real host, and against a /proc of our own."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from compreface_cli import cpu
from compreface_cli.facts import Questions, gather, host
from compreface_cli.facts.host import Listener, PortFact
from tests.shared import ROOT


@contextmanager
def listening(address: str = "127.0.0.1") -> Iterator[int]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.bind((address, 0))
        server.listen(1)
        yield server.getsockname()[1]


def test_the_host_is_described(tmp_path: Path) -> None:
    facts = gather(Questions(paths=(str(tmp_path / "not" / "yet"),), docker=False)).host
    assert facts.system == "Linux"
    assert facts.architecture in ("amd64", "arm64")
    assert facts.python == platform.python_version()
    assert facts.cpu_flags
    assert facts.cores >= 1
    assert facts.memory_total is not None
    assert facts.memory_available is not None
    assert facts.memory_total >= facts.memory_available > 0
    disk = facts.disks[str(tmp_path / "not" / "yet")]
    assert disk.existing == str(tmp_path)
    assert 0 < disk.free <= disk.total
    assert disk.total == shutil.disk_usage(tmp_path).total


def test_a_free_port_is_free() -> None:
    number = host.free_port()
    assert host.port("127.0.0.1", number) == host.PortFact("127.0.0.1", number, free=True)


def test_a_port_of_this_process_is_held_by_this_process() -> None:
    with listening() as number:
        fact = host.port("127.0.0.1", number)
    assert not fact.free
    assert "in use" in fact.error
    [listener] = fact.listeners
    assert (listener.address, listener.pid) == ("127.0.0.1", os.getpid())
    assert listener.process == Path("/proc/self/comm").read_text().strip()


def test_a_port_of_another_process_is_named_by_its_pid() -> None:
    script = (
        "import socket, sys\n"
        "s = socket.create_server(('0.0.0.0', 0))\n"
        "print(s.getsockname()[1], flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        number = int(child.stdout.readline())
        fact = host.port("127.0.0.1", number)
        child.communicate()
    assert [item.pid for item in fact.listeners] == [child.pid]


def test_a_port_on_all_addresses_conflicts_with_a_listener_on_one() -> None:
    with listening() as number:
        assert not host.port("0.0.0.0", number).free


def test_listeners_over_ipv6_are_seen() -> None:
    try:
        with listening("::1") as number:
            fact = host.port("::1", number)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    assert [item.address for item in fact.listeners] == ["::1"]


def test_a_listener_on_another_address_is_no_conflict() -> None:
    with listening("127.0.0.2") as number:
        assert host.port("127.0.0.1", number).free
        assert [item.address for item in host.listeners([number])] == ["127.0.0.2"]


def test_an_invalid_port_number_and_a_foreign_address_are_not_free() -> None:
    assert not host.port("127.0.0.1", 70000).free
    fact = host.port("192.0.2.1", 8000)
    assert not fact.free
    assert not fact.denied
    assert "assign" in fact.error


def test_a_privileged_port_is_denied_to_a_common_user() -> None:
    lowest = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if os.geteuid() != 0 or int(lowest.read_text()) < 1024:
        pytest.skip("needs root, who can become another user, and privileged ports")
    run = _as_nobody("print(host.port('127.0.0.1', 81).denied)\n")
    assert run.stdout == "True\n", run.stderr


def test_a_process_that_may_not_be_read_has_no_name() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, who can become another user")
    with listening() as number:
        run = _as_nobody(
            f"fact = host.port('127.0.0.1', {number})\n"
            "print(fact.free, [item.pid for item in fact.listeners])\n"
        )
    assert run.stdout.strip() == "False [None]", run.stderr


def _as_nobody(script: str) -> subprocess.CompletedProcess[str]:
    """Import as this user, who may read the checkout, then drop every right and run the script."""
    drop = (
        "import os\n"
        "from compreface_cli.facts import host\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", drop + script],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


def test_flags_are_those_that_every_core_has(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags\t\t: sse4_2 avx\nmodel name : x\n\nflags\t\t: sse4_2\n")
    assert cpu.flags(cpuinfo) == frozenset({"sse4_2"})
    assert cpu.flags(cpuinfo, every_core=False) == frozenset({"sse4_2", "avx"})
    cpuinfo.write_text("processor : 0\nFeatures\t: fp asimd\n")
    assert cpu.flags(cpuinfo) == frozenset({"fp", "asimd"})
    cpuinfo.write_text("processor : 0\n")
    assert cpu.flags(cpuinfo) is None
    assert cpu.flags(tmp_path / "absent") is None


def test_a_proc_without_tables_shows_no_listeners(tmp_path: Path) -> None:
    assert host.listeners([80], tmp_path) == ()


def test_a_socket_without_a_process_in_sight_is_listed_without_a_name(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    head = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm retrnsmt uid timeout inode\n"
    )
    row = "   0: {} 00000000:0000 {} 00000000:00000000 00:00000000 00000000 0 0 42 1 0\n"
    listen = row.format("0100007F:0050", "0A")
    connected = row.format("0100007F:0050", "01")
    (tmp_path / "net" / "tcp").write_text(head + listen + connected + "odd\n")
    (tmp_path / "7").mkdir()
    [found] = host.listeners([80], tmp_path)
    assert found == host.Listener("127.0.0.1", 80)


def test_architectures_have_dockers_names() -> None:
    assert [cpu.architecture(name) for name in ("x86_64", "aarch64", "riscv64")] == [
        "amd64",
        "arm64",
        "riscv64",
    ]


@pytest.mark.parametrize(
    ("pid", "process", "asked"),
    [(7, "docker-proxy", True), (None, None, True), (7, "python3", False)],
)
def test_docker_is_asked_about_a_listener_that_may_be_its_own(
    pid: int | None, process: str | None, asked: bool
) -> None:
    listener = Listener("127.0.0.1", 3000, pid, process)
    assert PortFact("127.0.0.1", 3000, False, listeners=(listener,)).maybe_dockers is asked
