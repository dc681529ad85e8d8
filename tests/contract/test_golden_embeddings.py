"""The embedding network alone: recorded whole-picture boxes, embedded without detection.

`detect_faces=false` of the original cuts with swapped sides; ours does not, so the recorded box is
cut here. No detector and, with lossless pictures, no JPEG decoder takes part.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.contract.goldens import case, case_ids, cosine_of
from tests.contract.pictures import picture

pytestmark = pytest.mark.slow

NAMES = [name for name in case_ids() if name.startswith("decoded-detect-faces-false-")]


@pytest.fixture(scope="module")
def calculator(facenet_models: Path) -> Any:
    from compreface_engine.plugins import registry
    from compreface_engine.plugins.context import Context
    from compreface_engine.runtimes.onnxruntime import OnnxSession

    context = Context(
        open_session=lambda path: OnnxSession(path, threads=1),
        models_dir=facenet_models,
        length_limit=640,
    )
    return registry.calculator("facenet.Calculator", context)


@pytest.mark.parametrize("name", NAMES)
def test_the_recorded_box_gives_the_recorded_embedding(calculator: Any, name: str) -> None:
    from compreface_engine.core.geometry import facenet_crop
    from compreface_engine.core.image import decode
    from compreface_engine.core.types import BoundingBox

    recorded = case(name)
    (file,) = recorded["request"]["files"]
    (face,) = recorded["response"]["json"]["result"]
    box = face["box"]
    image = decode(picture(file["source"]), max_pixels=10_000_000).image
    corners = (box["x_min"], box["y_min"], box["x_max"], box["y_max"])
    crop = facenet_crop(image, BoundingBox(*corners, 1.0), calculator.crop.size)
    (embedding,) = calculator.embed(np.stack([crop]))
    assert cosine_of(embedding, face["embedding"]) >= 0.9999
