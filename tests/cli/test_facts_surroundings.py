"""Facts about control groups, of version 1 and 2, and about the network settings of a host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compreface_cli.deploy import project_folder
from compreface_cli.facts import cgroup, network
from compreface_cli.facts.cgroup import Limits


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_smallest_limit_of_a_group_and_those_above_it_counts(tmp_path: Path) -> None:
    root = write(
        tmp_path / "cgroup",
        {
            "memory.max": "max\n",
            "a.slice/memory.max": "1000\n",
            "a.slice/b.service/memory.max": "2000\n",
            "a.slice/b.service/cpu.max": "150000 100000\n",
            "a.slice/cpu.max": "max 100000\n",
            "a.slice/pids.max": "77\n",
            "a.slice/b.service/pids.max": "max\n",
        },
    )
    own = write(tmp_path, {"self": "0::/a.slice/b.service\n"}) / "self"
    assert cgroup.of_process(root, own) == Limits(1000, 1.5, 77)


def test_version_1_has_a_hierarchy_for_each_controller(tmp_path: Path) -> None:
    root = write(
        tmp_path / "cgroup",
        {
            "memory/x/memory.limit_in_bytes": "3000\n",
            "memory/memory.limit_in_bytes": "9223372036854771712\n",
            "cpu/y/cpu.cfs_quota_us": "50000\n",
            "cpu/y/cpu.cfs_period_us": "100000\n",
            "cpu/cpu.cfs_quota_us": "-1\n",
            "cpu/cpu.cfs_period_us": "100000\n",
            "pids/z/pids.max": "55\n",
        },
    )
    own = write(tmp_path, {"self": "4:memory:/x\n3:cpu,cpuacct:/y\n2:pids:/z\n0::/\n"}) / "self"
    assert cgroup.of_process(root, own) == Limits(3000, 0.5, 55)


def test_the_group_of_dockers_containers_is_found_in_both_versions(tmp_path: Path) -> None:
    v2 = write(tmp_path / "2", {"docker/memory.max": "10\n", "system.slice/pids.max": "20\n"})
    assert cgroup.of_containers(v2) == Limits(10, None, 20)
    v1 = write(tmp_path / "1", {"memory/docker/memory.limit_in_bytes": "30\n"})
    assert cgroup.of_containers(v1) == Limits(30)
    assert cgroup.of_containers(tmp_path / "nowhere") == Limits()


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert cgroup.of_process(tmp_path, tmp_path / "none") == Limits()


@pytest.mark.skipif(os.geteuid() != 0, reason="making a control group needs root")
@pytest.mark.skipif(
    not os.access("/sys/fs/cgroup/memory", os.W_OK), reason="no memory hierarchy of version 1"
)
def test_a_real_group_with_a_limit_is_read() -> None:
    group = Path("/sys/fs/cgroup/memory") / f"cf-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(300 << 20))
        child = os.fork()
        if child == 0:
            (group / "cgroup.procs").write_text(str(os.getpid()))
            os._exit(0 if cgroup.of_process().memory == 300 << 20 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        group.rmdir()


def test_proxies_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://big:1")
    monkeypatch.setenv("https_proxy", "http://small:1")
    monkeypatch.setenv("http_proxy", "")
    monkeypatch.setenv("NO_PROXY", "localhost")
    assert network.gather().proxies == {"https": "http://small:1", "no": "localhost"}


def test_the_hosts_network_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proc = write(
        tmp_path / "proc",
        {"net/if_inet6": "fe80 01\n", "sys/net/ipv4/ip_unprivileged_port_start": "80\n"},
    )
    sys = write(tmp_path / "sys", {"fs/selinux/enforce": "1"})
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    seen = network.gather(proc, sys)
    assert (seen.ipv6, seen.first_port, seen.selinux) == (True, 80, True)
    bare = network.gather(tmp_path / "none", tmp_path / "none")
    assert (bare.ipv6, bare.first_port, bare.selinux) == (False, 1024, False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert network.gather(proc, sys).first_port == 1
    assert "127.0.0.1" in seen.localhost or "::1" in seen.localhost


def test_a_host_that_knows_no_localhost_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object, **named: object) -> None:
        raise OSError

    monkeypatch.setattr("socket.getaddrinfo", fails)
    assert network.gather().localhost == ()


def test_bind_mounts_without_a_label_are_read_from_the_users_own_file(tmp_path: Path) -> None:
    file = tmp_path / "compose.override.yaml"
    assert project_folder.unlabelled(tmp_path) == ()
    file.write_text(
        "services:\n  a:\n    volumes:\n    - ./x:/x\n    - ./y:/y:ro,z\n    - /z:/z:Z\n"
        "    - named:/n\n    - {type: bind, source: ./w, target: /w}\n    - ~/q:/q:ro\n  b: {}\n"
    )
    assert project_folder.unlabelled(tmp_path) == ("./x:/x", "~/q:/q:ro")
    for broken in ("{", "[]", "services: []", "services: {a: 1}", ""):
        file.write_text(broken)
        assert project_folder.unlabelled(tmp_path) == ()
