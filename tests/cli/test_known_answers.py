"""The answer that the engine computes before it serves: once, kept with the models, or why not."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compreface_cli import resources
from compreface_cli.engine import check
from compreface_cli.errors import CfError
from compreface_cli.models import prepare
from compreface_cli.plan.plan import Plan
from tests.cli.build_files import SHA
from tests.cli.fake_facts import plan
from tests.cli.model_bench import a_model

ANSWER = {"box": [1, 2, 3, 4], "embedding": [0.6, 0.8], "similarity": [1.1, 6.0]}
SAID = {
    "face": {"box": [1, 2, 3, 4], "embedding": [0.6, 0.8], "probability": 1},
    "similarity": [1.1, 6.0],
}
# Stands in for the engine's interpreter: says what the file beside it says, and counts.
ENGINE = """#!{python}
import json, os, pathlib, sys
here = pathlib.Path(__file__)
call = [sys.argv[1:], dict(os.environ)]
here.with_name("calls").open("a").write(json.dumps(call) + "\\n")
code, text = json.loads(here.with_name("says").read_text())
print(text)
sys.exit(code)
"""


class FakeEngine:
    def __init__(self, folder: Path) -> None:
        self.python = folder / "python"
        self.python.write_text(ENGINE.format(python=sys.executable))
        self.python.chmod(0o755)
        self.says(0, SAID)

    def says(self, code: int, document: Any) -> None:
        text = document if isinstance(document, str) else json.dumps(document)
        self.python.with_name("says").write_text(json.dumps([code, text]))

    @property
    def calls(self) -> list[tuple[list[str], dict[str, str]]]:
        path = self.python.with_name("calls")
        lines = path.read_text().splitlines() if path.exists() else []
        return [(arguments, environ) for arguments, environ in map(json.loads, lines)]

    def answer(self, wanted: Plan) -> dict[str, Any]:
        return check.answer(wanted, lambda: self.python)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return FakeEngine(tmp_path)


def test_an_answer_is_computed_once_and_kept(engine: FakeEngine) -> None:
    assert engine.answer(plan()) == ANSWER
    engine.says(1, "no more")
    assert engine.answer(plan()) == ANSWER
    ((arguments, environ),) = engine.calls
    assert arguments[:4] == ["-I", "-m", "compreface_engine", "check"]
    assert arguments[arguments.index("--portrait") + 1] == str(resources.portrait())
    assert "--limit-memory" in arguments
    assert environ["FACE_DETECTION_PLUGIN"] == plan().detector
    assert environ["CALCULATION_PLUGIN"] == plan().calculator


def test_another_pair_and_another_file_have_other_answers(
    engine: FakeEngine, tmp_path: Path
) -> None:
    engine.answer(plan())
    engine.answer(plan(detector="facenet.FaceDetector"))
    own = plan(calculator="custom.Calculator@mine", models=(a_model(),))
    engine.answer(own)
    folder = tmp_path / "data" / "compreface-cli" / "models" / "mine"
    folder.mkdir(parents=True)
    for number, digest in enumerate((SHA, "0" * 64), start=4):
        record = {"entry": "", "sources": {}, "files": {"model.onnx": digest}, "sizes": {}}
        (folder / prepare.RECORD).write_text(json.dumps(record))
        engine.answer(own)
        assert len(engine.calls) == number
    engine.answer(replace(own, port=1))
    assert len(engine.calls) == 5


@pytest.mark.parametrize("role", ["detector", "calculator"])
def test_a_corrected_entry_of_the_same_file_has_another_answer(
    engine: FakeEngine, role: str
) -> None:
    detector = a_model(name="found", role="detector", size=None, align=None, similarity=None)
    models = {"detector": detector, "calculator": a_model()}
    first = plan(
        detector="yunet.FaceDetector@found",
        calculator="custom.Calculator@mine",
        models=tuple(models.values()),
    )
    engine.answer(first)
    corrected = {**models, role: replace(models[role], colour="bgr")}
    engine.answer(replace(first, models=tuple(corrected.values())))
    assert len(engine.calls) == 2
    engine.answer(first)
    assert len(engine.calls) == 2


def test_a_damaged_answer_is_computed_again(engine: FakeEngine, tmp_path: Path) -> None:
    first = engine.answer(plan())
    (kept,) = (tmp_path / "data" / "compreface-cli" / "models" / ".answers").iterdir()
    kept.write_text("{")
    assert engine.answer(plan()) == first
    assert len(engine.calls) == 2


@pytest.mark.parametrize(
    ("code", "document", "said"),
    [
        (3, {"error": {"message": "no face in the portrait"}}, "no face in the portrait"),
        (1, "Traceback", "exit|ended|Traceback"),
        (0, {"face": {"box": []}}, "embedding"),
    ],
)
def test_an_answer_that_cannot_be_computed_names_the_pair(
    engine: FakeEngine, code: int, document: Any, said: str
) -> None:
    engine.says(code, document)
    with pytest.raises(CfError, match=said) as caught:
        engine.answer(plan())
    assert caught.value.code == (9 if code == 3 else 1)
    assert plan().detector in caught.value.message
