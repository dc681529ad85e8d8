"""Locates templates, builds, portraits and the engine's wheels, in a checkout or when installed."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
_BUNDLE = PACKAGE / "_bundle"
# Each package below engine/, with the pyproject.toml of its wheel.
PROJECTS = {
    "compreface_engine": Path("pyproject.toml"),
    "compreface_convert": Path("compreface_convert", "pyproject.toml"),
}
# Tables that the engine and `cf` both read; in the engine each lies in the package of that name.
ENGINE_TABLES = ("plugins", "runtimes")
# The photographs in `portraits/`: the reference face, and another person.
PORTRAIT, SECOND_PORTRAIT = "astronaut.png", "grace_hopper.jpg"
# Fixed time of all members, so that equal sources give identical wheels.
_STAMP = (2024, 1, 1, 0, 0, 0)


def checkout() -> Path | None:
    """The root of the checkout that this package runs from; None when installed from a wheel."""
    root = PACKAGE.parent
    return root if (root / "engine" / "pyproject.toml").is_file() else None


def _data(name: str) -> Path:
    root = checkout()
    return _BUNDLE / name if root is None else root / name


def builds_dir() -> Path:
    return _data("builds")


def templates_dir() -> Path:
    return _data("templates")


def portraits_dir() -> Path:
    return PACKAGE / "portraits"


def portrait() -> Path:
    """The reference face that engines are checked with."""
    return portraits_dir() / PORTRAIT


def engine_requirements(row: str) -> Path:
    """The hashed requirements of a row of the wheel table: cpu, cuda13, ..."""
    return _data("engine") / "requirements" / f"{row}.txt"


def engine_table(name: str) -> Path:
    """One of `ENGINE_TABLES`, as JSON."""
    root = checkout()
    if root is not None:
        return root / "engine" / "compreface_engine" / name / f"{name}.json"
    return _BUNDLE / "engine" / f"{name}.json"


def engine_wheel() -> Path:
    """The engine's wheel; in a checkout, packed from the sources if they have changed."""
    return _wheel("compreface_engine")


def converter_wheel() -> Path:
    """The wheel of the converter, installed where models are prepared; in no image."""
    return _wheel("compreface_convert")


def _wheel(package: str) -> Path:
    root = checkout()
    if root is not None:
        return pack(root / "engine", package, root / ".cache" / "engine-wheel")
    bundled = sorted((_BUNDLE / "engine").glob(f"{package}-*.whl"))
    if len(bundled) != 1:
        raise FileNotFoundError(f"the wheel of {package} is missing from {_BUNDLE / 'engine'}")
    return bundled[0]


@cache
def _project(file: Path) -> tuple[str, str]:
    """The version of a package and the METADATA of its wheel, from its pyproject.toml.

    The version comes from the file that hatchling would read, `cf`'s own `__init__.py`.
    """
    import re
    import tomllib

    document = tomllib.loads(file.read_text("utf-8"))
    project = document["project"]
    source = (file.parent / document["tool"]["hatch"]["version"]["path"]).read_text("utf-8")
    (version,) = re.findall(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {project['name']}",
        f"Version: {version}",
        f"Summary: {project['description']}",
        f"Requires-Python: {project['requires-python']}",
        *(f"Requires-Dist: {need}" for need in project.get("dependencies", ())),
    ]
    for extra, needs in project.get("optional-dependencies", {}).items():
        lines.append(f"Provides-Extra: {extra}")
        for need in needs:
            name, _, marker = need.partition(";")
            condition = f"({marker.strip()}) and " if marker else ""
            lines.append(f"Requires-Dist: {name.strip()}; {condition}extra == '{extra}'")
    return version, "\n".join(lines) + "\n"


def _sources(engine: Path, package: str) -> list[Path]:
    project = engine / PROJECTS[package]
    return [
        path
        for path in sorted((engine / package).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and path != project
    ]


def pack(engine: Path, package: str, cache_folder: Path) -> Path:
    """The wheel of a package's sources, packed when they have changed; what `cf`'s wheel carries.

    `engine` is the folder that holds the packages of PROJECTS.
    """
    sources = _sources(engine, package)
    stats = tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in sources)
    wheel = _packed.get(stats)
    if wheel is None or not wheel.is_file():
        files = {path.relative_to(engine).as_posix(): path.read_bytes() for path in sources}
        version, metadata = _project(engine / PROJECTS[package])
        wheel = _write_wheel(f"{package}-{version}", metadata, files, cache_folder)
        _packed[stats] = wheel
    return wheel


_packed: dict[tuple[tuple[str, int, int], ...], Path] = {}


def _write_wheel(name: str, metadata: str, files: dict[str, bytes], cache_folder: Path) -> Path:
    """Write the wheel of a pure Python package, without a build tool."""
    import tempfile  # late: every command imports this module, few pack a wheel
    import zipfile

    info = f"{name}.dist-info"
    files[f"{info}/METADATA"] = metadata.encode()
    files[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: compreface-cli\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = "".join(
        f"{member},sha256={_urlsafe(hashlib.sha256(data).digest())},{len(data)}\n"
        for member, data in files.items()
    )
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    digest = hashlib.sha256(files[f"{info}/RECORD"]).hexdigest()[:16]
    wheel = cache_folder / digest / f"{name}-py3-none-any.whl"
    if wheel.is_file():
        return wheel
    wheel.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=wheel.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream, zipfile.ZipFile(stream, "w") as archive:
            for member, data in files.items():
                entry = zipfile.ZipInfo(member, date_time=_STAMP)
                entry.external_attr = 0o644 << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, data, compresslevel=6)
        os.replace(part, wheel)
    finally:
        Path(part).unlink(missing_ok=True)
    return wheel


def _urlsafe(digest: bytes) -> str:
    import base64

    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def revision() -> str:
    """The commit of these sources, read from the checkout or the wheel; "unknown" without one."""
    root = checkout()
    if root is None:
        recorded = _BUNDLE / "revision"
        return recorded.read_text("utf-8").strip() if recorded.is_file() else "unknown"
    recorded = root / "REVISION"
    if recorded.is_file():  # an unpacked sdist
        return recorded.read_text("utf-8").strip()
    git = root / ".git"
    try:
        if git.is_file():  # a worktree: the file names the folder
            git = (root / git.read_text("utf-8").removeprefix("gitdir:").strip()).resolve()
        head = (git / "HEAD").read_text("utf-8").strip()
        if not head.startswith("ref:"):
            return head
        ref = head.removeprefix("ref:").strip()
        common = git / "commondir"
        base = (git / common.read_text("utf-8").strip()) if common.is_file() else git
        loose = base / ref
        if loose.is_file():
            return loose.read_text("utf-8").strip()
        for line in (base / "packed-refs").read_text("utf-8").splitlines():
            commit, _, name = line.partition(" ")
            if name == ref:
                return commit
    except OSError:
        pass
    return "unknown"
