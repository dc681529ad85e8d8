"""Which ports an instance gets: those asked for, else those it has; for `auto` a free one."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from compreface_cli.deploy import ports
from compreface_cli.instance.state import Endpoint
from tests.cli.fake_facts import plan
from tests.cli.records import PROCESS, STACK, record


def test_a_port_that_was_not_given_is_that_of_the_running_instance() -> None:
    wanted = plan(launcher="process", services="core", port=3000, origins={"port": "default"})
    assert ports.settled(wanted, record(PROCESS)).port == 3017
    assert ports.settled(wanted, None).port == 3000
    whole = ports.settled(plan(), record(STACK))
    assert (whole.port, whole.core_port) == (8018, 3018)


def test_the_port_is_kept_when_auto_becomes_a_process_again() -> None:
    wanted = plan(launcher="auto", origins={"port": "default", "core_port": "default"})
    whole = ports.settled(wanted, record(PROCESS))
    assert (whole.port, whole.core_port) == (8000, 3017)


@pytest.mark.parametrize("where", ["flag --port", "environment CF_PORT", "user file x:1"])
def test_a_port_that_was_given_is_used(where: str) -> None:
    wanted = plan(launcher="process", services="core", port=3000, origins={"port": where})
    assert ports.settled(wanted, record(PROCESS)).port == 3000


def test_a_port_on_another_address_is_not_kept() -> None:
    wanted = plan(launcher="process", services="core", port=3000, bind="192.0.2.1")
    assert ports.settled(wanted, record(PROCESS)).port == 3000


def test_auto_gets_a_number_once_the_launcher_is_known() -> None:
    asked = plan(launcher="auto", port="auto", origins={"port": "flag --port"})
    assert ports.settled(asked, None).port == "auto"
    alone = replace(asked, launcher="process", services="core")
    assert ports.settled(alone, record(PROCESS)).port == 3017, "the one it has"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        usual = taken.getsockname()[1]
        settled = ports.settled(replace(asked, launcher="compose", core_port=usual), None)
    assert isinstance(settled.port, int)
    assert settled.port != settled.core_port == usual
    assert ports.settled(settled, None) == settled


def test_a_stack_on_swarm_stays_one_with_its_address_and_ports() -> None:
    """Without a launcher named, an instance does not move from several machines to one."""
    ui, engine = Endpoint("0.0.0.0", 8018), Endpoint("0.0.0.0", 3018)
    deployed = replace(STACK, launcher="swarm", ui=ui, engine=engine)
    default = dict.fromkeys(("bind", "port", "core_port"), "default")
    kept = ports.settled(plan(launcher="auto", origins=default), record(deployed))
    assert (kept.launcher, kept.bind, kept.port, kept.core_port) == ("swarm", "0.0.0.0", 8018, 3018)
    moved = ports.settled(plan(launcher="compose", origins=default), record(deployed))
    assert (moved.launcher, moved.bind) == ("compose", plan().bind)


def test_a_running_stack_stays_one_and_another_instance_is_decided_anew() -> None:
    """Its images may be out of reach now, and the engine alone would end api and database."""
    default = dict.fromkeys(("bind", "port", "core_port"), "default")
    wanted = plan(launcher="auto", origins=default)
    assert ports.settled(wanted, record(STACK)).launcher == "compose"
    assert ports.settled(wanted, replace(record(STACK), phase="stopped")).launcher == "auto"
    assert ports.settled(wanted, record(replace(STACK, ui=None))).launcher == "auto"
    assert ports.settled(wanted, record(PROCESS)).launcher == "auto"
    asked = ports.settled(plan(launcher="process", origins=default), record(STACK))
    assert asked.launcher == "process"
