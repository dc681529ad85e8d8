"""From an empty home, each bundled build is listed, fetched, started and asked for a face.

    CF_SHARED=FOLDER PYTHONPATH=.:engine python -m tests.e2e.walk HOST:PORT [--whole] [--docker B]

The registry at HOST:PORT and a web server stand in for the public ones. Printed: a row for each
command, with its seconds and the bytes that it fetched; then the same without any of them, from a
mirror folder that `cf models pull -o` made. `--whole`: networks of the real depths, and images with
150 MB of packages. `--docker`: a build that is started with Docker too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compreface_cli.models import catalogue, sources
from compreface_cli.models.entry import Model
from tests.cli.local_cf import shared_environment
from tests.e2e import standin_weights as weights
from tests.e2e.machine import PORTRAITS
from tests.e2e.public_places import Image, Rewriting, Web, copied_tree, image, push, serving
from tests.shared import ROOT

BUILDS = sorted(path.stem for path in (ROOT / "builds").glob("*.yaml"))
GPU = [name for name in BUILDS if name.endswith("-gpu")]
ACCEPT = ("--accept-licence", "all")
_REPOSITORY = "exadel/compreface-core"


@dataclass(frozen=True)
class Sizes:
    """How deep the seeded networks are, and how large the images."""

    r50: Sequence[int] = weights.SMALL
    r100: Sequence[int] = weights.SMALL
    thin: int = 8
    frameworks: int = 1_000_000


SMALL = Sizes()
WHOLE = Sizes(weights.R50, weights.R100, 1, 150_000_000)


def contents(sizes: Sizes) -> dict[str, bytes]:
    """What stands in for each file that has an address of its own, by its path in the catalogue."""
    real = weights.real
    same = (
        "yunet/yunet_n_dynamic.onnx", "scrfd/scrfd_500m.onnx",
        "retinaface_mnet025/mnet.25-symbol.json", "retinaface_mnet025/mnet.25-0000.params",
        *(f"{name}/model-{part}" for name in ("arcface_mobilefacenet", "genderage_v1")
          for part in ("symbol.json", "0000.params")),
    )  # fmt: skip
    return {
        **{path: real(*path.split("/")) for path in same},
        "yunet/face_detection_yunet_2023mar.onnx": real("yunet", "yunet_n_640_640.onnx"),
        "scrfd/scrfd_10g_kps.onnx": real("scrfd", "scrfd_2.5g_bnkps.onnx"),
        "w600k_mbf/w600k_mbf.onnx": real("w600k_mbf", "w600k_mbf_dequantised_fp32.onnx"),
        "w600k_r50/w600k_r50.onnx": weights.arcface_onnx(sizes.r50, thin=sizes.thin),
        "auraface/glintr100.onnx": weights.arcface_onnx(sizes.r100, thin=sizes.thin),
        "sface/face_recognition_sface_2021dec.onnx": weights.sface(),
        "genderage/genderage.onnx": weights.genderage(),
        "facenet/20180402-114759-vggface2.pt": weights.facenet_state_dict(),
    }


def images(sizes: Sizes) -> dict[str, Image]:
    """What stands in for upstream's images, by their public digests."""

    def pair(folder: str, prefix: str, files: tuple[bytes, bytes]) -> dict[str, bytes]:
        names = (f"{prefix}-symbol.json", f"{prefix}-0000.params")
        return {f"{folder}/{name}": data for name, data in zip(names, files, strict=True)}

    def checkpoint(folder: str, labels: int) -> dict[str, bytes]:
        index, data = weights.inception_checkpoint(labels)
        return {
            f"{folder}/checkpoint": b'model_checkpoint_path: "checkpoint-14999"\n',
            f"{folder}/checkpoint-14999.index": index,
            f"{folder}/checkpoint-14999.data-00000-of-00001": data,
        }

    real, mask = weights.real, "facemask/mask/mobilenet_v2_on_mafa_kaggle123"
    mnet = (
        real("retinaface_mnet025", "mnet.25-symbol.json"),
        real("retinaface_mnet025", "mnet.25-0000.params"),
    )
    attributes = {f"{mask}/mobilenet_v2_on_mafa_kaggle123.params": weights.gluon_mask()}
    small: dict[str, bytes] = {}
    for folder, name in (
        ("insightface/calculator/arcface_mobilefacenet", "arcface_mobilefacenet"),
        ("insightface/age/genderage_v1", "genderage_v1"),
        ("insightface/gender/genderage_v1", "genderage_v1"),
    ):
        files = (real(name, "model-symbol.json"), real(name, "model-0000.params"))
        to = small if "calculator" in folder else attributes
        to |= pair(folder, "model", files)
    facenet = {
        "facenet/calculator/20180402-114759/20180402-114759.pb": real(
            "facenet", "20180402-114759.pb"
        ),
        "facenet/calculator/20180402-114759/model-20180402-114759.meta": b"graph",
        **checkpoint("agegender/age/22801", 8),
        **checkpoint("agegender/gender/21936", 2),
        **{
            f"facemask/mask/inception_v3_on_mafa_kaggle123/{name}": data
            for name, data in weights.saved_mask().items()
        },
    }
    detector = "insightface/detector"
    large = {
        **pair(f"{detector}/retinaface_r50_v1", "R50", mnet),
        **pair(
            "insightface/calculator/arcface-r100-msfdrop75",
            "model",
            weights.arcface_mxnet(sizes.r100, thin=sizes.thin),
        ),
    }
    small |= pair(f"{detector}/retinaface_mnet025_v1", "mnet.25", mnet)
    made = {
        "22801": image(facenet, frameworks=sizes.frameworks),
        "retinaface_mnet025_v1": image({**small, **attributes}, frameworks=sizes.frameworks),
        "retinaface_r50_v1": image({**large, **attributes}, frameworks=sizes.frameworks),
    }
    models = catalogue.models()
    return {digest: made[name] for name in made for digest in _digests(models[name])}


def _digests(model: Model) -> list[str]:
    named = [sources.parse(line) for line in model.files[0].sources]
    return [source.digest for source in named if source.kind == "oci"]


# --- the walk -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A command of the walk, its seconds, the bytes that it fetched and what came of it."""

    build: str
    command: str
    seconds: float
    fetched: int
    result: str = ""


@dataclass
class Home:
    """`cf` of a copied tree in an empty home; each command becomes a step."""

    tree: Path
    root: Path
    web: Web
    steps: list[Step] = field(default_factory=list)
    more: dict[str, str] = field(default_factory=dict)  # variables

    def __post_init__(self) -> None:
        """The engine's environment is the one that the tests share."""
        environment = shared_environment()
        homes = self.root / "data" / "compreface-cli" / "engine-env"
        homes.mkdir(parents=True)
        (homes / environment.key).symlink_to(environment.folder)

    def json(
        self, build: str, *arguments: str, exit_code: int = 0, timeout_s: float = 900
    ) -> dict[str, Any]:
        """The document of `cf ... --json`; raises AssertionError for another exit code."""
        before, started = self.web.bytes_sent(), time.monotonic()
        xdg = {f"XDG_{name}_HOME": str(self.root / name.lower()) for name in
               ("DATA", "STATE", "CONFIG", "CACHE")}  # fmt: skip
        kept = {key: value for key, value in os.environ.items() if not key.startswith("CF_")}
        done = subprocess.run(
            [sys.executable, "-m", "compreface_cli.cli", *arguments, "--json"],
            cwd=self.root,
            env={
                **kept, **xdg, "HOME": str(self.root), "PYTHONPATH": str(self.tree),
                "CF_RUNTIME": "onnxruntime",  # `auto` measures those of another environment
                **self.more,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )  # fmt: skip
        words = f"cf {' '.join(arguments)}"
        assert done.returncode == exit_code, (
            f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        document: dict[str, Any] = json.loads(done.stdout)
        fetched = self.web.bytes_sent() - before
        self.steps.append(Step(build, words, time.monotonic() - started, fetched))
        return document

    def noted(self, result: str) -> None:
        """Say what came of the last step."""
        last = self.steps[-1]
        self.steps[-1] = Step(last.build, last.command, last.seconds, last.fetched, result)

    def started_and_asked(
        self, build: str, launcher: str = "process", instance: str = ""
    ) -> dict[str, Any]:
        """Start it, ask it for the portrait's face, stop it; returns the face."""
        instance = instance or build
        flags = ["--launcher", launcher, "--port", "auto", *ACCEPT]
        flags += ["--services", "core"] if launcher == "compose" else []
        flags += ["--instance", instance] if instance != build else []
        started = self.json(build, "up", build, *flags)
        self.noted(f"{started['calculator']}, cosine {started['proof']['cosine']:.4f}")
        asked = self.json(build, "scan", str(PORTRAITS / "astronaut.png"), "--instance", instance)
        (photograph,) = asked["pictures"]
        (face,) = photograph["faces"]
        self.noted(_said(face))
        self.json(build, "down", instance)
        found: dict[str, Any] = face
        return found


def _said(face: Mapping[str, Any]) -> str:
    answers = {key: face[key]["value"] for key in ("gender", "mask") if key in face}
    return ", ".join(["1 face", *(f"{key} {value}" for key, value in answers.items())])


@contextmanager
def public_places(registry: str, sizes: Sizes, work: Path) -> Iterator[tuple[Path, Web]]:
    """The copied tree, and the web that stands in for the public one while the context lasts."""
    made = images(sizes)
    for each in {one.digest: one for one in made.values()}.values():
        push(registry, _REPOSITORY, each)
    with serving(Web(registry)) as web:
        text = Rewriting(catalogue.PATH.read_text("utf-8"), contents(sizes), made, web).rewritten()
        yield copied_tree(work / "tree", text), web


def walk(home: Home, build: str) -> dict[str, Any]:
    """Listed, fetched, started and asked for a face; returns the face.

    A build for a GPU is refused where there is none; it has no face then.
    """
    listed = home.json(build, "list-builds")["builds"]
    (row,) = [row for row in listed if row["name"] == build]
    assert row["fault"] is None
    home.json(build, "models", "pull", build, *ACCEPT)
    if build not in GPU:
        return home.started_and_asked(build)
    refused = home.json(build, "up", build, *ACCEPT, "--launcher", "process", exit_code=7)
    home.noted(refused["error"]["details"]["findings"][0]["message"])
    return {}


def table(steps: Sequence[Step]) -> str:
    """The steps as a Markdown table."""
    rows = ["| build | command | s | MB fetched | result |", "| --- | --- | --- | --- | --- |"]
    for step in steps:
        size = f"{step.fetched / 1e6:.1f}" if step.fetched else "-"
        words = step.command.replace(str(PORTRAITS), "portraits")
        rows.append(f"| {step.build} | `{words}` | {step.seconds:.1f} | {size} | {step.result} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("registry")
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--docker", action="append", default=[])
    parser.add_argument("--build", action="append", default=[])
    args = parser.parse_args()
    builds = args.build or BUILDS
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sizes = WHOLE if args.whole else SMALL
        with public_places(args.registry, sizes, work) as (tree, web):
            home = Home(tree, work / "home", web)
            try:
                for build in builds:
                    walk(home, build)
                for build in args.docker:
                    home.started_and_asked(build, "compose")
                mirror = home.root / "mirror"
                home.json("all", "models", "pull", *builds, "-o", str(mirror), *ACCEPT)
            finally:
                print(table(home.steps))
        offline = Home(tree, work / "offline", web, more={"CF_MODELS_MIRROR": str(mirror)})
        try:
            for build in builds:
                if build not in GPU:
                    offline.started_and_asked(build)
        finally:
            print(table(offline.steps))


if __name__ == "__main__":
    main()
