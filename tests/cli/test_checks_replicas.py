"""Several engines: where they are refused, where they gain nothing, and what they take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from compreface_cli import checks
from compreface_cli.checks import gpu as gpu_check
from compreface_cli.checks import memory, replicas
from compreface_cli.config.settings_table import BY_KEY, BadValue
from compreface_cli.errors import ConfigurationError
from compreface_cli.launchers import swap
from compreface_cli.plan.operations import Observed, Options, operations
from compreface_cli.project.targets import compose
from tests.cli.fake_facts import docker, facts, gpu, host, plan
from tests.cli.in_process import Cf, in_folder
from tests.cli.names import assert_named
from tests.cli.test_render import plan as resolved


@pytest.fixture
def cf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cf:
    return in_folder(tmp_path, monkeypatch, capsys)


def of_replicas(**values: Any) -> list[checks.Finding]:
    findings = checks.preflight(plan(**values), facts(docker=docker(cores=4)))
    return [finding for finding in findings if finding.check == replicas.NAME]


def test_no_more_engines_than_cores_give_no_finding() -> None:
    assert of_replicas() == []
    assert of_replicas(replicas=4) == []


def test_more_engines_than_cores_are_a_warning_on_a_cpu() -> None:
    (finding,) = of_replicas(replicas=5)
    assert (finding.level, finding.topic) == ("warn", replicas.FEW_CORES)
    assert_named(finding.message, "5", "4")
    assert of_replicas(replicas=5, device="cuda", gpu_index=0) == []


def test_the_cores_of_this_machine_count_where_docker_names_none() -> None:
    findings = replicas.check(
        plan(replicas=5), facts(docker=docker(cores=None)), checks.OwnedResources()
    )
    assert [finding.topic for finding in findings] in ([], [replicas.FEW_CORES])


@pytest.mark.parametrize("values", [{"services": "core"}, {"launcher": "process"}])
def test_engines_that_share_no_port_are_refused(values: dict[str, Any]) -> None:
    origins = {"replicas": "flag --replicas"}
    (finding,) = of_replicas(replicas=2, origins=origins, **values)
    assert (finding.level, finding.code, finding.topic) == ("fail", 3, replicas.NOT_HERE)
    assert_named(finding.message, "replicas: 2", "--replicas")
    assert_named(finding.hint, "--services full", "--replicas 1")


def test_each_further_engine_needs_its_memory() -> None:
    total = memory.STACK + memory.ENGINE

    def judged(count: int) -> str:
        seen = facts(docker=docker(), host=host(memory_total=total, memory_available=total))
        (finding,) = memory.check(plan(replicas=count), seen, checks.OwnedResources())
        return finding.level

    assert judged(2) == "ok"
    assert judged(3) == "fail"


def test_the_project_has_the_number_of_engines_and_the_cpus_of_each() -> None:
    def core(**values: Any) -> dict[str, Any]:
        files = compose.render(resolved(**values), with_models=False).files
        document = yaml.safe_load(str(files["compose.yaml"]))
        return dict(document["services"]["compreface-core"])

    assert not {"scale", "cpus"} & set(core())
    several = core(replicas=3, cpus="1.33")
    assert (several["scale"], several["cpus"]) == (3, 1.33)
    assert "cpus" not in core(replicas=3, cpus="none")


def test_a_project_with_engines_alone_is_refused() -> None:
    with pytest.raises(ConfigurationError) as refused:
        compose.render(resolved(replicas=2, services="core"), with_models=False)
    assert_named(str(refused.value), "replicas: 2")


@pytest.mark.parametrize(("given", "value"), [("2", "2"), (1.5, "1.5"), ("Auto", "auto")])
def test_cpus(given: object, value: str) -> None:
    assert BY_KEY["cpus"].parse(given) == value


@pytest.mark.parametrize("given", ["0", "0.05", "-1", "two", True, "1e3", ""])
def test_wrong_cpus(given: object) -> None:
    with pytest.raises(BadValue):
        BY_KEY["cpus"].parse(given)


def verbs(wanted: int, engines: int, **changes: str) -> list[str]:
    """The operations on engines, in order."""
    seen = Observed(
        image=True,
        base=True,
        runs=True,
        obstacle="",
        engines=engines,
        changes=changes,
        project="same",
        volume=True,
    )
    listed = operations(plan(replicas=wanted, launcher="compose"), seen, Options())
    of_engines = ("start beside", "take over", "replace engine", "add engine", "end engine")
    return [f"{each.verb}: {each.target}" for each in listed if each.verb in of_engines]


def test_engines_are_added_and_ended_to_the_wanted_number() -> None:
    assert verbs(1, 1) == []
    assert verbs(3, 1) == ["add engine: engine 2", "add engine: engine 3"]
    assert verbs(1, 3) == ["end engine: engine 3", "end engine: engine 2"]


def test_changed_engines_are_replaced_one_after_the_other() -> None:
    first = ["start beside: the new engine", "take over: the new engine"]
    core = "its image has changed"
    assert verbs(1, 1, core=core) == first
    assert verbs(2, 2, core=core) == [*first, "replace engine: engine 2"]
    assert verbs(3, 2, core=core) == [*first, "replace engine: engine 2", "add engine: engine 3"]
    assert verbs(2, 3, core=core) == [*first, "replace engine: engine 2", "end engine: engine 3"]
    assert verbs(1, 3, core=core) == first, "the one that takes over ends all others"


def test_each_gpu_has_a_service_of_engines_under_one_name() -> None:
    two = resolved(device="cuda", gpu_index="0,3", replicas=4)
    document = yaml.safe_load(str(compose.render(two, with_models=False).files["compose.yaml"]))
    engines = {
        name: service
        for name, service in document["services"].items()
        if name.startswith("compreface-core")
    }
    assert list(engines) == ["compreface-core", "compreface-core-2"]
    first, second = engines.values()
    assert (first["scale"], second["scale"]) == (2, 2)
    assert second["networks"] == {"default": {"aliases": ["compreface-core"]}}
    ids = [
        each["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"]
        for each in engines.values()
    ]
    assert ids == [["0"], ["3"]]
    same = {key: value for key, value in second.items() if key not in ("networks", "deploy")}
    assert same == {key: value for key, value in first.items() if key != "deploy"}
    assert swap.obstacle(document, "compreface-core")
    assert two.as_dict()["gpu_index"] == "0,3"


def test_several_gpus_give_an_engine_each(cf: Cf) -> None:
    def shown(*words: str) -> dict[str, Any]:
        document = cf("show", "embedded", *words, "--resolved", "--json").document
        return dict(document.get("plan", document))

    two = shown("--gpu-index", "0,1")
    assert (two["replicas"], two["gpu_index"], two["device"]) == (2, "0,1", "cuda")
    assert shown("--gpu-index", "1")["gpu_index"] == 1
    refused = cf("show", "embedded", "--gpu-index", "0,1", "--replicas", "3", "--resolved")
    assert refused.code == 3
    assert_named(refused.err, "replicas: 3", "2 GPUs", "--gpu-index")


@pytest.mark.parametrize("given", ["", "64", "-1", "0,0", "0,x", "0,,1", True])
def test_wrong_gpus(given: object) -> None:
    with pytest.raises(BadValue):
        BY_KEY["gpu_index"].parse(given)


def test_each_of_several_gpus_is_looked_for() -> None:
    wanted = plan(device="cuda", gpu_index=0, further_gpus=(7,), launcher="compose")
    seen = facts(docker=docker(), gpu=gpu())
    assert gpu_check.NO_CARD in [
        finding.topic for finding in gpu_check.check(wanted, seen, checks.OwnedResources())
    ]


def test_a_build_file_names_one_gpu(cf: Cf) -> None:
    refused = cf("build", "embedded", "--gpu-index", "0,2", "--name", "two")
    assert refused.code == 2
    assert_named(refused.err, "cf up BUILD --gpu-index 0,2")
    assert cf("show", "two").code == 3, "no build file is left"
