"""Conflicts on the host: ports, projects, containers, networks, volumes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from compreface_cli import checks
from compreface_cli.checks import volume
from compreface_cli.checks.base import Finding, OtherInstance, OwnedResources
from compreface_cli.errors import PreflightError
from compreface_cli.facts.database import Collection, DatabaseFacts
from compreface_cli.facts.docker import Labelled
from compreface_cli.facts.host import PortFact
from tests.cli.fake_facts import (
    FOLDER,
    container,
    docker,
    facts,
    held,
    host,
    of_project,
    plan,
    published,
    remote,
)
from tests.cli.names import assert_named

OWN = OwnedResources(folder=FOLDER)
OTHER = OtherInstance("one", frozenset({3000}), frozenset({4711}))
VOLUME = "cf-embedded_postgres-data"
CALCULATOR = "embedded.Calculator@mobilefacenet192"
OURS = {
    "com.docker.compose.project": "cf-embedded",
    "compreface-cli.instance": "embedded",
    "compreface-cli.calculator": CALCULATOR,
}


def matching(check: str, level: str, of: list[Finding]) -> list[Finding]:
    return [item for item in of if item.check == check and item.level == level]


def only(check: str, level: str, of: list[Finding]) -> Finding:
    rows = matching(check, level, of)
    assert len(rows) == 1, of
    return rows[0]


def ports(*rows: PortFact) -> Any:
    taken = {(row.address, row.port): row for row in rows}
    return host(ports={**host().ports, **taken})


def test_a_suitable_host_has_no_conflicts() -> None:
    findings = checks.preflight(plan(), facts())
    assert {item.level for item in findings} == {"ok"}
    checks.raise_for(findings)


def test_a_port_held_by_a_process_names_the_process_and_its_pid() -> None:
    row = only("port", "fail", checks.preflight(plan(), facts(host=ports(held(8000)))))
    assert_named(row.message, 8000, "python3", "pid 4711")
    assert "--port auto" in row.hint
    assert row.code == 4


def test_a_core_port_held_by_a_process_without_a_name_offers_the_core_ports_flag() -> None:
    seen = facts(host=ports(held(3000, process=None)))
    row = only("port", "fail", checks.preflight(plan(), seen))
    assert_named(row.message, 3000, "pid 4711")
    assert "--core-port auto" in row.hint


def test_a_port_of_an_unseen_process_says_how_to_see_it() -> None:
    seen = facts(host=ports(held(8000, pid=None, process=None)))
    row = only("port", "fail", checks.preflight(plan(), seen))
    assert_named(row.message, 8000)
    assert "pid" not in row.message
    assert_named(row.hint, "ss -ltnp")


def test_a_port_held_by_a_container_names_the_container_and_its_project() -> None:
    other = of_project("shop", "/srv/shop", "shop-web-1", ports=(published(8000, ""),))
    seen = facts(docker=docker(containers=(other,)), host=ports(held(8000)))
    row = only("port", "fail", checks.preflight(plan(), seen))
    assert_named(row.message, 8000, "shop-web-1", "project shop", "running")


def test_a_port_of_a_crash_looping_container_is_held_even_when_a_bind_succeeds() -> None:
    loop = container("loop", "restarting", ports=(published(8000, held=False),))
    row = only("port", "fail", checks.preflight(plan(), facts(docker=docker(containers=(loop,)))))
    assert_named(row.message, 8000, "loop", "restarting")


def test_a_port_of_a_stopped_container_is_a_warning() -> None:
    stopped = container("old", "exited", ports=(published(8000, held=False),))
    findings = checks.preflight(plan(), facts(docker=docker(containers=(stopped,))))
    assert_named(only("port", "warn", findings).message, 8000, "old")
    assert not matching("port", "fail", findings)


def test_a_port_on_another_address_is_no_conflict() -> None:
    other = container("c", ports=(published(8000, "10.0.0.1"), published(9000, "")))
    findings = checks.preflight(plan(), facts(docker=docker(containers=(other,))))
    assert not matching("port", "fail", findings)


def test_own_containers_are_no_conflict() -> None:
    mine = of_project(
        "cf-embedded", FOLDER + "/", "cf-embedded-compreface-fe-1", ports=(published(8000),)
    )
    seen = facts(docker=docker(containers=(mine,)), host=ports(held(8000)))
    findings = checks.preflight(plan(), seen, OWN)
    assert {item.level for item in findings} == {"ok"}


def test_own_stopped_containers_do_not_hide_a_process_on_their_port() -> None:
    mine = of_project("cf-embedded", FOLDER, state="exited", ports=(published(8000, held=False),))
    seen = facts(docker=docker(containers=(mine,)), host=ports(held(8000)))
    assert only("port", "fail", checks.preflight(plan(), seen, OWN))


def test_own_processes_are_no_conflict() -> None:
    wanted = plan(launcher="process", services="core", port=3000)
    seen = facts(host=ports(held(3000)))
    assert only("port", "fail", checks.preflight(wanted, seen))
    assert not matching(
        "port", "fail", checks.preflight(wanted, seen, OwnedResources(pids=frozenset({4711})))
    )


def test_a_port_of_another_instance_names_it_and_how_to_stop_it() -> None:
    wanted = plan(launcher="process", services="core", port=3000)
    seen = facts(host=ports(held(3000)), docker=None)
    others = (OtherInstance("two", frozenset({3001}), frozenset({4711})), OTHER)
    row = only("port", "fail", checks.preflight(wanted, seen, OwnedResources(others=others)))
    assert_named(row.message, 3000, "instance one")
    assert "4711" not in row.message
    assert "`cf down one`" in row.hint
    assert "--port auto" in row.hint


def test_an_instance_that_has_ended_does_not_hide_who_took_its_port() -> None:
    wanted = plan(launcher="process", services="core", port=3000)
    seen = facts(host=ports(held(3000, pid=99)), docker=None)
    row = only("port", "fail", checks.preflight(wanted, seen, OwnedResources(others=(OTHER,))))
    assert_named(row.message, "python3", "pid 99")


@pytest.mark.parametrize("seen_by_docker", [True, False])
def test_a_port_of_another_instances_container_names_the_instance(seen_by_docker: bool) -> None:
    theirs = of_project("cf-one", "/projects/one", ports=(published(3000),))
    engine = docker(containers=(theirs,)) if seen_by_docker else None
    wanted = plan(launcher="process", services="core", port=3000)
    seen = facts(host=ports(held(3000, process="docker-proxy")), docker=engine)
    two = OtherInstance("two", frozenset({4000}), folder="/projects/two")
    own = OwnedResources(
        others=(two, OtherInstance("one", frozenset({3000}), folder="/projects/one"))
    )
    row = only("port", "fail", checks.preflight(wanted, seen, own))
    assert_named(row.message, 3000, "instance one")
    assert "docker-proxy" not in row.message


def test_the_container_on_a_port_is_named_for_the_process_launcher_too() -> None:
    wanted = plan(launcher="process", services="core", port=3000)
    engine = docker(containers=(container("db", ports=(published(3000),)),))
    seen = facts(host=ports(held(3000, process="docker-proxy")), docker=engine)
    row = only("port", "fail", checks.preflight(wanted, seen))
    assert_named(row.message, 3000, "container db")


def test_two_equal_ports_are_refused() -> None:
    row = only("port", "fail", checks.preflight(plan(core_port=8000), facts()))
    assert_named(row.message, "--port", "--core-port", 8000)


@pytest.mark.parametrize("number", [0, 65536])
def test_a_port_out_of_range_is_refused(number: int) -> None:
    row = only("port", "fail", checks.preflight(plan(port=number), facts()))
    assert_named(row.message, f"--port {number}")
    assert row.code == 4


def test_a_privileged_port_is_refused_for_a_process_and_left_to_dockers_engine() -> None:
    closed = PortFact("127.0.0.1", 80, free=False, error="permission denied", denied=True)
    process = plan(launcher="process", services="core", port=80)
    row = only("port", "fail", checks.preflight(process, facts(host=ports(closed))))
    assert_named(row.message, 80, "permission denied")
    composed = checks.preflight(plan(port=80), facts(host=ports(closed)))
    assert not matching("port", "fail", composed)


def test_an_address_of_another_host_is_refused_with_the_systems_error() -> None:
    nowhere = PortFact("10.9.8.7", 8000, free=False, error="cannot assign requested address")
    row = only("port", "fail", checks.preflight(plan(bind="10.9.8.7"), facts(host=ports(nowhere))))
    assert_named(row.message, "10.9.8.7", "cannot assign requested address")
    assert "--bind" in row.hint


def test_an_automatic_port_is_not_checked() -> None:
    wanted = plan(port="auto", core_port="auto")
    assert checks.questions(wanted).ports == ()
    assert not [item for item in checks.preflight(wanted, facts()) if item.check == "port"]


def test_ports_held_by_processes_on_a_remote_docker_host_are_unknown() -> None:
    findings = checks.preflight(plan(), facts(docker=remote(), host=ports(held(8000))))
    assert only("port", "warn", findings)
    assert not matching("port", "fail", findings)


def test_a_project_name_taken_from_another_folder_names_it_and_its_containers() -> None:
    other = of_project("cf-embedded", "/srv/else", "cf-embedded-compreface-core-1")
    row = only(
        "project", "fail", checks.preflight(plan(), facts(docker=docker(containers=(other,))), OWN)
    )
    assert "/srv/else" in row.message
    assert "cf-embedded-compreface-core-1" in row.message
    assert "--instance" in row.hint
    assert row.code == 4


def test_a_project_without_a_record_is_foreign() -> None:
    other = of_project("cf-embedded", FOLDER)
    findings = checks.preflight(plan(), facts(docker=docker(containers=(other,))))
    assert only("project", "fail", findings)


def test_a_project_without_a_folder_label_is_foreign() -> None:
    other = container("x", labels={"com.docker.compose.project": "cf-embedded"})
    findings = checks.preflight(plan(), facts(docker=docker(containers=(other,))), OWN)
    assert_named(only("project", "fail", findings).message, "cf-embedded")


def test_a_container_name_that_is_taken_is_refused() -> None:
    other = container("cf-embedded-compreface-core-1", "exited")
    row = only(
        "project", "fail", checks.preflight(plan(), facts(docker=docker(containers=(other,))))
    )
    assert "docker rename cf-embedded-compreface-core-1" in row.hint


def test_a_crash_loop_of_this_instance_is_a_warning() -> None:
    mine = of_project("cf-embedded", FOLDER, state="restarting", status="Restarting (3) 1 s ago")
    findings = checks.preflight(plan(), facts(docker=docker(containers=(mine,))), OWN)
    row = only("project", "warn", findings)
    assert "Restarting (3)" in row.message
    assert "cf logs embedded" in row.hint


@pytest.mark.parametrize(
    ("labels", "owner"), [({}, ""), ({"com.docker.compose.project": "shop"}, "project shop")]
)
def test_a_foreign_network_of_the_name_is_refused(labels: dict[str, str], owner: str) -> None:
    other = Labelled("cf-embedded_default", labels)
    row = only("project", "fail", checks.preflight(plan(), facts(docker=docker(networks=(other,)))))
    assert_named(row.message, "cf-embedded_default", owner)


def test_own_network_is_no_conflict() -> None:
    mine = Labelled("cf-embedded_default", OURS)
    findings = checks.preflight(plan(), facts(docker=docker(networks=(mine,))))
    assert not matching("project", "fail", findings)


@pytest.mark.parametrize(
    ("labels", "owner"),
    [
        ({}, ""),
        ({"com.docker.compose.project": "shop"}, "project shop"),
        ({"com.docker.compose.project": "cf-embedded"}, "project cf-embedded"),
    ],
)
def test_a_foreign_volume_of_the_name_is_refused(labels: dict[str, str], owner: str) -> None:
    seen = facts(docker=docker(volumes=(Labelled(VOLUME, labels),)))
    row = only("volume", "fail", checks.preflight(plan(), seen))
    assert_named(row.message, VOLUME, owner)
    assert row.code == 4


def test_a_volume_of_another_calculator_is_refused_with_the_code_of_data() -> None:
    theirs = {**OURS, "compreface-cli.calculator": "facenet.Calculator"}
    seen = facts(docker=docker(volumes=(Labelled(VOLUME, theirs),)))
    row = only("volume", "fail", checks.preflight(plan(), seen))
    assert row.code == 5
    assert "facenet.Calculator" in row.message


THEIRS = {**OURS, "compreface-cli.calculator": "facenet.Calculator"}


def judged(database: DatabaseFacts | None, own: OwnedResources = OWN) -> tuple[Finding, bool]:
    """The volume's finding, where the label names another calculator than the plan; is it asked?"""
    seen = facts(docker=docker(volumes=(Labelled(VOLUME, THEIRS),)))
    asked = volume.in_doubt(plan(), seen, own)
    (row,) = volume.check(plan(), replace(seen, database=database), own)
    return row, asked


def test_the_database_decides_if_it_can_be_read_else_the_label() -> None:
    empty, asked = judged(DatabaseFacts(collections=()))
    assert (empty.level, asked) == ("ok", True)
    mine = Collection("People", 7, "Door", CALCULATOR, 3)
    theirs = Collection("People", 7, "Door", "facenet.Calculator", 1)
    assert judged(DatabaseFacts(collections=(mine,)))[0].level == "ok"
    for found in ((theirs,), (mine, theirs)):
        row, _ = judged(DatabaseFacts(collections=found))
        assert (row.level, row.code) == ("fail", 5)
        assert_named(row.message, "1 face of facenet.Calculator", "People", "Door")
    unread, _ = judged(DatabaseFacts("no answer within 60 s"))
    assert unread.code == 5
    assert_named(unread.message, "facenet.Calculator", "no answer within 60 s")
    old, _ = judged(DatabaseFacts(collections=(), old=True))
    assert old.code == 5


def test_the_record_overrides_the_label() -> None:
    row, asked = judged(None, replace(OWN, calculator=CALCULATOR))
    assert (row.level, asked) == ("ok", False)
    row, asked = judged(None, replace(OWN, calculator="mine.Calculator"))
    assert asked
    assert_named(row.message, "mine.Calculator")
    assert "facenet.Calculator" not in row.message


def test_only_this_instances_volume_is_read() -> None:
    for labels in ({}, {**THEIRS, "com.docker.compose.project": "shop"}):
        seen = facts(docker=docker(volumes=(Labelled(VOLUME, labels),)))
        assert not volume.in_doubt(plan(), seen, OWN)
    unlabelled = {"com.docker.compose.project": "cf-embedded"}
    seen = facts(docker=docker(volumes=(Labelled(VOLUME, unlabelled),)))
    assert not volume.in_doubt(plan(), seen, OWN)
    assert not volume.in_doubt(plan(), facts(docker=docker()), OWN)
    assert not volume.in_doubt(plan(services="core"), seen, OWN)
    assert not volume.in_doubt(plan(), facts(docker=None), OWN)


def test_a_volume_mounted_by_a_running_container_is_refused() -> None:
    user = container("psql", "paused", volumes=(VOLUME,))
    seen = facts(docker=docker(volumes=(Labelled(VOLUME, OURS),), containers=(user,)))
    row = only("volume", "fail", checks.preflight(plan(), seen))
    assert_named(row.message, VOLUME, "psql", "paused")
    assert "docker stop psql" in row.hint


def test_own_volume_with_own_or_stopped_containers_is_fine() -> None:
    mine = of_project("cf-embedded", FOLDER, volumes=(VOLUME,))
    old = container("old", "exited", volumes=(VOLUME,))
    seen = facts(
        docker=docker(volumes=(Labelled(VOLUME, OURS), Labelled("x")), containers=(mine, old))
    )
    assert only("volume", "ok", checks.preflight(plan(), seen, OWN))


def test_the_process_launcher_ignores_docker_names_and_volumes() -> None:
    other = container("cf-embedded-compreface-core-1", volumes=(VOLUME,))
    crowded = docker(containers=(other,), volumes=(Labelled(VOLUME),))
    wanted = plan(launcher="process", services="core", port=3000)
    findings = checks.preflight(wanted, facts(docker=crowded))
    assert {item.level for item in findings} == {"ok"}


def test_a_core_alone_has_no_volume_and_one_container_name() -> None:
    other = container("cf-embedded-compreface-fe-1")
    crowded = docker(containers=(other,), volumes=(Labelled(VOLUME),))
    findings = checks.preflight(plan(services="core", port=3000), facts(docker=crowded))
    assert {item.level for item in findings} == {"ok"}


def test_an_unreachable_docker_engine_is_one_finding() -> None:
    findings = checks.preflight(plan(), facts(docker=docker(state="refused", containers=())))
    assert [item.check for item in findings if item.level == "fail"] == ["docker"]


def test_all_findings_come_in_one_report_with_the_smallest_code() -> None:
    poor = facts(
        host=replace(ports(held(8000)), cpu_flags=frozenset()),
        docker=docker(volumes=(Labelled(VOLUME),), root_free=1),
    )
    with pytest.raises(PreflightError) as caught:
        checks.raise_for(checks.preflight(plan(), poor))
    error = caught.value
    assert error.code == 4
    assert_named(error.message, 4, 8000, VOLUME, "sse4_2", "/var/lib/docker")
    assert [row["exit_code"] for row in error.details["findings"]] == [4, 4, 7, 7]


def test_a_single_finding_is_counted_and_may_lack_a_hint() -> None:
    with pytest.raises(PreflightError, match="broken") as caught:
        checks.raise_for([Finding("x", "fail", "broken", "", 9), Finding("y", "warn", "odd")])
    assert caught.value.code == 9
    assert [row["check"] for row in caught.value.details["findings"]] == ["x", "y"]


def test_a_port_that_docker_holds_for_no_container_is_freed_by_a_restart_of_docker() -> None:
    """dockerd that died during a start opens the port again and forgets the container."""
    proxy = ports(held(8000, process="docker-proxy"))
    row = only("port", "fail", checks.preflight(plan(), facts(host=proxy)))
    assert_named(row.message, 8000, "docker-proxy", 4711)
    assert_named(row.hint, "Restart Docker", "--port auto")
    silent = facts(host=proxy, docker=None)
    row = only("port", "fail", checks.preflight(plan(launcher="process", services="core"), silent))
    assert "Restart Docker" not in row.hint


def test_an_engine_beside_needs_neither_ports_nor_the_volume_of_what_runs() -> None:
    seen = facts(host=ports(held(8000)))
    refused = checks.preflight(plan(), seen)
    assert {row.check for row in refused if row.level == "fail"} == {"port"}
    beside = checks.beside(plan(), seen, OwnedResources())
    assert beside
    assert not [row for row in beside if row.level == "fail"]
