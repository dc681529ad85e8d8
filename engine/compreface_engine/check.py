"""`python -m compreface_engine check`: checks the installation and the configuration."""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import importlib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from compreface_engine import __version__
from compreface_engine.core.errors import EXIT_CONFIGURATION, ConfigurationError, EngineError
from compreface_engine.settings import Settings

if TYPE_CHECKING:
    from compreface_engine.pipeline import FaceAnswer

# Networks and pixels are imported late: `--help` and errors of settings need neither.

EXIT_DAMAGED: Final = 1
_PACKAGES: Final = ("numpy", "cv2", "simplejpeg", "onnxruntime")
_MEMORY: Final = 2 << 30
_MEMORY_A_BYTE: Final = 12
_MEMORY_A_CORE: Final = 16 << 20
"""FaceNet's graph of 95 MB takes 1.05 GB at its peak; a core has stacks of 8 MB in two pools."""


class Damaged(EngineError):
    """A package or a file of the installation is missing or changed."""


def main(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    """The exit code: 0 success, 1 the installation is damaged, 3 the configuration cannot run.

    The result is printed on stdout, with `--json` as one document; errors go to stderr too.
    """
    options = _parser().parse_args(arguments)
    try:
        result = _check(options, environ)
    except Damaged as error:
        return _fail(options, "damaged", str(error), EXIT_DAMAGED)
    except (EngineError, MemoryError) as error:
        reason = str(error) or "the models need more memory than files of their size should"
        return _fail(options, "configuration", reason, EXIT_CONFIGURATION)
    if options.json:
        print(json.dumps({"schema_version": 1, **result}))
        return 0
    print(f"compreface-engine {result['version']}: the installation is complete")
    for slug, version in result.get("plugins", {}).items():
        print(f"{slug}: {version}")
    if "face" in result:
        print(f"face: {result['face']['box']}, probability {result['face']['probability']:.4f}")
    return 0


def _check(options: argparse.Namespace, environ: Mapping[str, str]) -> dict[str, Any]:
    check_installation()
    result: dict[str, Any] = {"version": __version__}
    if options.installation:
        return result
    settings = Settings.from_env(environ)
    if options.limit_memory:
        limit_memory(settings.models_dir.rglob("*.onnx") if settings.models_dir else ())
    from compreface_engine.pipeline import Pipeline

    pipeline = Pipeline.load(settings.pipeline_config())
    result |= {
        "plugins": pipeline.plugins,
        "similarity": list(pipeline.similarity_coefficients),
    }
    if options.portrait is not None:
        try:
            data = options.portrait.read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"{options.portrait} cannot be read: {error.strerror}"
            ) from error
        image = pipeline.decode(data).image
        faces = pipeline.scan(image, min_score=None, detect=True, slugs=frozenset(pipeline.plugins))
        if len(faces) != 1:
            raise ConfigurationError(
                f"{settings.detector} finds {len(faces)} faces in {options.portrait.name}, not 1"
            )
        result["face"] = describe(faces[0])
    return result


def check_installation() -> None:
    """Imports the packages and compares the package's networks with the hashes of its wheel.

    Raises Damaged. Sources that were not installed have no hashes to compare.
    """
    for name in _PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise Damaged(f"the package {name} cannot be imported: {error}") from error
    try:
        engine = metadata.distribution("compreface-engine")
    except metadata.PackageNotFoundError:
        return
    # The wheel's own list: `metadata.files` leaves out what is missing, from Python 3.12 on.
    for name, installed_as, _ in csv.reader((engine.read_text("RECORD") or "").splitlines()):
        algorithm, _, expected = installed_as.partition("=")
        if not name.endswith(".onnx") or not expected:
            continue
        path = Path(str(engine.locate_file(name)))
        try:
            digest = hashlib.new(algorithm, path.read_bytes()).digest()
        except OSError as error:
            raise Damaged(f"{path.name} cannot be read: {error}") from error
        if base64.urlsafe_b64encode(digest).decode().rstrip("=") != expected:
            raise Damaged(f"{path.name} is not the file that was installed")


def describe(face: FaceAnswer) -> dict[str, Any]:
    """`box` [x_min, y_min, x_max, y_max] in px, `probability` 0..1, and the plugins' answers."""
    box = face.box
    answers = json.dumps(face.answers, default=lambda of_numpy: of_numpy.tolist())
    return {
        "box": [box.x_min, box.y_min, box.x_max, box.y_max],
        "probability": float(box.probability),
        **json.loads(answers),
    }


def limit_memory(models: Iterable[Path]) -> None:
    """Limits this process to the memory that work on model files of their size can need.

    A hostile file then causes an error instead of swapping. Written memory counts, not the address
    space, which grows with the cores.
    """
    try:
        import resource

        size = sum(path.stat().st_size for path in models if path.is_file())
        limit = _MEMORY + _MEMORY_A_BYTE * size + _MEMORY_A_CORE * (os.cpu_count() or 1)
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    except (ImportError, OSError, ValueError):  # not on this system
        return


def _fail(options: argparse.Namespace, code: str, message: str, status: int) -> int:
    if options.json:
        print(json.dumps({"schema_version": 1, "error": {"code": code, "message": message}}))
    print(f"compreface-engine: {' '.join(message.split())}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m compreface_engine check",
        allow_abbrev=False,
        description="Checks the installation, loads the plugins and models that the environment "
        "variables name, as a start would, and exits.",
        epilog="exit codes: 0 success, 1 damaged installation, 3 the configuration cannot run",
    )
    parser.add_argument("--installation", action="store_true", help="check the installation only")
    parser.add_argument("--portrait", type=Path, metavar="FILE", help="scan it: one face, no more")
    parser.add_argument(
        "--limit-memory",
        action="store_true",
        help="for models of unknown origin: at most the memory that their size can need",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    return parser
