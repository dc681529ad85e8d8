"""Writes builds/answers/BUILD.json: the correct answer of an engine for the bundled portrait.

    PYTHONPATH=.:engine python tools/make_answers.py embedded MobileFaceNet.tflite
    PYTHONPATH=.:engine python tools/make_answers.py facenet 20180402-114759.pb
    PYTHONPATH=.:engine python tools/make_answers.py mnet25-mobilefacenet MIRROR

For a calculator after MTCNN, the converter computes the answer with the unconverted weights. For
any other pair, the models of a mirror folder are prepared and verified, and the answer is computed
with them; it is valid for these files only.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from compreface_cli import engine_python, plugin_table, resources
from compreface_cli.builds import builds
from compreface_cli.config.settings import Settings
from compreface_cli.models import store
from compreface_cli.plan.plan import resolve
from tools import source_python

ROOT = Path(__file__).resolve().parent.parent
CONVERTER = (sys.executable, "-m", "compreface_convert")

# The entry of each original, as in `models:` of a build.
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


def of_original(build: str, source: Path) -> dict[str, Any]:
    """The answer of a calculator's original file after MTCNN."""
    original = dict(ORIGINALS[build])
    detector, calculator = original.pop("detector"), original.pop("calculator")
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    entry = {**original, "role": "calculator", "files": [{"path": source.name, "sha256": sha256}]}
    with tempfile.TemporaryDirectory() as work:
        spec = Path(work, "entry.json")
        spec.write_text(json.dumps(entry), encoding="utf-8")
        command = [*CONVERTER, "prepare"]
        command += ["--spec", str(spec), "--models-source", str(source), "--out", work]
        command += ["--portrait", str(resources.portrait())]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        made = json.loads(Path(work, original["name"], "model.json").read_text(encoding="utf-8"))
    return {
        "detector": detector,
        "calculator": calculator,
        "source_sha256": sha256,
        "similarity": original["similarity"],
        **made["known_answers"][detector],
    }


def of_pair(build: str, mirror: Path) -> dict[str, Any]:
    """The answer of a bundled build's detector and calculator, prepared from a mirror folder."""
    plan = resolve(builds.load(ROOT / "builds" / f"{build}.yaml"), Settings())
    named = plugin_table.models_of((plan.detector, plan.calculator))
    models = [model for model in plan.models if model.name in named]
    with tempfile.TemporaryDirectory() as work:
        python = source_python.write(Path(work))
        places = store.Places(Path(work, "models"), Path(work), Path(work, "hashes"), str(mirror))
        store.ensure(
            models,
            lambda label, total: nullcontext(lambda amount: None),
            python=lambda: python,
            portrait=resources.portrait(),
            places=places,
        )
        variables = {
            "FACE_DETECTION_PLUGIN": plan.detector,
            "CALCULATION_PLUGIN": plan.calculator,
            "EXTRA_PLUGINS": "facenet.LandmarksDetector",
            "CF_MODELS_DIR": str(places.models),
        }
        command = ("compreface_engine", "check", "--portrait", str(resources.portrait()))
        document = engine_python.run(python, *command, timeout_s=300, variables=variables)
    return {
        "detector": plan.detector,
        "calculator": plan.calculator,
        "sources": {model.name: [file.sha256[0] for file in model.files] for model in models},
        "similarity": document["similarity"],
        **{key: document["face"][key] for key in ("box", "probability", "landmarks", "embedding")},
    }


def main(build: str, source: Path) -> None:
    """Write the answers of one build."""
    answer = {
        "portrait": resources.PORTRAIT,
        "second": resources.SECOND_PORTRAIT,
        **(of_original if build in ORIGINALS else of_pair)(build, source),
    }
    target = ROOT / "builds" / "answers" / f"{build}.json"
    target.parent.mkdir(exist_ok=True)
    lines = ",\n ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in answer.items())
    target.write_text(f"{{\n {lines}\n}}\n", encoding="utf-8")
    print(f"wrote {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
