"""The terms of weights, and what `cf models` says of the models on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from compreface_cli.config.settings import Settings
from compreface_cli.deploy import licences
from compreface_cli.errors import UnreachableError
from compreface_cli.models import consent
from compreface_cli.models.entry import ModelFile
from compreface_cli.models.licence import Terms
from compreface_cli.models.store import Places
from compreface_cli.terminal.output import Output
from compreface_cli.weights import known, mirror, pull, verify
from tests.cli import fetched_build
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


def _differing(folder: Path) -> object:
    (folder / "builds").mkdir()
    for name, sha256 in (("first", "0" * 64), ("second", "1" * 64)):
        path = Path(fetched_build.write(folder / "builds", "http://127.0.0.1:9/m", sha256=sha256))
        text = path.read_text().replace("name: mine", f"name: {name}")
        path.with_name(f"{name}.yaml").write_text(text)
        path.unlink()
    return pull.asked_for(["my-model"], Settings())


def _mirror_at_a_file(folder: Path) -> object:
    (folder / "mirror").write_text("")
    return mirror.make(pull.Request((), {}, ()), Path("mirror"), Output(quiet=True))


def _mirror_outside(folder: Path) -> object:
    files = (ModelFile("../mine.onnx", (SHA,), ()),)
    wanted = pull.Wanted((a_model(files=files),), TERMS, frozenset())
    obtained = {"mine": {"../mine.onnx": (folder / "mine.onnx", SHA)}}
    return mirror.put(wanted, obtained, folder, Places(), Output(quiet=True))


def _optional(_: Path) -> object:
    """The warning about a model that has a fallback."""
    told = _Said()
    pull.Wanted((), {}, frozenset()).warn_of(
        {"mine": UnreachableError("could not download m.onnx: no source is known")}, told
    )
    return told.said


class _Said(Output):
    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.said: list[str] = []

    def warning(self, text: str) -> None:
        self.said.append(f"warning: {text}")


CASES: Final[Mapping[str, Case]] = {
    "terms: not accepted": _agree(),
    "terms: one is accepted": _agree(("mine",), "environment CF_ACCEPT_LICENCE"),
    "terms: of another model": _agree(("yours",), "flag --accept-licence"),
    "terms: in a dry run": _foresee,
    "terms: unreadable record": _record("{"),
    "terms: no table": _record("[]"),
    # cf models
    "pull: no such name": lambda _: pull.asked_for(["w600k_mbff"], Settings()),
    "pull: builds differ": _differing,
    "pull: a model with a fallback": _optional,
    "mirror: no folder": _mirror_at_a_file,
    "mirror: a path that leads out of it": _mirror_outside,
    "verify: not here": lambda _: verify.verify(["w600k_mbf"], known.named(), print),
    "path: not prepared": lambda _: known.folder_of("w600k_mbf"),
    "path: no such model": lambda _: known.folder_of("nobody"),
}
