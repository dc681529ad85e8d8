"""A model store in a folder of its own, with a stand-in for the engine's converter."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from compreface_cli.models import store
from compreface_cli.models.entry import Model, ModelFile
from tests.shared import ROOT

WEIGHTS = b"weights" * 100
SHA = hashlib.sha256(WEIGHTS).hexdigest()
PORTRAIT = ROOT / "compreface_cli" / "portraits" / "astronaut.png"

# Stands in for the engine's interpreter: does what the converter's command promises, no more.
CONVERTER = """#!{python}
import hashlib, json, os, pathlib, sys
given = sys.argv[sys.argv.index("prepare"):]
value = lambda flag: given[given.index(flag) + 1]
log = pathlib.Path(__file__).with_name("calls")
log.write_text(log.read_text() + "x" if log.exists() else "x")
mode = pathlib.Path(__file__).with_name("mode").read_text()
entry = json.loads(pathlib.Path(value("--spec")).read_text())
if mode == "refuse":
    print(json.dumps({{"error": {{"message": "it holds no network"}}}}))
    sys.exit(9)
if mode == "crash":
    print("Traceback ...", "ImportError: no onnx", sep="\\n", file=sys.stderr)
    sys.exit(1)
at = given.index("--models-source") + 1
files = [pathlib.Path(name) for name in given[at : at + len(entry["files"])]]
for file, one in zip(files, entry["files"], strict=True):
    assert hashlib.sha256(file.read_bytes()).hexdigest() == one["sha256"]
data = files[0].read_bytes()
out = pathlib.Path(value("--out")) / entry["name"]
out.mkdir(parents=True)
(out / "model.onnx").write_bytes(b"onnx" + data)
digest = "0" * 64 if mode == "lie" else hashlib.sha256(b"onnx" + data).hexdigest()
described = {{"name": entry["name"], "file": "model.onnx", "sha256": digest}}
(out / "model.json").write_text(json.dumps(described))
if "--keep-source" in given:
    (out / "source").mkdir()
    for file in files:
        (out / "source" / file.name).write_bytes(file.read_bytes())
print("{{}}")
if mode == "kill":
    os.kill(os.getppid(), 2)
"""


class Bench:
    """A store in a folder of its own, with a stand-in for the converter."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "mirror").mkdir()
        self.python = folder / "python"
        self.python.write_text(CONVERTER.format(python=sys.executable))
        self.python.chmod(0o755)
        self.mode("honest")
        self.notes: list[str] = []
        self.places = store.Places(
            models=folder / "models",
            weights=folder / "weights",
            accepted=folder / "state" / "accepted.json",
            mirror=str(folder / "mirror"),
        )

    def mode(self, name: str) -> None:
        self.python.with_name("mode").write_text(name)

    @property
    def conversions(self) -> int:
        calls = self.python.with_name("calls")
        return len(calls.read_text()) if calls.exists() else 0

    def put(self, path: str, data: bytes = WEIGHTS) -> Path:
        target = self.folder / "mirror" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        return target

    @contextlib.contextmanager
    def progress(self, label: str, total: float | None = None) -> Iterator[Any]:
        yield lambda amount: None

    def ensure(self, *models: Model, **rest: Any) -> dict[str, Path]:
        given: dict[str, Any] = {
            "python": lambda: self.python,
            "portrait": PORTRAIT,
            "note": self.notes.append,
            "places": self.places,
            **rest,
        }
        return store.ensure(models, self.progress, **given)


def a_model(**changes: Any) -> Model:
    model = Model(
        name="mine",
        role="calculator",
        format="onnx",
        files=(ModelFile("own/mine.onnx", (SHA,), ()),),
        size=112,
        layout="nchw",
        colour="rgb",
        mean=(127.5,),
        scale=(128.0,),
        align="arcface5",
        similarity=(1.1, 6.0),
    )
    return replace(model, **changes)
