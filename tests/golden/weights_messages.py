"""The terms of weights, and what `cf models` says of the models on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from compreface_cli.deploy import licences
from compreface_cli.models import consent
from compreface_cli.models.entry import ModelFile
from compreface_cli.models.licence import Terms
from compreface_cli.terminal.output import Output
from tests.cli.fake_facts import plan
from tests.cli.model_bench import SHA, a_model

Case = Callable[[Path], object]

NOBODY = (ModelFile("own/mine.onnx", (SHA,), ("http://127.0.0.1:9/m.onnx",)),)
TERMS: Final = {
    "mine": Terms("for research only", "excluded", "its publisher says so"),
    "second": Terms("for research only", "excluded", "its publisher says so"),
    "third": Terms("MIT", "unclear", "trained on VGGFace2 (given for research)"),
}


def _agree(accepts: tuple[str, ...] = (), origin: str = "default") -> Case:
    def case(_: Path) -> None:
        models = [a_model(name=name, files=NOBODY) for name in TERMS]
        licences.agree(models, TERMS, accepts, origin, Output(json_mode=True, quiet=True))

    return case


def _foresee(_: Path) -> object:
    chosen = plan(calculator="custom.Calculator@mine", models=(a_model(files=NOBODY),))
    return licences.foresee(chosen)


def _record(content: str) -> Case:
    def case(folder: Path) -> object:
        (folder / "accepted.json").write_text(content)
        return consent.read(folder / "accepted.json")

    return case


CASES: Final[Mapping[str, Case]] = {
    "terms: not accepted": _agree(),
    "terms: one is accepted": _agree(("mine",), "environment CF_ACCEPT_LICENCE"),
    "terms: of another model": _agree(("yours",), "flag --accept-licence"),
    "terms: in a dry run": _foresee,
    "terms: unreadable record": _record("{"),
    "terms: no table": _record("[]"),
}
