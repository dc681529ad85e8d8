"""Measures verification on photographs of known people, with exactly the parameters that ship.

    PYTHONPATH=engine python tools/measure_accuracy.py FOLDER [--build facenet --models DIR]

FOLDER holds either one folder a person, or `annotations.json` whose `images` name a `person` each.
All pairs of pictures count; of each picture the largest face. Printed: pairs, ROC AUC, the best
accuracy and its similarity, the equal error rate, and at three similarities the share of pairs of
different people that reach it and of pairs of one person that do not: 0.5, the border (equal error)
and the one that at most 0.1 % of different people reach. Last the `border:` entry of these, as a
build file and the catalogue take it. LFW10, the set of the catalogue's figures, are the 100
photographs of 10 people in krasserm/face-recognition at 363e4ec0, folder images.
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
    "mnet25-mobilefacenet": (
        "retinaface.FaceDetector@mnet25_retrained",
        "custom.Calculator@arcface_mobilefacenet_rgb",
    ),
    "yunet-embedded": ("yunet.FaceDetector@yunet_n", "embedded.Calculator@mobilefacenet192"),
}
SURE = 0.001  # share of the pairs of different people that may reach "probably the same"


def people(folder: Path) -> list[tuple[Path, str]]:
    """The pictures with their persons; pictures without a person are left out."""
    notes = folder / "annotations.json"
    if notes.is_file():
        images = json.loads(notes.read_text(encoding="utf-8"))["images"]
        return [
            (folder / name, note["person"]) for name, note in images.items() if "person" in note
        ]
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
    """Figures of one set of pairs; `similarity` 0..1, `same` whether the pair is one person.

    `border` and `sure` are rounded to two decimals, and the shares at them are of the rounded ones.
    """
    yes, no = similarity[same], similarity[~same]
    wins = (yes[:, None] > no[None, :]).mean() + 0.5 * (yes[:, None] == no[None, :]).mean()
    cuts = np.unique(np.concatenate([similarity, [1.1]]))
    refused = np.array([(yes < cut).mean() for cut in cuts])
    accepted = np.array([(no >= cut).mean() for cut in cuts])
    right = np.array([((similarity >= cut) == same).mean() for cut in cuts])
    nearest = np.flatnonzero(np.abs(refused - accepted) == np.abs(refused - accepted).min())
    # Where nobody stands between the two, any cut between them errs alike: the middle is taken.
    at = (int(nearest[0]), int(nearest[-1]))
    border = round(float(cuts[max(at[0] - 1, 0)] + cuts[at[1]]) / 2, 2)
    hundredths = np.arange(101) / 100
    sure = float(next(cut for cut in hundredths if cut >= border and (no >= cut).mean() <= SURE))
    return {
        "pairs": len(similarity),
        "same": int(same.sum()),
        "auc": float(wins),
        "best_accuracy": float(right.max()),
        "at_similarity": float(cuts[int(right.argmax())]),
        "equal_error": float((refused[at[0]] + accepted[at[0]]) / 2),
        "border": border,
        "sure": sure,
        **{
            f"{what}_at_{name}": float(share)
            for name, cut in (("0.5", 0.5), ("border", border), ("sure", sure))
            for what, share in (
                ("different_accepted", (no >= cut).mean()),
                ("same_refused", (yes < cut).mean()),
            )
        },
        "lowest_same": float(yes.min()),
        "highest_different": float(no.max()),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--build", choices=sorted(BUILDS), default="embedded")
    parser.add_argument("--detector", help="another than the build's")
    parser.add_argument("--calculator", help="another than the build's")
    parser.add_argument("--models", type=Path, help="folder of prepared models")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    detector, calculator = BUILDS[args.build]
    detector, calculator = args.detector or detector, args.calculator or calculator
    pipeline = Pipeline.load(
        PipelineConfig(detector=detector, calculator=calculator, models_dir=args.models, threads=2)
    )
    pictures = people(args.folder)
    unit = embeddings(pipeline, [path for path, _ in pictures])
    c0, c1 = pipeline.similarity_coefficients
    pairs = list(itertools.combinations(range(len(pictures)), 2))
    distances = np.array([float(np.linalg.norm(unit[a] - unit[b])) for a, b in pairs])
    same = np.array([pictures[a][1] == pictures[b][1] for a, b in pairs])
    figures = measure((np.tanh((c0 - distances) * c1) + 1) / 2, same)
    if args.json:
        print(json.dumps({"detector": detector, "calculator": calculator, **figures}))
        return
    for name, value in figures.items():
        print(f"{name:30} {value:g}")
    print(
        f"border: {{at: {figures['border']:.2f}, equal_error: {100 * figures['equal_error']:.2f}, "
        f"sure: {figures['sure']:.2f}, "
        f"sure_different: {100 * figures['different_accepted_at_sure']:.2f}, "
        f"sure_same: {100 * figures['same_refused_at_sure']:.2f}, "
        f'set: "{args.folder.name} ({len(pairs)} pairs)"}}'
    )


if __name__ == "__main__":
    main()
