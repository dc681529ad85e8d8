"""What `up` will do: each step with its cause, and none when nothing is to be done."""

from __future__ import annotations

from typing import Any

from compreface_cli.config.settings import resolve as resolve_settings
from compreface_cli.plan.operations import Away, Observed, away, away_words, operations
from compreface_cli.plan.plan import Plan, resolve
from tests.cli.build_files import build_file, catalogue
from tests.cli.test_plan import NOWHERE


def plan(**flags: Any) -> Plan:
    settings = resolve_settings(flags, environ={}, project_file=NOWHERE, user_file=NOWHERE)
    return resolve(build_file(), settings, catalogue=catalogue())


def verbs(wanted: Plan, observed: Observed, **how: bool) -> list[str]:
    found = operations(wanted, observed, **how)
    assert all(one.cause and one.target for one in found)
    return [one.verb for one in found]


FULL = plan(launcher="compose")
CORE = plan(launcher="compose", services="core")
PROCESS = plan(launcher="process")


def test_on_an_empty_machine_everything_is_made() -> None:
    assert verbs(FULL, Observed()) == [
        "write project",
        "build image",
        *["pull image"] * 4,
        "create volume",
        "start",
        "check",
    ]
    assert verbs(PROCESS, Observed()) == ["make environment", "start", "check"]


def test_what_is_there_is_not_made_again() -> None:
    here = Observed(
        engine_env=True,
        image=True,
        stack_images=set(FULL.stack_images.values()),
        project="same",
        volume=True,
    )
    assert verbs(FULL, here) == ["start", "check"]
    assert verbs(PROCESS, here) == ["start", "check"]


def test_what_runs_as_wanted_is_left_alone_unless_a_build_is_asked_for() -> None:
    runs = Observed(running="same", image=True)
    assert verbs(FULL, runs) == []
    assert "build image" in verbs(FULL, runs, rebuild=True)


def test_another_build_that_runs_stays_until_the_new_one_answers() -> None:
    found = operations(FULL, Observed(running="other", instance_of="facenet", project="differs"))
    assert [one.verb for one in found][-3:] == ["try", "replace", "check"]
    assert "facenet" in found[-3].cause
    assert found[0].cause == "the plan has changed"


def test_an_instance_that_lost_its_engine_is_started_for_that_reason() -> None:
    seen = Observed(image=True, project="same", lost="core is missing: no container")
    found = operations(CORE, seen)
    assert [(one.verb, one.cause) for one in found][:1] == [
        ("start", "core is missing: no container")
    ]


def test_a_model_that_is_not_here_is_prepared_first() -> None:
    wanted = plan(launcher="process", calculator="facenet.Calculator")
    assert operations(wanted, Observed())[0].target == "20180402-114759"
    assert "prepare model" not in verbs(wanted, Observed(models={"20180402-114759"}))


def test_no_build_builds_nothing() -> None:
    assert "build image" not in verbs(FULL, Observed(), build=False)


def test_the_core_alone_needs_no_volume_and_no_other_image() -> None:
    alone = plan(launcher="compose", services="core")
    assert verbs(alone, Observed()) == ["write project", "build image", "start", "check"]


def test_a_changed_engine_takes_over_beside_the_running_one_and_nothing_is_away() -> None:
    seen = Observed(running="other", obstacle="", changes={"core": "its settings have changed"})
    assert verbs(FULL, seen)[-4:] == ["start beside", "try", "take over", "check"]
    assert "its settings have changed" in operations(FULL, seen)[-4].cause
    assert away(seen) == ()
    assert away_words(()) == "no service is away meanwhile"


def test_only_what_has_changed_is_made_anew_and_said_to_be_away_for_how_long() -> None:
    changes = {"api": "its settings have changed", "fe": "its image has changed"}
    seen = Observed(
        running="other",
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
    words = "away meanwhile: api for about 12 s, fe for as long as it takes to start"
    assert away_words(away(seen)) == words


def test_where_two_engines_cannot_stand_side_by_side_all_that_runs_is_away() -> None:
    seen = Observed(running="other", obstacle="it has a port of its own", start_s={"core": 0.4})
    assert verbs(FULL, seen)[-3:] == ["try", "replace", "check"]
    assert "it has a port of its own" in operations(FULL, seen)[-2].cause
    assert away(seen) == (Away("core", 0.4, "it has a port of its own"),)
    assert away_words(away(seen)) == "away meanwhile: core for about 1 s"
    assert away(Observed()) == ()


def test_an_image_upon_a_base_that_has_moved_is_built_anew() -> None:
    here = Observed(image=True, project="same", base_moved=True)
    (built,) = [one for one in operations(CORE, here) if one.verb == "build image"]
    assert built.cause == (
        f"{CORE.base_image} is another image by now than the one it was built upon"
    )
    assert verbs(CORE, here, build=False) == ["start", "check"]


def test_a_pull_asks_for_every_image_that_is_used() -> None:
    here = Observed(image=True, stack_images=set(FULL.stack_images.values()), project="same")

    def pulled(wanted: Plan, **how: bool) -> list[str]:
        found = operations(wanted, here, pull=True, **how)
        return [one.target for one in found if one.verb == "pull image"]

    assert pulled(FULL) == [FULL.base_image, *FULL.stack_images.values()]
    assert pulled(FULL, build=False) == list(FULL.stack_images.values())
    given = plan(launcher="compose", services="core", image="corp/core:1")
    assert pulled(given) == ["corp/core:1"]
    assert pulled(given, build=False) == ["corp/core:1"]
    assert pulled(given, rebuild=True) == [given.base_image]


def test_an_image_that_somebody_named_is_pulled_and_not_built() -> None:
    given = plan(launcher="compose", services="core", image="corp/core:1")
    assert verbs(given, Observed(project="same")) == ["pull image", "start", "check"]
    assert verbs(given, Observed(project="same", image=True)) == ["start", "check"]
    assert verbs(given, Observed(project="same"), rebuild=True) == ["build image", "start", "check"]
