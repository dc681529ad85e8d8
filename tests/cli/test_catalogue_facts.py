"""Terms of models follow from one rule; a border is of the calculator it was measured of."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from compreface_cli import plugin_table
from compreface_cli.models import catalogue, licence
from compreface_cli.models.catalogue import About, TrainingData

USES = ("any", "non-commercial", "unstated")
ABOUT: Mapping[str, About] = {**catalogue.about(), **dict(catalogue.built_in().values())}
SETS = {
    "open": TrainingData("any", "CC BY 4.0"),
    "research": TrainingData("non-commercial", "given for research"),
    "silent": TrainingData("unstated", "no terms found"),
}


@pytest.mark.parametrize(
    ("use", "trained_on", "commercial", "reason"),
    [
        ("any", ("open",), "allowed", "trained on open (CC BY 4.0)"),
        ("any", ("open", "research"), "unclear", "research (given for research)"),
        ("any", ("silent",), "unclear", "silent (no terms found)"),
        ("any", (), "unclear", "no statement of its training data was found"),
        ("unstated", ("open",), "unclear", "no licence is stated; trained on open"),
        ("non-commercial", ("open",), "excluded", "for research only; trained on open"),
        ("non-commercial", (), "excluded", "for research only; no statement"),
    ],
)
def test_commercial_use_follows_from_licence_and_training_data(
    use: str, trained_on: tuple[str, ...], commercial: str, reason: str
) -> None:
    found = licence.terms(About("x", "x", "for research only", use, trained_on), SETS)
    assert found.commercial == commercial
    assert reason in found.reason


@pytest.mark.parametrize("name", ABOUT)
def test_every_model_follows_the_rule_and_states_its_training_data(name: str) -> None:
    one, known = ABOUT[name], catalogue.training_data()
    assert one.use in USES
    assert set(one.trained_on) <= set(known)
    found = licence.terms(one)
    assert (found.commercial == "excluded") == (one.use == "non-commercial")
    free = bool(one.trained_on) and all(known[of].use == "any" for of in one.trained_on)
    assert (found.commercial == "allowed") == (one.use == "any" and free)
    if "non-commercial" in one.licence or "BY-NC" in one.licence:
        assert one.use == "non-commercial"
    if one.licence.startswith("none"):
        assert one.use == "unstated"
    assert all(of in found.reason for of in one.trained_on)


def test_the_terms_of_the_sets_have_the_words_of_the_rule() -> None:
    for name, one in catalogue.training_data().items():
        assert one.use in USES, name
        assert one.terms, name
        if "non-commercial" in one.terms or "BY-NC" in one.terms:
            assert one.use == "non-commercial", name


def test_one_file_has_one_verdict_under_all_its_names() -> None:
    verdicts: dict[object, set[str]] = {}
    for name, model in catalogue.models().items():
        known = tuple(one.sha256 for one in model.files)
        if all(known):
            verdicts.setdefault(known, set()).add(licence.terms(ABOUT[name]).commercial)
    assert all(len(found) == 1 for found in verdicts.values())


@pytest.mark.parametrize(
    "name", ["MTCNN", "yunet_n", "yunet_2023mar", "scrfd_500m", "mnet25_retrained"]
)
def test_wider_face_is_named_of_every_detector(name: str) -> None:
    assert "WIDER FACE (CC BY-NC-ND 4.0)" in licence.terms(ABOUT[name]).reason
    assert licence.terms(ABOUT[name]).commercial != "allowed"


def test_what_is_not_verified_is_stated_as_unclear() -> None:
    assert "likely, not proven" in ABOUT["mobilefacenet128"].origin
    mask = licence.terms(ABOUT["mask_mobilenetv2"])
    assert (mask.commercial, mask.reason) == (
        "unclear",
        "no statement of its training data was found",
    )


def test_every_network_inside_the_engine_has_its_terms() -> None:
    inside = {base for base, row in plugin_table.PLUGINS.items() if row.built_in}
    assert inside < set(catalogue.built_in())
    assert set(catalogue.built_in()) <= set(plugin_table.PLUGINS)


@pytest.mark.parametrize(
    ("calculator", "at"),
    [
        ("embedded.Calculator@mobilefacenet192", 0.52),
        ("facenet.Calculator", 0.81),
        ("facenet.Calculator@20180402-114759", 0.81),
        ("insightface.Calculator@arcface_mobilefacenet", 0.69),
        ("custom.Calculator@w600k_mbf", 0.66),
        ("custom.Calculator@sface_2021dec", 0.5),
        ("custom.Calculator@auraface_v1", None),
        ("facenet.Calculator@20180408-102900", None),
        ("insightface.Calculator@arcface-r100-msfdrop75", None),
        ("custom.Calculator@my-model", None),
        ("other.Calculator", None),
    ],
)
def test_a_calculator_has_the_border_that_was_measured_of_it(
    calculator: str, at: float | None
) -> None:
    found = catalogue.border(calculator)
    assert (found.at if found else None) == at


def test_a_border_holds_with_its_own_coefficients_only() -> None:
    name = "facenet.Calculator"
    assert catalogue.border(name, (1.1817961, 5.291995557)) == catalogue.border(name)
    assert catalogue.border(name, (1.1, 6.0)) is None
    assert catalogue.border("embedded.Calculator@mobilefacenet192", (1.1, 6.0)) is not None


def test_a_measured_border_has_all_its_figures_and_its_set() -> None:
    calculators = ["embedded.Calculator", *(f"custom.Calculator@{name}" for name in ABOUT)]
    found = [one for one in map(catalogue.border, calculators) if one]
    published = [one for one in found if "published" in one.set]
    assert [(one.at, one.equal_error, one.sure) for one in published] == [(0.5, None, None)]
    measured = [one for one in found if one not in published]
    assert len(measured) == 6
    for one in measured:
        assert one.set.startswith("LFW10 (4950 pairs)")
        assert None not in (one.equal_error, one.sure_same)
        assert one.sure is not None
        assert 0 < one.at <= one.sure < 1
        assert one.sure_different is not None
        assert one.sure_different <= 0.1


def test_figures_by_group_are_of_calculators_and_of_the_sets_that_are_described() -> None:
    groups = catalogue.face_groups()
    stated = {name: one.by_group for name, one in ABOUT.items() if one.by_group}
    assert stated["20180402-114759"]["children"] == 25.62
    assert all(list(figures) == list(groups.sets) for figures in stated.values())
    assert {catalogue.models()[name].role for name in stated} == {"calculator"}
    assert "not measured by this project" in groups.source
