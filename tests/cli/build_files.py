"""Build files for the tests: a sound one of the user's own, and ways to write variants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from compreface_cli.builds.builds import BuildFile
from compreface_cli.builds.spec import BuildSpec
from compreface_cli.models.entry import Model, ModelFile

SHA = "ab" * 32


def model_entry(**changes: Any) -> dict[str, Any]:
    return {
        "name": "my-model",
        "role": "calculator",
        "format": "onnx",
        "files": [{"path": "my-model.onnx", "sha256": SHA}],
        "input": {"size": 112, "mean": 127.5, "scale": 128},
        "align": "arcface5",
        "similarity": [1.1, 6.0],
        **changes,
    }


def build_data(**changes: Any) -> dict[str, Any]:
    """A build with a model of the user's own."""
    return {
        "schema": 1,
        "name": "my-build",
        "detector": "embedded.FaceDetector@mtcnn",
        "calculator": "custom.Calculator@my-model",
        "models": [model_entry()],
        **changes,
    }


def owned_data(**changes: Any) -> dict[str, Any]:
    """A build of two models of the user's own, whose commercial use its file allows."""
    detector = model_entry(name="my-detector", role="detector", align=None, similarity=None)
    return build_data(
        **{
            "detector": "scrfd.FaceDetector@my-detector",
            "plugins": [],
            "models": [model_entry(), detector],
            "facts": {"licence": {"weights": "ours", "commercial": "allowed"}},
            **changes,
        }
    )


def plain_data(**changes: Any) -> dict[str, Any]:
    """A build that needs no model."""
    return {
        "schema": 1,
        "name": "plain",
        "detector": "embedded.FaceDetector@mtcnn",
        "calculator": "embedded.Calculator@mobilefacenet192",
        **changes,
    }


def text(data: dict[str, Any]) -> str:
    return yaml.safe_dump(data, sort_keys=False)


def write(folder: Path, data: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{data['name']}.yaml"
    path.write_text(text(data), "utf-8")
    return path


def build_file(path: Path = Path("/somewhere/plain.yaml"), **changes: Any) -> BuildFile:
    return BuildFile(BuildSpec.model_validate(plain_data(**changes)), "path", path)


def custom_build_file(path: Path = Path("/somewhere/my-build.yaml"), **changes: Any) -> BuildFile:
    return BuildFile(BuildSpec.model_validate(build_data(**changes)), "path", path)


def catalogue() -> dict[str, Model]:
    """The names of the real catalogue, without a file to read."""
    return {
        name: Model(
            name=name,
            role="calculator",
            format="tensorflow-graph",
            files=(ModelFile(f"facenet/{name}.pb", (SHA,), ()),),
            size=160,
            layout="nhwc",
            colour="rgb",
            mean=None,
            scale=None,
            align="facenet-margin",
            similarity=(1.1817961, 5.291995557),
        )
        for name in ("20180402-114759", "20180408-102900")
    }
