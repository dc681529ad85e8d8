"""Makes builds/answers/BUILD.json from a calculator's original file, not from what was converted.

    PYTHONPATH=.:engine python tools/make_answers.py embedded MobileFaceNet.tflite
    PYTHONPATH=.:engine python tools/make_answers.py facenet 20180402-114759.pb

The converter computes the answer with the unconverted weights; the engine that ships must then say
the same. Needs the extra `convert` of the engine.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PORTRAITS = ROOT / "compreface_cli" / "portraits"

# What the converter must know of each original: as a `models:` entry says it.
ORIGINALS: dict[str, dict[str, Any]] = {
    "embedded": {
        "name": "mobilefacenet192",
        "format": "tflite",
        "input": {"size": 112, "layout": "nchw", "colour": "rgb", "mean": 127.5, "scale": 128},
        "align": "arcface5",
        "similarity": [1.10, 6.0],
        "detector": "embedded.FaceDetector@mtcnn",
        "calculator": "embedded.Calculator@mobilefacenet192",
    },
    "facenet": {
        "name": "20180402-114759",
        "format": "tensorflow-graph",
        "input": {"size": 160, "layout": "nchw", "colour": "rgb", "mean": None, "scale": None},
        "align": "facenet-margin",
        "similarity": [1.1817961, 5.291995557],
        "detector": "facenet.FaceDetector",
        "calculator": "facenet.Calculator",
    },
}


def main(build: str, source: Path) -> None:
    """Write the answers of one build."""
    original = dict(ORIGINALS[build])
    detector, calculator = original.pop("detector"), original.pop("calculator")
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    entry = {**original, "role": "calculator", "files": [{"path": source.name, "sha256": sha256}]}
    with tempfile.TemporaryDirectory() as work:
        spec = Path(work, "entry.json")
        spec.write_text(json.dumps(entry), encoding="utf-8")
        command = [sys.executable, "-m", "compreface_engine.convert", "prepare"]
        command += ["--spec", str(spec), "--models-source", str(source), "--out", work]
        command += ["--portrait", str(PORTRAITS / "astronaut.png")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        made = json.loads(Path(work, original["name"], "model.json").read_text(encoding="utf-8"))
    answer = {
        "portrait": "astronaut.png",
        "second": "grace_hopper.jpg",
        "detector": detector,
        "calculator": calculator,
        "source_sha256": sha256,
        "similarity": original["similarity"],
        **made["known_answers"][detector],
    }
    target = ROOT / "builds" / "answers" / f"{build}.json"
    target.parent.mkdir(exist_ok=True)
    lines = ",\n ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in answer.items())
    target.write_text(f"{{\n {lines}\n}}\n", encoding="utf-8")
    print(f"wrote {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
