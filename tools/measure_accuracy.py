"""Measures verification on photographs of known people, with exactly the parameters that ship.

    PYTHONPATH=engine python tools/measure_accuracy.py FOLDER [--build facenet --models DIR]

FOLDER holds either one folder a person, or `annotations.json` whose `images` name a `person` each.
All pairs of pictures count; of each picture the largest face. Printed: pairs, ROC AUC, the best
accuracy and its similarity, the equal error rate, and both error rates at the similarity 0.5.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compreface_engine.pipeline import Pipeline, PipelineConfig

BUILDS = {
    "embedded": ("embedded.FaceDetector@mtcnn", "embedded.Calculator@mobilefacenet192"),
    "facenet": ("facenet.FaceDetector", "facenet.Calculator"),
    "mobilenet": (
        "insightface.FaceDetector@retinaface_mnet025_v1",
        "insightface.Calculator@arcface_mobilefacenet",
    ),
    "yunet-embedded": ("yunet.FaceDetector@yunet_n", "embedded.Calculator@mobilefacenet192"),
}


def people(folder: Path) -> list[tuple[Path, str]]:
    """Each picture with the person on it; pictures without one are left out."""
    notes = folder / "annotations.json"
    if notes.is_file():
        images = json.loads(notes.read_text(encoding="utf-8"))["images"]
        return [(folder / name, one["person"]) for name, one in images.items() if "person" in one]
    return [(path, path.parent.name) for path in sorted(folder.glob("*/*")) if path.is_file()]


def embeddings(pipeline: Pipeline, pictures: list[Path]) -> NDArray[np.float64]:
    """float64 [N, D], rows of unit length: the largest face of each picture."""
    rows = []
    for path in pictures:
        image = pipeline.decode(path.read_bytes()).image
        faces = pipeline.scan(image, min_score=None, detect=True, slugs=frozenset({"calculator"}))
        if not faces:
            raise SystemExit(f"no face was found in {path}")
        row = np.asarray(faces[0].answers["embedding"], np.float64)
        rows.append(row / np.linalg.norm(row))
    return np.stack(rows)


def measure(similarity: NDArray[np.float64], same: NDArray[np.bool_]) -> dict[str, float]:
    """Figures of one set of pairs; `similarity` 0..1, `same` whether the pair is one person."""
    yes, no = similarity[same], similarity[~same]
    wins = (yes[:, None] > no[None, :]).mean() + 0.5 * (yes[:, None] == no[None, :]).mean()
    cuts = np.unique(np.concatenate([similarity, [1.1]]))
    refused = np.array([(yes < cut).mean() for cut in cuts])
    accepted = np.array([(no >= cut).mean() for cut in cuts])
    right = np.array([((similarity >= cut) == same).mean() for cut in cuts])
    at = int(np.argmin(np.abs(refused - accepted)))
    return {
        "pairs": len(similarity),
        "same": int(same.sum()),
        "auc": float(wins),
        "best_accuracy": float(right.max()),
        "at_similarity": float(cuts[int(right.argmax())]),
        "equal_error": float((refused[at] + accepted[at]) / 2),
        "same_refused_at_0.5": float((yes < 0.5).mean()),
        "different_accepted_at_0.5": float((no >= 0.5).mean()),
        "lowest_same": float(yes.min()),
        "highest_different": float(no.max()),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--build", choices=sorted(BUILDS), default="embedded")
    parser.add_argument("--models", type=Path, help="folder of prepared models")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    detector, calculator = BUILDS[asked.build]
    pipeline = Pipeline.load(
        PipelineConfig(detector=detector, calculator=calculator, models_dir=asked.models, threads=2)
    )
    found = people(asked.folder)
    unit = embeddings(pipeline, [path for path, _ in found])
    c0, c1 = pipeline.similarity_coefficients
    pairs = list(itertools.combinations(range(len(found)), 2))
    apart = np.array([float(np.linalg.norm(unit[a] - unit[b])) for a, b in pairs])
    same = np.array([found[a][1] == found[b][1] for a, b in pairs])
    figures = measure((np.tanh((c0 - apart) * c1) + 1) / 2, same)
    if asked.json:
        print(json.dumps({"build": asked.build, **figures}))
        return
    for name, value in figures.items():
        print(f"{name:28} {value:g}")


if __name__ == "__main__":
    main()
