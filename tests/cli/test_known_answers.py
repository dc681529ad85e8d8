"""The answer that the converter computes: once, kept with the models, and every failure told."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.engine import converter as converter_of
from compreface_cli.errors import CfError
from compreface_cli.models import prepare
from compreface_cli.plan.plan import Plan
from tests.cli.build_files import SHA
from tests.cli.fake_facts import plan
from tests.cli.model_bench import a_model

SAID = {"box": [1, 2, 3, 4], "embedding": [0.6, 0.8], "similarity": [1.1, 6.0], "probability": 1}
# Stands in for the engine's interpreter: says what the file beside it says, and counts.
CONVERTER = """#!{python}
import json, pathlib, sys
here = pathlib.Path(__file__)
given = sys.argv[sys.argv.index("answer"):]
here.with_name("calls").open("a").write(json.dumps(given) + "\\n")
code, text = json.loads(here.with_name("says").read_text())
print(text)
sys.exit(code)
"""


class Converter:
    def __init__(self, folder: Path) -> None:
        self.python = folder / "python"
        self.python.write_text(CONVERTER.format(python=sys.executable))
        self.python.chmod(0o755)
        self.says(0, SAID)

    def says(self, code: int, document: Any) -> None:
        text = document if isinstance(document, str) else json.dumps(document)
        self.python.with_name("says").write_text(json.dumps([code, text]))

    @property
    def calls(self) -> list[list[str]]:
        path = self.python.with_name("calls")
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def of(self, wanted: Plan) -> dict[str, Any]:
        return converter_of.of(wanted, lambda: self.python, "astronaut.png")


@pytest.fixture
def converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Converter:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return Converter(tmp_path)


def test_an_answer_is_computed_once_and_kept(converter: Converter) -> None:
    wanted = {key: SAID[key] for key in ("box", "embedding", "similarity")}
    assert converter.of(plan()) == wanted
    converter.says(1, "no more")
    assert converter.of(plan()) == wanted
    (call,) = converter.calls
    assert call[call.index("--detector") + 1] == plan().detector
    assert call[call.index("--calculator") + 1] == plan().calculator


def test_another_pair_and_another_file_have_answers_of_their_own(
    converter: Converter, tmp_path: Path
) -> None:
    converter.of(plan())
    converter.of(plan(detector="facenet.FaceDetector"))
    own = plan(calculator="custom.Calculator@mine", models=(a_model(),))
    converter.of(own)
    folder = tmp_path / "data" / "compreface-cli" / "models" / "mine"
    folder.mkdir(parents=True)
    for number, digest in enumerate((SHA, "0" * 64), start=4):
        record = {"entry": "", "sources": {}, "files": {"model.onnx": digest}, "sizes": {}}
        (folder / prepare.RECORD).write_text(json.dumps(record))
        converter.of(own)
        assert len(converter.calls) == number
    converter.of(replace(own, port=1))
    assert len(converter.calls) == 5


@pytest.mark.parametrize("role", ["detector", "calculator"])
def test_a_corrected_entry_of_the_same_file_has_an_answer_of_its_own(
    converter: Converter, role: str
) -> None:
    detector = a_model(name="found", role="detector", size=None, align=None, similarity=None)
    models = {"detector": detector, "calculator": a_model()}
    first = plan(
        detector="yunet.FaceDetector@found",
        calculator="custom.Calculator@mine",
        models=tuple(models.values()),
    )
    converter.of(first)
    corrected = {**models, role: replace(models[role], colour="bgr")}
    converter.of(replace(first, models=tuple(corrected.values())))
    assert len(converter.calls) == 2
    converter.of(first)
    assert len(converter.calls) == 2


def test_a_damaged_answer_is_computed_anew(converter: Converter, tmp_path: Path) -> None:
    first = converter.of(plan())
    (kept,) = (tmp_path / "data" / "compreface-cli" / "models" / ".answers").iterdir()
    kept.write_text("{")
    assert converter.of(plan()) == first
    assert len(converter.calls) == 2


@pytest.mark.parametrize(
    ("code", "document", "words"),
    [
        (9, {"error": {"message": "no face in the portrait"}}, "no face in the portrait"),
        (1, "Traceback", "could not be computed"),
        (0, {"box": []}, "could not be computed"),
    ],
)
def test_what_the_converter_cannot_say_is_told(
    converter: Converter, code: int, document: Any, words: str
) -> None:
    converter.says(code, document)
    with pytest.raises(CfError, match=words) as caught:
        converter.of(plan())
    assert plan().detector in caught.value.message
