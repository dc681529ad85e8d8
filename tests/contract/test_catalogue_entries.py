"""The converter accepts every model of the catalogue as `cf` describes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compreface_cli.models import catalogue
from compreface_convert.checkpoint import NETWORKS as CHECKPOINTS
from compreface_convert.gluon import NETWORKS as GLUON
from compreface_convert.pytorch import NETWORKS as PYTORCH
from compreface_convert.spec import read_spec

CHOICES = {
    f"{name} {choice.format}": choice
    for name, model in catalogue.models().items()
    for choice in model.choices
}
BUILT = {"tensorflow-checkpoint": CHECKPOINTS, "mxnet-gluon": GLUON, "pytorch": PYTORCH}


@pytest.mark.parametrize("name", CHOICES)
def test_the_converter_accepts_the_entry(name: str, tmp_path: Path) -> None:
    model = CHOICES[name]
    entry = model.entry()
    for file in entry["files"]:  # `cf` gives the one hash that was proven
        file["sha256"] = next(iter(file["sha256"]), None)
    path = tmp_path / "entry.json"
    path.write_text(json.dumps(entry), encoding="utf-8")
    spec = read_spec(path)
    assert (spec.name, spec.role, spec.format) == (model.name, model.role, model.format)
    assert spec.inputs.size == (model.size or 0)
    assert spec.network is None or spec.network in BUILT[spec.format]
