"""`python -m compreface_convert prepare`: makes models ready for the engine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from compreface_convert.errors import ConvertError
from compreface_engine.check import limit_memory

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


def main(arguments: Sequence[str] | None = None, *, limited: bool = False) -> int:
    """Run a command: its result goes to stdout as JSON, its progress to stderr.

    Exit codes: 0 done, 1 a package is missing, 9 the file or its entry is refused. `limited` bounds
    the memory of this process by what a model of that size can need.
    """
    options = _parser().parse_args(arguments)
    if limited:
        limit_memory(options.models_source)
    try:
        result = _prepare(options)
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
    return parser


if __name__ == "__main__":
    sys.exit(main(limited=True))
