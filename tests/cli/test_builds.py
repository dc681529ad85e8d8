"""Builds by name and path, the bundled ones, and builds of the user's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from compreface_cli import plugin_table, resources
from compreface_cli.builds import builds, spec
from compreface_cli.config.settings import Settings
from compreface_cli.errors import ConfigurationError, ConflictError
from compreface_cli.models import catalogue, sources
from compreface_cli.models import licence as terms_of
from compreface_cli.models.catalogue import about
from compreface_cli.plan.plan import resolve
from tests.cli.build_files import build_data, build_file, model_entry, plain_data, text, write
from tests.cli.names import assert_named

UPSTREAMS = {"facenet", "mobilenet", "mobilenet-gpu", "arcface-r100", "arcface-r100-gpu"}
BUNDLED = {
    *UPSTREAMS,
    *("embedded", "yunet-embedded", "mnet25-mobilefacenet"),
    *("auraface", "sface", "buffalo-s", "buffalo-l"),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, and a user without builds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


def user_folder(place: Path) -> Path:
    return place / "data" / "compreface-cli" / "builds"


@pytest.mark.parametrize("name", sorted(BUNDLED))
def test_every_bundled_build_is_valid_and_states_its_licence(place: Path, name: str) -> None:
    build = builds.load(name)
    assert build.origin == "bundled"
    assert build.spec.facts.licence is None  # so that the one rule of the catalogue says it
    assert all(one.source for one in build.spec.facts.accuracy)
    assert (build.spec.device == "cuda") == name.endswith("-gpu")


def test_the_bundled_builds_are_the_default_upstreams_and_those_of_public_models(
    place: Path,
) -> None:
    assert set(builds.names()) == BUNDLED
    assert builds.listed()[0].name == "embedded"
    facenet = builds.load("facenet").spec
    assert (facenet.detector, facenet.calculator) == ("facenet.FaceDetector", "facenet.Calculator")
    large = builds.load("arcface-r100").spec
    assert large.calculator == "insightface.Calculator@arcface-r100-msfdrop75"
    assert large.detector == "insightface.FaceDetector@retinaface_r50_v1"


@pytest.mark.parametrize("name", sorted(BUNDLED))
def test_every_bundled_build_has_a_plan_with_all_its_models(place: Path, name: str) -> None:
    plan = resolve(builds.load(name), Settings())
    wanted = plugin_table.models_of((plan.detector, plan.calculator, *plan.plugins))
    assert tuple(model.name for model in plan.models) == wanted


@pytest.mark.parametrize("name", sorted(UPSTREAMS))
def test_a_build_of_upstream_has_the_plugins_of_its_image(place: Path, name: str) -> None:
    spec = builds.load(name).spec
    family, attributes = ("facenet", "agegender") if name == "facenet" else ("insightface",) * 2
    assert set(spec.plugins) == {
        *(f"{family}.{each}" for each in ("LandmarksDetector", "PoseEstimator")),
        *(f"{attributes}.{each}" for each in ("AgeDetector", "GenderDetector")),
        f"{family}.facemask.MaskDetector",
    }
    assert f"1.2.0-{name}" in (spec.facts.upstream or "")
    assert spec.fallbacks[f"{family}.facemask.MaskDetector"] is None


@pytest.mark.parametrize("name", sorted(BUNDLED))
def test_every_model_of_a_bundled_build_has_a_source(place: Path, name: str) -> None:
    for model in resolve(builds.load(name), Settings()).models:
        assert catalogue.has_address(model.name), model.name


def test_a_path_wins_then_this_folder_then_the_users_then_the_bundled(place: Path) -> None:
    assert builds.find("embedded")[0] == "bundled"
    write(user_folder(place), plain_data(name="embedded"))
    assert builds.find("embedded")[0] == "user"
    own = write(place / "builds", plain_data(name="embedded"))
    assert builds.find("embedded") == ("project", own)
    assert builds.find("./builds/embedded.yaml")[0] == "path"
    assert builds.find(own)[0] == "path"
    assert len(builds.names()) == len(BUNDLED)


def test_the_bundled_folder_is_not_a_project_of_its_own(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(resources.builds_dir().parent)
    assert {one.origin for one in builds.listed()} == {"bundled"}


def test_an_unknown_build_is_refused_with_the_nearest_name(place: Path) -> None:
    with pytest.raises(ConfigurationError, match="'facenet'") as caught:
        builds.load("facenett")
    assert caught.value.code == 3
    with pytest.raises(ConfigurationError, match=r"'zzz'$"):
        builds.load("zzz")
    with pytest.raises(ConfigurationError, match=r"\./no\.yaml"):
        builds.load("./no.yaml")


def test_a_folder_or_pipe_is_not_read_as_a_build_file(place: Path) -> None:
    os.mkfifo(place / "pipe.yaml")
    said = set()
    for what in (place, place / "pipe.yaml", place / "none.yaml"):
        with pytest.raises(ConfigurationError, match=str(what)) as caught:
            builds.find(str(what))
        said.add(caught.value.message.replace(str(what), ""))
    assert len(said) == 3


def test_a_file_whose_name_is_not_the_builds_is_refused_by_name_and_taken_by_path(
    place: Path,
) -> None:
    write(place / "builds", plain_data(name="plain")).rename(place / "builds" / "other.yaml")
    with pytest.raises(ConfigurationError) as caught:
        builds.load("other")
    assert_named(caught.value.message, "'plain'", "'other.yaml'")
    assert builds.load("builds/other.yaml").name == "plain"


def test_a_list_continues_past_files_that_are_not_builds(place: Path) -> None:
    (place / "builds").mkdir()
    (place / "builds" / "broken.yaml").write_text("a: [")
    (place / "builds" / "list.yaml").write_text("- a")
    (place / "builds" / "folder.yaml").mkdir()
    faults = {one.name: one.fault for one in builds.listed() if one.fault}
    assert_named(faults["broken"], "broken.yaml:2", "YAML")
    assert set(faults) == {"broken", "list"}


def test_the_catalogue_has_the_models_that_the_notation_names() -> None:
    models = catalogue.models()
    for base, row in plugin_table.PLUGINS.items():
        for name in () if row.built_in else (*(row.models or ()), *row.fits):
            assert models[name].role == plugin_table.model_role(f"{base}@{name}")
    first = models["20180402-114759"]
    assert first.files[0].sha256 == (
        "e238edda5b39aa79112f0c88b0e67e4d8115b84497961360c395d84f70f7ad6d",
    )
    assert first.mean is None
    assert first.align == "facenet-margin"


def test_every_model_of_the_catalogue_fits_a_plugin() -> None:
    rows = plugin_table.PLUGINS.values()
    fits = {name for row in rows for name in (*(row.models or ()), *row.fits)}
    others = {name: one.role for name, one in catalogue.models().items() if name not in fits}
    assert set(others.values()) == {"calculator"}  # custom.Calculator takes any


def test_every_entry_of_the_catalogue_is_one_that_a_build_may_have(place: Path) -> None:
    for name in catalogue.names():
        checked = spec.model_from_data(_entry_of_the_catalogue(name), name)
        assert catalogue.model(name) == builds.model_of(checked)


def test_the_catalogue_knows_no_other_model() -> None:
    assert tuple(catalogue.models()) == catalogue.names()
    assert catalogue.model("nothing") is None
    assert not catalogue.has_address("nothing")


def test_a_model_has_an_address_if_each_of_its_files_has_one() -> None:
    given = {name for name in catalogue.names() if catalogue.has_address(name)}
    assert "arcface_resnet34" not in given
    assert {"20180402-114759", "scrfd_500m", "w600k_mbf", "yunet_n"} <= given


def test_every_bundled_build_says_in_16_characters_what_it_is_good_for() -> None:
    for path in resources.builds_dir().glob("*.yaml"):
        said = builds.load(path).spec.facts.good_for
        assert said, path
        assert len(said) <= 16, path


def test_every_source_is_proven_and_every_model_says_what_it_may_be_used_for() -> None:
    for model in catalogue.models().values():
        for file in (each for choice in model.choices for each in choice.files):
            proven = [sources.parse(line).proven for line in file.sources]
            assert file.sha256 or all(proven), file.path
    for name, one in about().items():
        assert all((one.what, one.origin, one.licence, terms_of.terms(one).reason)), name


def test_the_red_first_models_are_the_same_files_under_another_name() -> None:
    models = catalogue.models()
    for theirs, ours in (
        ("arcface_mobilefacenet", "arcface_mobilefacenet_rgb"),
        ("mnet25_retrained_bgr", "mnet25_retrained"),
        ("genderage_v1", "genderage_v1_rgb"),
    ):
        assert models[theirs].files == models[ours].files
        assert (models[theirs].colour, models[ours].colour) == ("bgr", "rgb")


def test_no_file_bears_the_name_of_an_upstream_model_but_upstreams_own() -> None:
    theirs = {name for row in plugin_table.PLUGINS.values() for name in row.models or ()}
    retrained = catalogue.models()["mnet25_retrained"].files
    for name in theirs & set(catalogue.names()):
        assert catalogue.models()[name].files != retrained, name
    mobilenet = builds.load("mobilenet").spec
    assert mobilenet.detector == "insightface.FaceDetector@retinaface_mnet025_v1"


def test_a_former_name_of_a_build_is_answered_with_that_of_today(place: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        builds.load("scrfd-w600k")
    assert_named(caught.value.message, "buffalo-s")
    assert_named(caught.value.hint, "cf up buffalo-s --instance scrfd-w600k")
    write(user_folder(place), build_data(name="scrfd-w600k"))
    assert builds.load("scrfd-w600k").origin == "user"
    assert not set(builds.RENAMED) & BUNDLED
    assert set(builds.RENAMED.values()) <= BUNDLED


def test_what_flags_made_is_kept_and_found_by_its_name(place: Path) -> None:
    made = builds.customise(
        builds.load("embedded"), "custom-build", {"device": "cuda", "runtime": None}
    )
    path = builds.save_custom(made)
    assert path == user_folder(place) / "custom-build.yaml"
    again = builds.load("custom-build")
    assert again.spec == made
    assert again.origin == "user"
    assert again.spec.device == "cuda"
    assert_named(again.spec.summary, "embedded")
    assert builds.save_custom(made) == path


def test_what_flags_made_goes_into_this_folders_builds_if_there_is_one(place: Path) -> None:
    (place / "builds").mkdir()
    assert builds.save_custom(build_file().spec) == place / "builds" / "plain.yaml"


def test_a_file_that_cf_wrote_is_replaced(place: Path) -> None:
    builds.save_custom(build_file().spec, place)
    path = builds.save_custom(build_file(device="cuda").spec, place)
    assert "device: cuda" in path.read_text()


def test_an_edited_file_is_kept_and_the_error_has_the_diff(place: Path) -> None:
    path = builds.save_custom(build_file().spec, place)
    edited = path.read_text() + "summary: mine\n"
    path.write_text(edited)
    with pytest.raises(ConflictError, match="\\+device: cuda") as caught:
        builds.save_custom(build_file(device="cuda").spec, place)
    assert caught.value.code == 4
    assert "-summary: mine" in caught.value.message
    assert path.read_text() == edited


def test_a_changed_build_keeps_its_models_and_its_summary_under_its_own_name(place: Path) -> None:
    own = builds.load(write(place, build_data(summary="Mine", models=[model_entry()])))
    made = builds.customise(own, "my-build", {"device": "cuda"})
    assert made.summary == "Mine"
    assert made.models == own.spec.models


def test_a_change_that_makes_no_sense_is_refused(place: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"facenet\.FaceDetectr"):
        builds.customise(builds.load("embedded"), "x", {"detector": "facenet.FaceDetectr"})


def test_an_existing_file_that_is_not_text_is_kept(place: Path) -> None:
    (place / "plain.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConflictError, match=str(place / "plain.yaml")):
        builds.save_custom(build_file().spec, place)
    assert (place / "plain.yaml").read_bytes() == b"\xff\xfe"
    (place / "own" / "plain.yaml").mkdir(parents=True)
    with pytest.raises(ConflictError, match=str(place / "own" / "plain.yaml")):
        builds.save_custom(build_file().spec, place / "own")


def test_a_model_of_a_build_takes_one_number_or_three(place: Path) -> None:
    entry = model_entry(input={"size": 112, "mean": [1, 2, 3], "scale": 128})
    own = builds.load(write(place, build_data(models=[entry])))
    model = builds.model_of(own.spec.models[0], "/beside")
    assert (model.mean, model.scale, model.build_folder) == ((1.0, 2.0, 3.0), (128.0,), "/beside")
    assert text(build_data())


def test_another_calculator_takes_its_figures_and_its_licence_with_it(place: Path) -> None:
    made = builds.customise(builds.load("embedded"), "mine", {"calculator": "facenet.Calculator"})
    licence = made.facts.licence
    assert licence is not None
    assert licence.commercial == "unclear"
    assert "VGGFace2" in str(licence.reason)
    assert "MS-Celeb" not in str(licence.reason)
    assert {one.of for one in made.facts.accuracy} == {"detection"}


def test_another_detector_takes_all_figures_with_it(place: Path) -> None:
    base = builds.load("facenet")
    made = builds.customise(base, "mine", {"detector": "yunet.FaceDetector@yunet_n"})
    assert made.facts.accuracy == []
    assert made.facts.upstream is None
    licence = made.facts.licence
    assert licence is not None
    assert licence.weights.startswith("yunet_n: Apache-2.0; 20180402-114759: MIT")


@pytest.mark.parametrize(
    ("base", "changes", "commercial", "because"),
    [
        ("embedded", {"detector": "scrfd.FaceDetector@scrfd_500m"}, "excluded", "InsightFace"),
        ("embedded", {"plugins": ["genderage.AgeDetector@genderage"]}, "excluded", "InsightFace"),
        (
            "buffalo-s",
            {
                "detector": "yunet.FaceDetector@yunet_n",
                "calculator": "embedded.Calculator@mobilefacenet192",
                "plugins": [],
            },
            "unclear",
            "MS-Celeb",
        ),
    ],
    ids=["detector", "plugin", "all"],
)
def test_the_strictest_terms_of_what_was_chosen_are_the_builds(
    place: Path, base: str, changes: dict[str, Any], commercial: str, because: str
) -> None:
    licence = builds.customise(builds.load(base), "mine", changes).facts.licence
    assert licence is not None
    assert licence.commercial == commercial
    assert because in str(licence.reason)


@pytest.mark.parametrize("said", [None, "excluded"])
def test_terms_of_a_user_supplied_model_are_those_of_its_build(
    place: Path, said: str | None
) -> None:
    terms = {"weights": "mine", "commercial": said, "reason": "a friend asked"}
    facts = {"facts": {"licence": terms}} if said else {}
    own = builds.load(write(place, build_data(plugins=[], **facts)))
    made = builds.customise(own, "other", {"detector": "yunet.FaceDetector@yunet_n"})
    yunet = "yunet_n: trained on WIDER FACE (CC BY-NC-ND 4.0); "
    licence = made.facts.licence
    assert licence is not None
    assert licence.commercial == (said or "unclear")
    assert licence.reason == (
        "my-model: a friend asked" if said else f"{yunet}my-model: its terms are not known"
    )


def test_another_device_or_plugin_and_the_same_model_by_its_other_name_keep_the_facts(
    place: Path,
) -> None:
    base = builds.load("facenet")
    changes = {
        "device": "cuda",
        "plugins": ["facenet.PoseEstimator"],
        "calculator": "facenet.Calculator@20180402-114759",
    }
    assert builds.customise(base, "mine", changes).facts == base.spec.facts


def test_a_note_is_of_the_detector_and_calculator_it_was_made_for(place: Path) -> None:
    base = builds.load("mnet25-mobilefacenet")
    assert "46 of 46" in str(base.spec.facts.note)
    assert builds.customise(base, "mine", {"device": "cuda"}).facts.note == base.spec.facts.note
    changes = {"detector": "retinaface.FaceDetector@mnet25_retrained_bgr"}
    assert builds.customise(base, "mine", changes).facts.note is None


def _entry_of_the_catalogue(name: str, **changes: Any) -> dict[str, Any]:
    known = catalogue.entry(name) or {}
    return {**{key: value for key, value in known.items() if key != "about"}, **changes}


W600K_FILE = _entry_of_the_catalogue("w600k_mbf")["files"][0]


def _of(place: Path, name: str, **changes: Any) -> Path:
    entry = _entry_of_the_catalogue(name, **changes)
    return write(place, build_data(calculator=f"custom.Calculator@{name}", models=[entry]))


@pytest.mark.parametrize(
    "changes",
    [
        {"input": {"size": 112, "colour": "bgr", "mean": 127.5, "scale": 127.5}},
        {"files": [{"path": "my.onnx", "sha256": "ab" * 32}]},
        {"files": [{**W600K_FILE, "sha256": "ab" * 32}]},
        {"files": [{**W600K_FILE, "sha256": None}]},
        {"align": "facenet-margin"},
        {"similarity": [1.0, 1.0]},
    ],
    ids=["input", "path", "hash", "no hash", "align", "similarity"],
)
def test_a_name_of_the_catalogue_with_another_description_is_refused(
    place: Path, changes: dict[str, Any]
) -> None:
    path = _of(place, "w600k_mbf", **changes)
    line = 1 + path.read_text().splitlines().index("- name: w600k_mbf")
    with pytest.raises(ConfigurationError) as caught:
        builds.load(path)
    assert caught.value.code == 3
    assert_named(caught.value.message, f"{path}:{line}: models.0.name", "'w600k_mbf'")
    [fault] = caught.value.details["faults"]
    assert (fault["file"], fault["line"]) == (str(path), line)


def test_an_entry_of_the_catalogue_may_stand_in_a_build_with_sources_of_its_own(
    place: Path,
) -> None:
    sources = [{**W600K_FILE, "sources": ["https://example.org/w600k.onnx"]}]
    model = builds.load(_of(place, "w600k_mbf", files=sources)).spec.models[0]
    assert model.files[0].sources == ["https://example.org/w600k.onnx"]


def test_every_entry_of_the_catalogue_may_stand_in_a_build(place: Path) -> None:
    for name in catalogue.names():
        models = [_entry_of_the_catalogue(name)]
        assert builds.load(write(place, plain_data(models=models))).spec.models[0].name == name
