"""Checks of what surrounds Docker and the engine: Compose v1, rootless, SELinux, proxy, IPv6 ..."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from compreface_cli import checks
from compreface_cli.checks import (
    browser_port,
    cgroup,
    dollar,
    ipv6,
    proxy,
    rootless,
    selinux,
)
from compreface_cli.checks import docker as of_docker
from compreface_cli.checks.base import Finding, OwnedResources
from compreface_cli.checks.machine import Machine
from compreface_cli.config.settings import LITERAL
from compreface_cli.facts import Facts
from compreface_cli.facts.cgroup import Limits
from compreface_cli.facts.host import Listener, PortFact
from compreface_cli.facts.network import NetworkFacts
from tests.cli.fake_facts import docker, facts, host, plan, remote
from tests.cli.names import assert_named

OWN = OwnedResources()
PROXY = {"https": "http://user:word@proxy.corp:3128"}
GB = 1_000_000_000


def ids(rows: Any) -> list[str]:
    return [f"{row.level} {row.id}" for row in rows if row.level != "ok"]


def seen(**changes: Any) -> Facts:
    return replace(facts(), network=NetworkFacts(), **changes)


def of_doctor(module: Any, of: Facts) -> list[Finding]:
    return list(module.doctor(Machine(of)))


def test_all_of_them_are_silent_on_an_ordinary_machine() -> None:
    rows = checks.preflight(plan(), seen(own_group=Limits(), containers_group=Limits()), OWN)
    assert not ids(rows)


def test_the_old_compose_alone_is_named_and_beside_the_plugin_ignored() -> None:
    only = docker(compose_version=None, compose_error="no plugin", compose_v1="1.29.2")
    assert "fail compose-v1" in ids(of_docker.judge(only))
    assert "fail compose-missing" not in ids(of_docker.judge(only))
    assert not ids(of_docker.judge(docker(compose_v1="1.29.2")))
    assert "fail compose-missing" in ids(of_docker.judge(replace(only, compose_v1=None)))


@pytest.mark.parametrize(
    ("port", "first", "refused"),
    [(80, 1024, True), (8000, 1024, False), (80, 80, False), (79, 80, True), (0, 1024, False)],
)
def test_rootless_docker_binds_only_ports_that_its_user_may(
    port: int, first: int, refused: bool
) -> None:
    of = seen(docker=docker(rootless=True))
    of = replace(of, network=NetworkFacts(first_port=first))
    rows = list(rootless.check(plan(port=port, core_port="auto"), of, OWN))
    assert ids(rows) == (["fail port-privileged"] if refused else [])


def test_of_a_remote_or_unknown_host_the_kernels_default_is_taken() -> None:
    low = plan(port=80)
    assert ids(rootless.check(low, seen(docker=remote(rootless=True)), OWN))
    assert ids(rootless.check(low, facts(docker=docker(rootless=True)), OWN))
    assert not ids(rootless.check(low, seen(), OWN)), "it runs as root"
    assert not ids(rootless.check(plan(launcher="process", port=80), seen(), OWN))
    assert not ids(rootless.check(low, seen(docker=docker(state="refused")), OWN))


def test_an_engine_that_limits_nothing_is_named() -> None:
    of = seen(docker=docker(no_limits=("memory", "processes")))
    assert ids(rootless.check(plan(), of, OWN)) == ["warn docker-no-limits"]
    assert ids(of_doctor(rootless, of)) == ["warn docker-no-limits"]


def test_doctor_tells_of_rootless_docker_and_of_user_namespaces() -> None:
    assert ids(of_doctor(rootless, seen(docker=docker(rootless=True)))) == ["warn docker-rootless"]
    (mapped,) = of_doctor(rootless, seen(docker=docker(user_namespaces=True)))
    assert mapped.level == "ok"
    assert not of_doctor(rootless, seen())
    assert not of_doctor(rootless, seen(docker=None))


def test_bind_mounts_without_a_label_are_named_where_selinux_is_in_force() -> None:
    of = replace(seen(docker=docker(selinux=True)), network=NetworkFacts(selinux=True))
    own = OwnedResources(bind_mounts=("./my:/data",))
    (row,) = selinux.check(plan(), of, own)
    assert row.id == "selinux"
    assert_named(row.message, "./my:/data")
    assert not ids(selinux.check(plan(), of, OWN)), "cf labels its own"
    assert not ids(selinux.check(plan(), seen(docker=docker(selinux=True)), own))
    assert not ids(selinux.check(plan(), replace(of, docker=docker()), own))
    assert not ids(selinux.check(plan(launcher="process"), of, own))
    assert not ids(selinux.check(plan(), facts(docker=docker(selinux=True)), own))
    for docker_facts in (docker(selinux=True), docker(), None):
        (row,) = of_doctor(selinux, replace(of, docker=docker_facts))
        assert row.level == "ok"
    assert not of_doctor(selinux, seen())
    assert not of_doctor(selinux, facts())


@pytest.mark.parametrize(
    ("ours", "theirs", "id_"),
    [
        (PROXY, {}, "warn proxy-docker-lacks"),
        ({}, {"http": "proxy:3128"}, "warn proxy-host-lacks"),
        (PROXY, PROXY, ""),
        ({}, {}, ""),
        ({"no": "localhost"}, {}, ""),
    ],
)
def test_a_proxy_that_only_one_side_has_is_named_where_something_is_pulled(
    ours: dict[str, str], theirs: dict[str, str], id_: str
) -> None:
    of = replace(seen(docker=docker(proxies=theirs)), network=NetworkFacts(proxies=ours))
    assert not ids(proxy.check(plan(), of, OWN)), "every image is here"
    assert of.docker is not None
    empty = replace(of, docker=replace(of.docker, images=()))
    rows = list(proxy.check(plan(), empty, OWN))
    assert ids(rows) == ([id_] if id_ else [])
    assert not any("word" in row.message for row in rows), "without the password"
    assert not ids(proxy.check(plan(launcher="process"), empty, OWN))
    assert not ids(proxy.check(plan(), replace(empty, network=None), OWN))


def test_doctor_tells_of_a_proxy_that_localhost_goes_through() -> None:
    both = docker(proxies=PROXY)
    of = seen(docker=both)
    assert ids(of_doctor(proxy, replace(of, network=NetworkFacts(proxies=PROXY)))) == [
        "warn proxy-for-localhost"
    ]
    for no in ("example.com, localhost,127.0.0.1", "*"):
        network = NetworkFacts(proxies={**PROXY, "no": no})
        (row,) = of_doctor(proxy, replace(of, network=network))
        assert row.level == "ok"
        (row,) = of_doctor(proxy, replace(seen(docker=None), network=network))
        assert row.level == "ok"
    assert not of_doctor(proxy, seen())
    assert not of_doctor(proxy, facts())


@pytest.mark.parametrize(("port", "refused"), [(6000, True), (10080, True), (8000, False)])
def test_a_port_that_browsers_refuse_is_named_for_the_ui_alone(port: int, refused: bool) -> None:
    wanted = ["warn port-browser"] if refused else []
    assert ids(browser_port.check(plan(port=port), facts(), OWN)) == wanted
    assert not ids(browser_port.check(plan(port=port, services="core"), facts(), OWN))
    assert not ids(browser_port.check(plan(port=port, launcher="process"), facts(), OWN))
    assert not ids(browser_port.check(plan(port="auto"), facts(), OWN))


def test_an_ipv6_address_needs_ipv6() -> None:
    without = replace(facts(), network=NetworkFacts(ipv6=False))
    assert ids(ipv6.check(plan(bind="::"), without, OWN)) == ["fail ipv6-missing"]
    assert not ids(ipv6.check(plan(bind="::"), seen(), OWN))
    assert not ids(ipv6.check(plan(), without, OWN))
    far = replace(facts(docker=remote()), network=NetworkFacts(ipv6=False))
    assert not ids(ipv6.check(plan(bind="::"), far, OWN)), "nobody knows that host"
    assert not ids(ipv6.check(plan(bind="::"), facts(), OWN))


def listening(address: str, pid: int | None, name: str | None) -> Facts:
    fact = PortFact("::1", 8000, free=False, listeners=(Listener(address, 8000, pid, name),))
    local = NetworkFacts(localhost=("::1", "127.0.0.1"))
    return replace(facts(host=host(ports={("::1", 8000): fact})), network=local)


def test_another_program_at_localhost_is_named() -> None:
    (row,) = ipv6.check(plan(), listening("::1", 5, "node"), OWN)
    assert row.id == "localhost-ipv6"
    assert_named(row.message, "node", 8000)
    (row,) = ipv6.check(plan(), listening("::1", None, None), OWN)
    assert row.id == "localhost-ipv6"
    assert not ids(ipv6.check(plan(), listening("::", 5, "node"), OWN)), "the port's check says so"
    ours = OwnedResources(pids=frozenset({5}))
    assert not ids(ipv6.check(plan(), listening("::1", 5, "cf"), ours))
    assert not ids(ipv6.check(plan(bind="0.0.0.0"), listening("::1", 5, "node"), OWN))
    v4 = replace(listening("::1", 5, "node"), network=NetworkFacts())
    assert not ids(ipv6.check(plan(), v4, OWN))


def test_limits_of_the_control_group_count_where_the_services_run() -> None:
    little = Limits(memory=GB, cpus=0.5, pids=100)
    tight = ["fail cgroup-memory", "warn cgroup-cpus", "warn cgroup-pids"]
    assert ids(cgroup.check(plan(), seen(containers_group=little), OWN)) == tight
    assert not ids(cgroup.check(plan(), seen(own_group=little), OWN))
    alone = plan(launcher="process", services="core")
    assert ids(cgroup.check(alone, seen(own_group=little), OWN)) == tight[1:], "1 GB is enough"
    assert ids(cgroup.check(alone, seen(own_group=Limits(memory=GB // 2)), OWN)) == tight[:1]
    enough = Limits(memory=4 * GB, cpus=2.0, pids=4096)
    assert not ids(cgroup.check(plan(), seen(containers_group=enough), OWN))
    far = seen(docker=remote(), containers_group=little)
    assert not ids(cgroup.check(plan(), far, OWN)), "it is not that host's"
    assert not ids(cgroup.check(plan(), seen(docker=None, containers_group=little), OWN))


def test_doctor_tells_the_limits_of_its_own_control_group() -> None:
    assert ids(of_doctor(cgroup, seen(own_group=Limits(cpus=0.5)))) == ["warn cgroup-cpus"]
    (row,) = of_doctor(cgroup, seen(own_group=Limits(memory=4 * GB, cpus=2.0, pids=500)))
    assert row.level == "ok"
    assert_named(row.message, "4.0 GB", "2 CPUs", "500")
    (row,) = of_doctor(cgroup, seen(own_group=Limits(pids=500)))
    assert_named(row.message, "500")
    (row,) = of_doctor(cgroup, seen(own_group=Limits(memory=4 * GB)))
    assert_named(row.message, "4.0 GB")
    assert not of_doctor(cgroup, seen(own_group=Limits()))
    assert not of_doctor(cgroup, seen())


@pytest.mark.parametrize(
    ("value", "origin", "warned"),
    [
        ("pa$word", "env file /srv/.env:3", True),
        ("pa${x}", "env file /srv/.env:3", True),
        ("pa$$x", "env file /srv/.env:3", True),
        ("pa$1", "env file /srv/.env:3", False),
        ("pa", "env file /srv/.env:3", False),
        ("pa$word", f"env file /srv/.env:3{LITERAL}", False),
        ("pa$word", "environment CF_POSTGRES_PASSWORD", False),
    ],
)
def test_a_dollar_in_upstreams_env_file_is_named_where_compose_replaces_it(
    value: str, origin: str, warned: bool
) -> None:
    wanted = plan(secrets={"postgres_password": value}, origins={"postgres_password": origin})
    rows = list(dollar.check(wanted, facts(), OWN))
    assert ids(rows) == (["warn password-dollar"] if warned else [])
    assert not any("pa" == word for row in rows for word in row.message.split())
