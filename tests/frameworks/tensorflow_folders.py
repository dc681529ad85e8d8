"""Makes checkpoint and SavedModel folders of seeded networks, and what TensorFlow gives for them.

    python -m tests.frameworks.tensorflow_folders --out FOLDER [--record FOLDER] [--large]

Runs in the environment of TensorFlow. `--record` writes the files that the default suite keeps,
`--large` makes the Keras networks of full size too. Keras 2's folders need `tf_keras`, which is
used if it is there.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tests.frameworks import keras_models, seeded, slim_inception

BATCH = 4
CROP = 160
_VARIABLES = "variables/variables"
_SAVED_MODEL = ("saved_model.pb", f"{_VARIABLES}.index", f"{_VARIABLES}.data-00000-of-00001")
_KEPT = {
    "inception_v3_age": ("checkpoint", "checkpoint-14999.index"),  # its weights follow from names
    "keras2_small": _SAVED_MODEL,
    "keras3_small": _SAVED_MODEL,
}


def main() -> None:
    """Writes a folder a network, and all answers into `answers.npz`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args()
    answers: dict[str, Any] = {}
    for network, labels in (("inception_v3_age", 8), ("inception_v3_gender", 2)):
        folder = options.out / network
        folder.mkdir(parents=True)
        batch = seeded.pictures(1, BATCH, CROP, CROP, 3)
        answers[network] = slim_inception.checkpoint(folder / "checkpoint", labels, batch)
    for size in ("small", "mask") if options.large else ("small",):
        answers.update(_keras(size, options.out))
    np.savez_compressed(options.out / "answers.npz", **answers)
    if options.record:
        _record(options.out, options.record, answers)


def _keras(size: str, out: Path) -> dict[str, Any]:
    make = keras_models.mask if size == "mask" else keras_models.small
    side = keras_models.MASK_SIDE if size == "mask" else keras_models.SMALL_SIDE
    batch = seeded.pictures(2, BATCH, side, side, 3)
    model = make(importlib.import_module("keras"))
    tf.saved_model.save(model, str(out / f"keras3_{size}"))
    model.export(str(out / f"keras3_{size}_export"), verbose=False)
    result = model(batch, training=False).numpy()
    answers = {f"keras3_{size}": result, f"keras3_{size}_export": result}
    if importlib.util.find_spec("tf_keras"):
        model = make(importlib.import_module("tf_keras"))
        model.save(str(out / f"keras2_{size}"), save_format="tf", include_optimizer=False)
        answers[f"keras2_{size}"] = model(batch, training=False).numpy()
    return answers


def _record(out: Path, kept: Path, answers: dict[str, Any]) -> None:
    for name, files in _KEPT.items():
        if name not in answers:
            raise SystemExit(f"{name} was not made: install tf_keras")
        with zipfile.ZipFile(kept / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as packed:
            for inside in files:
                data = (out / name / inside).read_bytes()
                packed.writestr(zipfile.ZipInfo(inside), data, zipfile.ZIP_DEFLATED, 9)
    wanted = {name: answers[name] for name in _KEPT}
    np.savez_compressed(kept / "tensorflow_folders.npz", **wanted)


if __name__ == "__main__":
    main()
