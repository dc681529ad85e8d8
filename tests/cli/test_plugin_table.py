"""The notations of plugins: which model each has, and the error for one that does not fit."""

from __future__ import annotations

import pytest

from compreface_cli import plugin_table


@pytest.mark.parametrize(
    ("plugin", "model"),
    [
        ("facenet.Calculator", "20180402-114759"),
        ("insightface.Calculator@arcface_resnet50", "arcface_resnet50"),
        ("insightface.FaceDetector", "retinaface_mnet025_v1"),
        ("scrfd.FaceDetector@anything", "anything"),
        ("facenet.FaceDetector", None),
        ("embedded.Calculator@mobilefacenet192", None),
        ("nobody.Knows", None),
    ],
)
def test_a_plugin_has_one_model_or_none(plugin: str, model: str | None) -> None:
    assert plugin_table.model_of(plugin) == model


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("facenet.Calculator", "facenet.Calculator@20180402-114759", True),
        ("Facenet2018", "facenet.Calculator@20180402-114759", True),  # before CompreFace 0.6
        ("facenet.Calculator", "facenet.Calculator@20180408-102900", False),
        ("insightface.Calculator@arcface_mobilefacenet", "insightface.Calculator", True),
        ("insightface.Calculator@arcface_r100_v1", "insightface.Calculator", False),
        ("custom.Calculator@a", "custom.Calculator@a", True),
        ("custom.Calculator@a", "insightface.Calculator@a", False),
        ("nobody.Knows", "nobody.Knows", True),
        ("nobody.Knows", "nobody.Knows@x", False),
        ("embedded.Calculator@mobilefacenet192", "facenet.Calculator", False),
    ],
)
def test_a_default_model_is_the_same_whether_it_is_named_or_not(
    one: str, other: str, same: bool
) -> None:
    assert plugin_table.same_calculator(one, other) is same
    assert plugin_table.same_calculator(other, one) is same


def test_one_model_of_two_plugins_counts_once() -> None:
    plugins = ("insightface.AgeDetector", "insightface.GenderDetector@genderage_v1")
    assert plugin_table.models_of(plugins) == ("genderage_v1",)


@pytest.mark.parametrize(
    ("plugin", "role", "words"),
    [
        ("scrfd.FaceDetector", "detector", "write scrfd.FaceDetector@NAME, like scrfd.Face"),
        ("custom.Calculator", "calculator", "write custom.Calculator@NAME"),
        ("facenet.FaceDetector@x", "detector", "facenet.FaceDetector takes no model"),
        (
            "insightface.Calculator@arcface_r100",
            "calculator",
            "has no model 'arcface_r100'; did you mean 'insightface.Calculator@arcface_r100_v1'",
        ),
        ("insightface.Calculator@q", "calculator", "insightface.Calculator has no model 'q'"),
        ("embedded.FaceDetector", "detector", "needs one of its models named"),
        ("yunet.FaceDetector@yunet_n", "calculator", "is a detector, not a calculator"),
        ("facemask.MaskDetektor@x", "analyzer", "unknown further plugin 'facemask.MaskDetektor@x'"),
    ],
)
def test_an_invalid_plugin_is_refused_with_the_reason(
    plugin: str, role: plugin_table.Role, words: str
) -> None:
    assert words in (plugin_table.fault(plugin, role) or "")


@pytest.mark.parametrize("role", ["detector", "calculator", "analyzer"])
def test_every_known_notation_can_stand_in_its_place(role: plugin_table.Role) -> None:
    assert all(plugin_table.fault(plugin, role) is None for plugin in plugin_table.known(role))
    assert all(
        plugin.partition("@")[0] in plugin_table.PLUGINS for plugin in plugin_table.shown(role)
    )
