"""What takes the place of a plugin whose model cannot be fetched: in a build file and in a plan."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compreface_cli.builds import builds, spec
from compreface_cli.builds.builds import BuildFile
from compreface_cli.config.settings import Settings
from compreface_cli.config.settings import resolve as resolve_settings
from compreface_cli.config.yamlfile import parse
from compreface_cli.deploy import observe
from compreface_cli.deploy.running import start_command
from compreface_cli.errors import ConfigurationError
from compreface_cli.instance.records import Record
from compreface_cli.plan import fallbacks
from compreface_cli.plan.operations import Observed, Options, operations
from compreface_cli.plan.plan import Plan, resolve
from tests.cli.build_files import build_file, plain_data, text
from tests.cli.test_plan import NOWHERE

AGE, GENDER = "agegender.AgeDetector", "agegender.GenderDetector"
PAIR = "insightface.AgeDetector", "insightface.GenderDetector"
EMBEDDED = {AGE: "embedded.AgeDetector", GENDER: "embedded.GenderDetector"}


def settings(**flags: Any) -> Settings:
    return resolve_settings(flags, environ={}, project_file=NOWHERE, user_file=NOWHERE)


def aged(**changes: Any) -> BuildFile:
    """A build with upstream's age and gender, and the embedded ones in case they are missing."""
    plugins = ["facenet.PoseEstimator", AGE, GENDER]
    return build_file(**{"plugins": plugins, "fallbacks": EMBEDDED, **changes})


def planned(build: BuildFile | None = None, **flags: Any) -> Plan:
    return resolve(build or aged(), settings(**flags))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"embedded.Calculator@mobilefacenet192": None}, ("detector and a calculator",)),
        ({"embedded.FaceDetector@mtcnn": None}, ("detector and a calculator",)),
        ({PAIR[0]: None}, (PAIR[0], AGE)),
        ({"facenet.PoseEstimator": None}, ("needs no model",)),
        ({AGE: "embedded.GenderDetector"}, ("embedded.GenderDetector", AGE)),
        ({AGE: "facenet.PoseEstimator"}, ("facenet.PoseEstimator", "listed")),
        ({AGE: f"{AGE}@22801"}, (f"{AGE}@22801", "the same model")),
        ({AGE: "facenet.Calculator"}, ("facenet.Calculator",)),
        ({AGE: "age"}, ("age",)),
        ({AGE: 3}, (AGE,)),
        ([AGE], ("fallbacks",)),
    ],
)
def test_a_fallback_that_cannot_be_taken_is_refused_with_its_line(
    changes: Any, names: tuple[str, ...]
) -> None:
    data = plain_data(plugins=["facenet.PoseEstimator", AGE], fallbacks=changes)
    valid, faults = spec.check(parse(text(data), "b.yaml"))
    assert valid is None
    (fault,) = faults
    assert fault.line > 5
    assert "fallbacks" in fault.message
    assert all(name in fault.message for name in names)


def test_one_fallback_cannot_serve_two_plugins() -> None:
    plugins = [AGE, "genderage.AgeDetector@genderage"]
    data = plain_data(plugins=plugins, fallbacks=dict.fromkeys(plugins, "embedded.AgeDetector"))
    assert spec.check(parse(text(data), "b.yaml"))[0] is None


def test_the_plan_has_the_fallbacks_of_its_build() -> None:
    plan = planned()
    assert plan.as_dict()["fallbacks"] == EMBEDDED
    assert plan.origins["fallbacks"] == "build plain"
    assert list(fallbacks.optional(plan)) == ["22801", "21936"]
    assert planned(aged(fallbacks={})).fallbacks == ()


def test_a_missing_model_takes_only_its_plugin_away() -> None:
    whole = planned()
    plan = fallbacks.without(whole, {"22801": "no network"})
    assert plan.plugins == ("facenet.PoseEstimator", "embedded.AgeDetector", GENDER)
    assert [model.name for model in plan.models] == ["21936"]
    (replaced,) = plan.replaced
    assert (replaced.plugin, replaced.model, replaced.instead, replaced.reason) == (
        AGE,
        "22801",
        "embedded.AgeDetector",
        "no network",
    )
    assert plan.image != whole.image
    assert [each.plugin for each in plan.fallbacks] == [GENDER]
    assert fallbacks.without(plan, {"21936": "no network"}).models == ()


def test_null_leaves_the_plugin_out() -> None:
    plan = fallbacks.without(planned(aged(fallbacks={AGE: None})), {"22801": ""})
    assert plan.plugins == ("facenet.PoseEstimator", GENDER)
    assert (plan.replaced[0].instead, fallbacks.words(plan.replaced)) == (
        None,
        f"{AGE} is left out",
    )


def test_a_fallback_brings_its_own_model() -> None:
    instead = "genderage.AgeDetector@genderage"
    plan = fallbacks.without(planned(aged(fallbacks={AGE: instead})), {"22801": ""})
    assert [model.name for model in plan.models] == ["21936", "genderage"]
    assert instead in fallbacks.words(plan.replaced)


def test_an_unknown_model_of_a_fallback_is_named_before_it_is_needed() -> None:
    with pytest.raises(ConfigurationError) as caught:
        planned(aged(fallbacks={AGE: "genderage.AgeDetector@nothing"}))
    assert "nothing" in caught.value.message


def test_a_model_that_another_plugin_needs_has_no_fallback() -> None:
    both = aged(plugins=list(PAIR), fallbacks={PAIR[0]: "embedded.AgeDetector"})
    assert fallbacks.optional(planned(both)) == {}
    each = aged(plugins=list(PAIR), fallbacks=dict(zip(PAIR, EMBEDDED.values(), strict=True)))
    assert fallbacks.without(planned(each), {"genderage_v1": ""}).plugins == (*EMBEDDED.values(),)


def test_whoever_names_the_plugins_or_the_image_gets_no_fallback() -> None:
    assert planned(plugins=[AGE]).fallbacks == ()
    assert planned(image="registry.example/engine:1").fallbacks == ()


def test_fallbacks_can_be_refused() -> None:
    plan = planned(fallbacks="false")
    assert plan.fallbacks == ()
    assert plan.origins["fallbacks"] == "flag --no-fallbacks"


def test_a_build_with_other_plugins_keeps_no_fallbacks() -> None:
    base = aged()
    assert builds.customise(base, "mine", {"plugins": [AGE]}).fallbacks == {}
    assert builds.customise(base, "mine", {"runtime": "auto"}).fallbacks == EMBEDDED


def test_what_runs_is_the_same_however_its_plugins_were_chosen() -> None:
    """So that a second run without the model finds the instance unchanged."""
    taken = fallbacks.without(planned(), {"22801": "no network", "21936": "no network"})
    again = fallbacks.without(planned(), {"22801": "status 404", "21936": "status 404"})
    assert observe.digest(taken) == observe.digest(again) != observe.digest(planned())


def test_the_command_that_starts_an_instance_again_refuses_fallbacks_as_well() -> None:
    plan = planned(fallbacks="false")
    record = Record("plain", "plain", plan.calculator, "full", "running", "", plan=plan.as_dict())
    assert start_command(record) == f"cf up {plan.origins['build']} --no-fallbacks"


def test_a_dry_run_says_what_answers_if_the_model_cannot_be_fetched() -> None:
    listed = operations(planned(launcher="process"), Observed(), Options())
    causes = {row.target: row.cause for row in listed if row.verb == "prepare model"}
    assert EMBEDDED[AGE] in causes["22801"]
    assert EMBEDDED[GENDER] in causes["21936"]


def test_an_instances_record_has_what_was_replaced() -> None:
    plan = fallbacks.without(planned(), {"22801": "no network"})
    kept = json.loads(json.dumps(plan.as_dict()))
    assert fallbacks.of_record(kept) == plan.replaced
    assert fallbacks.of_record({}) == ()
