"""`python -m compreface_convert`: prepares models, and computes the known answer of a answer."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from compreface_convert.errors import ConvertError

# Imports of what reads models are late, so that the help needs none of their packages.

_MISSING_PACKAGE = 1
_REFUSED = 9
_PACKAGES: Final = {
    "flatbuffers": "flatbuffers>=24.3",
    "google_crc32c": "google-crc32c>=1.6",
    "onnx": "onnx>=1.18",
    "onnxruntime": "onnxruntime>=1.23",
}
"""Packages that an install without dependencies lacks, with the versions of the pyproject files."""
_TOO_MUCH: Final = "the network takes more memory than a network of its size needs"
_MEMORY: Final = 2 << 30
_MEMORY_PER_BYTE: Final = 12
_MEMORY_PER_CORE: Final = 16 << 20
"""The memory limit: a base, and more for each byte of the files and each core. Measured: FaceNet's
graph of 95 MB takes 1.05 GB at its peak; two thread pools have a stack of 8 MB for each core."""


def main(arguments: Sequence[str] | None = None, *, limited: bool = False) -> int:
    """Run a command: its result goes to stdout as JSON, its progress to stderr.

    Exit codes: 0 done, 1 a package is missing, 9 the file or its entry is refused. `limited` bounds
    the memory of this process by what a model of that size can need.
    """
    options = _parser().parse_args(arguments)
    if limited:
        _limit_memory(getattr(options, "models_source", []))
    try:
        result = _COMMANDS[options.command](options)
    except (ConvertError, MemoryError) as error:
        return _fail("refused", str(error) or _TOO_MUCH, _REFUSED)
    except ModuleNotFoundError as error:
        if error.name not in _PACKAGES:
            raise
        line = f"pip install '{_PACKAGES[error.name]}'"
        return _fail(
            "missing-package", f"this needs the package {error.name}: {line}", _MISSING_PACKAGE
        )
    print(json.dumps({"schema_version": 1, **result}))
    return 0


def _fail(code: str, message: str, status: int) -> int:
    print(json.dumps({"schema_version": 1, "error": {"code": code, "message": message}}))
    print(f"{code.replace('-', ' ')}: {message}", file=sys.stderr)
    return status


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _prepare(options: argparse.Namespace) -> dict[str, object]:
    from compreface_convert.prepare import prepare

    model = prepare(
        options.spec,
        options.models_source,
        options.out,
        options.portrait,
        _say,
        keep_source=options.keep_source,
    )
    return {"folder": str(options.out / str(model["name"])), "model": model}


def _answer(options: argparse.Namespace) -> dict[str, object]:
    from compreface_convert.answers import answer
    from compreface_convert.verify import read_portrait

    portrait = read_portrait(options.portrait)
    return answer(options.detector, options.calculator, options.models_dir, portrait)


_COMMANDS: Final = {"prepare": _prepare, "answer": _answer}


def _limit_memory(sources: Sequence[Path]) -> None:
    """Limit the memory of this process, so that a hostile file ends in an error, not in swap.

    RLIMIT_DATA counts written memory; the address space would grow with the number of cores.
    """
    try:
        import resource

        size = sum(path.stat().st_size for path in sources if path.is_file())
        cores = os.cpu_count() or 1
        limit = _MEMORY + _MEMORY_PER_BYTE * size + _MEMORY_PER_CORE * cores
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    except (ImportError, OSError, ValueError):  # the system has no such limit
        return


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m compreface_convert")
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser(
        "prepare", help="prepare a model: convert it, verify it, write its folder"
    )
    prepare.add_argument("--spec", type=Path, required=True, help="the model's entry, a JSON file")
    prepare.add_argument("--models-source", type=Path, nargs="+", required=True, metavar="FILE")
    prepare.add_argument("--out", type=Path, required=True, help="folder of prepared models")
    prepare.add_argument(
        "--portrait", type=Path, help="a photograph of a face; its answer is stored"
    )
    prepare.add_argument(
        "--keep-source", action="store_true", help="copy the source files to source/"
    )
    prepare.add_argument("--json", action="store_true", help="no effect: the result is always JSON")
    answer = commands.add_parser("answer", help="compute the answer of two plugins for a portrait")
    answer.add_argument("--detector", required=True, metavar="PLUGIN")
    answer.add_argument("--calculator", required=True, metavar="PLUGIN")
    answer.add_argument("--models-dir", type=Path, help="folder of prepared models")
    answer.add_argument("--portrait", type=Path, required=True)
    answer.add_argument("--json", action="store_true", help="no effect: the result is always JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main(limited=True))
