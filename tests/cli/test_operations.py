"""What `up` does: each operation with its cause, in the order in which it is carried out."""

from __future__ import annotations

from typing import Any

from compreface_cli.config.settings import resolve as resolve_settings
from compreface_cli.plan.operations import (
    Away,
    Observed,
    Operation,
    Options,
    away,
    away_words,
    operations,
)
from compreface_cli.plan.plan import Plan, resolve
from tests.cli.build_files import build_file, catalogue
from tests.cli.names import assert_named
from tests.cli.test_plan import NOWHERE


def plan(**flags: Any) -> Plan:
    settings = resolve_settings(flags, environ={}, project_file=NOWHERE, user_file=NOWHERE)
    return resolve(build_file(), settings, catalogue=catalogue())


def listed(wanted: Plan, observed: Observed, **options: Any) -> tuple[Operation, ...]:
    steps = operations(wanted, observed, Options(**options))
    assert all(step.cause and step.target for step in steps)
    return steps


def verbs(wanted: Plan, observed: Observed, **options: Any) -> list[str]:
    return [step.verb for step in listed(wanted, observed, **options)]


def cause_of(verb: str, steps: tuple[Operation, ...]) -> str:
    (cause,) = (step.cause for step in steps if step.verb == verb)
    return cause


FULL = plan(launcher="compose")
CORE = plan(launcher="compose", services="core")
PROCESS = plan(launcher="process")
STACK = frozenset(FULL.stack_images.values())
BUILT: dict[str, Any] = {"image": True, "base": True, "project": "same"}
FACENET = plan(launcher="process", calculator="facenet.Calculator")
FACENET_MODEL = "20180402-114759"


def test_on_an_empty_machine_everything_is_made() -> None:
    assert verbs(FULL, Observed()) == [
        "write project",
        *["pull image"] * 5,
        "build image",
        "create volume",
        "start",
        "check",
    ]
    assert listed(FULL, Observed())[1].target == FULL.base_image
    assert verbs(PROCESS, Observed()) == ["make environment", "start", "check"]


def test_what_is_there_is_not_made_again() -> None:
    here = Observed(**BUILT, environments={"cpu"}, stack_images=STACK, volume=True)
    assert verbs(FULL, here) == ["start", "check"]
    assert verbs(PROCESS, here) == ["start", "check"]


def test_an_instance_that_lost_its_engine_is_started_for_that_reason() -> None:
    seen = Observed(**BUILT, lost="core is missing: no container")
    assert listed(CORE, seen)[0] == Operation(
        "start", CORE.instance, "core is missing: no container"
    )


def test_a_model_that_is_not_here_is_prepared_in_the_environment_that_can() -> None:
    first = listed(FACENET, Observed())
    assert [(step.verb, step.target) for step in first[:2]] == [
        ("make environment", "cpu"),
        ("prepare model", FACENET_MODEL),
    ]
    assert "prepare model" not in verbs(FACENET, Observed(models={FACENET_MODEL}))
    composed = plan(launcher="compose", services="core", calculator="facenet.Calculator")
    there = Observed(image=True, base=True, project="differs")
    assert verbs(composed, there)[:3] == ["make environment", "prepare model", "write project"]
    assert verbs(composed, Observed(environments={"cpu"}))[0] == "prepare model"


def test_an_engine_that_cannot_prepare_models_has_another_environment_for_it() -> None:
    wanted = plan(launcher="process", calculator="facenet.Calculator", runtime="tensorflow")
    rows = [step.target for step in listed(wanted, Observed()) if step.verb == "make environment"]
    assert rows == ["tensorflow", "cpu"]


def test_models_that_are_all_here_may_still_have_to_be_tried() -> None:
    seen = Observed(**BUILT, models={FACENET_MODEL}, computes=True)
    composed = plan(launcher="compose", services="core", calculator="facenet.Calculator")
    assert verbs(composed, seen) == ["make environment", "start", "check"]
    named = plan(launcher="compose", services="core", image="corp/core:1")
    absent = Observed(project="same", computes=True)
    assert verbs(named, absent)[:2] == ["pull image", "make environment"]
    assert "tried" in cause_of("make environment", listed(composed, seen))


def test_no_build_builds_nothing() -> None:
    assert verbs(CORE, Observed(image=True), build=False) == ["write project", "start", "check"]


def test_the_core_alone_needs_no_volume_and_no_other_image() -> None:
    seen = Observed(base=True)
    assert verbs(CORE, seen) == ["write project", "build image", "start", "check"]


def test_a_project_that_differs_is_written_for_that_reason() -> None:
    seen = Observed(image=True, base=True, project="differs")
    assert_named(cause_of("write project", listed(CORE, seen)), "changed")


def test_another_engine_that_runs_stays_until_the_new_one_answers() -> None:
    seen = Observed(**BUILT, runs=True, obstacle="it has a port of its own", instance_of="facenet")
    steps = listed(CORE, seen)
    assert [step.verb for step in steps] == ["try", "replace", "check"]
    assert "facenet" in cause_of("try", steps)
    assert "it has a port of its own" in cause_of("replace", steps)


def test_if_two_engines_cannot_run_side_by_side_all_services_are_away() -> None:
    seen = Observed(runs=True, obstacle="it has a port of its own", start_s={"core": 0.4})
    assert away(seen) == (Away("core", 0.4, "it has a port of its own"),)
    assert_named(away_words(away(seen)), "core for about 1 s")
    assert away(Observed()) == ()


def test_a_changed_engine_takes_over_beside_the_running_one_and_nothing_is_away() -> None:
    seen = Observed(runs=True, obstacle="", changes={"core": "its settings have changed"})
    assert verbs(FULL, seen)[-5:] == ["start beside", "try", "take over", "reconcile", "check"]
    assert "its settings have changed" in cause_of("start beside", listed(FULL, seen))
    assert away(seen) == ()
    assert away_words(())


def test_only_changed_services_are_recreated_and_their_downtime_is_stated() -> None:
    changes = {"api": "its settings have changed", "fe": "its image has changed"}
    seen = Observed(
        runs=True,
        obstacle="",
        services=("core", "admin", "api", "fe", "postgres"),
        changes=changes,
        start_s={"api": 12.3},
    )
    assert verbs(FULL, seen)[-3:] == ["make anew", "make anew", "check"]
    assert away(seen) == (
        Away("api", 12.3, "its settings have changed"),
        Away("fe", None, "its image has changed"),
    )
    assert_named(away_words(away(seen)), "api for about 12 s", "fe ")


def test_an_image_is_built_for_what_it_was_not_made_from() -> None:
    def cause(observed: Observed, **options: Any) -> str:
        return cause_of("build image", listed(CORE, observed, **options))

    moved = Observed(**BUILT, base_moved=True)
    assert_named(cause(moved), CORE.base_image)
    assert cause(Observed()) not in ("", cause(moved))
    assert verbs(CORE, moved, build=False) == ["start", "check"]
    assert_named(cause(Observed(**BUILT), build=True), "--build")
    assert CORE.base_image in cause(Observed(**BUILT), pull=True)


def test_pull_applies_to_every_image_that_is_used() -> None:
    here = Observed(**BUILT, stack_images=STACK)

    def pulled(wanted: Plan, **options: Any) -> list[str]:
        steps = listed(wanted, here, pull=True, **options)
        return [step.target for step in steps if step.verb == "pull image"]

    assert pulled(FULL) == [FULL.base_image, *FULL.stack_images.values()]
    assert pulled(FULL, build=False) == list(FULL.stack_images.values())
    given = plan(launcher="compose", services="core", image="corp/core:1")
    assert pulled(given) == ["corp/core:1"]
    assert pulled(given, build=False) == ["corp/core:1"]
    assert pulled(given, build=True) == [given.base_image]


def test_an_image_named_in_the_settings_is_pulled_and_not_built() -> None:
    given = plan(launcher="compose", services="core", image="corp/core:1")
    assert verbs(given, Observed(project="same")) == ["pull image", "start", "check"]
    assert verbs(given, Observed(**BUILT)) == ["start", "check"]
    built = verbs(given, Observed(project="same", base=True), build=True)
    assert built == ["build image", "start", "check"]


SWARM = plan(launcher="swarm", bind="0.0.0.0")


def test_a_stack_is_started_as_a_project_is() -> None:
    assert verbs(SWARM, Observed()) == verbs(FULL, Observed())


def test_a_running_stack_is_rolled_out_service_by_service() -> None:
    seen = Observed(
        **BUILT,
        stack_images=STACK,
        volume=True,
        runs=True,
        obstacle="",
        changes={"core": "its image has changed", "api": "its settings have changed"},
    )
    steps = listed(SWARM, seen)
    assert [(step.verb, step.target) for step in steps] == [
        ("roll out", "core"),
        ("roll out", "api"),
        ("check", "a known face"),
    ]
    assert [service.service for service in away(seen)] == ["api"]
    whole = Observed(**BUILT, stack_images=STACK, volume=True, runs=True, obstacle="")
    assert verbs(SWARM, whole) == ["roll out", "check"]


def test_what_another_launcher_runs_gives_way_to_a_stack() -> None:
    seen = Observed(**BUILT, stack_images=STACK, volume=True, runs=True, obstacle="another one")
    assert verbs(SWARM, seen) == ["replace", "check"]


def test_the_engines_image_is_pushed_for_the_nodes_unless_it_is_there() -> None:
    wanted = plan(launcher="swarm", push_to="registry.example.org/faces")
    here = Observed(**BUILT, stack_images=STACK, volume=True)
    assert verbs(wanted, here) == ["push image", "start", "check"]
    there = Observed(**BUILT, stack_images=STACK, volume=True, pushed=True)
    assert verbs(wanted, there) == ["start", "check"]
    assert "push image" in verbs(wanted, there, build=True)
