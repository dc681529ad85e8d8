"""The plugins by upstream's notation: which run in this version, which are known and lack what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Role = Literal["detector", "calculator", "extra"]

RUNNING: Mapping[str, Role] = {
    "embedded.FaceDetector@mtcnn": "detector",
    "facenet.FaceDetector": "detector",
    "embedded.Calculator@mobilefacenet192": "calculator",
    "facenet.Calculator": "calculator",
    "facenet.Calculator@20180402-114759": "calculator",
    "facenet.Calculator@20180408-102900": "calculator",
    "facenet.LandmarksDetector": "extra",
    "facenet.PoseEstimator": "extra",
}
# The model of upstream's calculators, by its name in the catalogue.
MODEL_OF: Mapping[str, str] = {
    "facenet.Calculator": "20180402-114759",
    "facenet.Calculator@20180402-114759": "20180402-114759",
    "facenet.Calculator@20180408-102900": "20180408-102900",
}
CUSTOM = "custom.Calculator@"

_NO_WEIGHTS = "upstream's weights for it have no public source with a known hash"
_NOT_YET = "this version has no code for it"
# Notations that upstream's engine takes (its contract, section 11) and this one does not yet run.
LACKING: Mapping[str, tuple[Role, str]] = {
    "facenet.Calculator@inception_resnetv1_casia_masked": ("calculator", _NO_WEIGHTS),
    "agegender.AgeDetector": ("extra", _NO_WEIGHTS),
    "agegender.AgeDetector@22801": ("extra", _NO_WEIGHTS),
    "agegender.GenderDetector": ("extra", _NO_WEIGHTS),
    "agegender.GenderDetector@21936": ("extra", _NO_WEIGHTS),
    "facenet.facemask.MaskDetector": ("extra", _NO_WEIGHTS),
    "facenet.facemask.MaskDetector@inception_v3_on_mafa_kaggle123": ("extra", _NO_WEIGHTS),
    **{
        f"insightface.FaceDetector{model}": ("detector", _NOT_YET)
        for model in ("", "@retinaface_mnet025_v1", "@retinaface_mnet025_v2")
    },
    "insightface.FaceDetector@retinaface_r50_v1": ("detector", _NO_WEIGHTS),
    **{
        f"insightface.Calculator{model}": ("calculator", _NOT_YET)
        for model in ("", "@arcface_mobilefacenet")
    },
    **{
        f"insightface.Calculator@{model}": ("calculator", _NO_WEIGHTS)
        for model in (
            "arcface_r100_v1",
            "arcface_resnet34",
            "arcface_resnet50",
            "arcface-r50-msfdrop75",
            "arcface-r100-msfdrop75",
            "arcface_mobilefacenet_casia_masked",
        )
    },
    **{
        f"insightface.{plugin}": ("extra", _NOT_YET)
        for plugin in (
            "LandmarksDetector",
            "GenderDetector",
            "GenderDetector@genderage_v1",
            "AgeDetector",
            "AgeDetector@genderage_v1",
            "PoseEstimator",
        )
    },
    **{
        f"insightface.{plugin}": ("extra", _NO_WEIGHTS)
        for plugin in (
            "Landmarks2d106Detector",
            "Landmarks2d106Detector@2d106det",
            "facemask.MaskDetector",
            "facemask.MaskDetector@mobilenet_v2_on_mafa_kaggle123",
            "facemask.MaskDetector@resnet18_on_mafa_kaggle123",
        )
    },
}


def role(plugin: str) -> Role | None:
    """What a plugin is for, or None for a notation that nobody knows."""
    if plugin.startswith(CUSTOM):
        return "calculator"
    if plugin in RUNNING:
        return RUNNING[plugin]
    return LACKING[plugin][0] if plugin in LACKING else None


def lacks(plugin: str) -> str | None:
    """Why a known plugin does not run in this version; None if it does."""
    return LACKING[plugin][1] if plugin in LACKING else None


def known(wanted: Role) -> list[str]:
    """All notations of that role, those that run first."""
    running = [name for name, one in RUNNING.items() if one == wanted]
    return running + [name for name, (one, _) in LACKING.items() if one == wanted]


_WORDS: Mapping[Role, str] = {
    "detector": "detector",
    "calculator": "calculator",
    "extra": "further plugin",
}


def fault(plugin: str, wanted: Role) -> str | None:
    """Why a notation cannot stand where that role is wanted; None if it can."""
    found = role(plugin)
    if found == wanted:
        return None
    if found is not None:
        return f"{plugin} is a {_WORDS[found]}, not a {_WORDS[wanted]}"
    from difflib import get_close_matches

    close = get_close_matches(plugin, known(wanted), n=1, cutoff=0.6)
    meant = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown {_WORDS[wanted]} {plugin!r}{meant}"
