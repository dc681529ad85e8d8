"""Finds, loads and writes build files: by path, in ./builds, the user's, imported, bundled."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from compreface_cli import plugin_table, resources
from compreface_cli.builds import imported
from compreface_cli.config import parsed, paths
from compreface_cli.config.settings_table import BY_KEY, DEFAULT_BUILD
from compreface_cli.config.yamlfile import Document, Fault, did_you_mean, parse_bytes, read, refuse
from compreface_cli.errors import CfError, ConfigurationError, ConflictError
from compreface_cli.models.entry import Model

if TYPE_CHECKING:
    from compreface_cli.builds.spec import BuildSpec, ModelSpec

Origin = Literal["path", "project", "user", "imported", "bundled", "image"]
CUSTOM_NAME = "custom-build"
RENAMED: Mapping[str, str] = {"scrfd-w600k": "buffalo-s"}  # former name -> name of today
_MARK = "# Written by cf; if you edit it, cf will not replace it. Content: "


@dataclass(frozen=True, slots=True)
class BuildFile:
    """A build, its file and where that was found."""

    spec: BuildSpec
    origin: Origin
    path: Path

    @property
    def name(self) -> str:
        return self.spec.name


@dataclass(frozen=True, slots=True)
class Listed:
    """A build for a list: its file's data, parsed as YAML but not checked."""

    name: str
    origin: Origin
    path: Path
    data: Mapping[str, Any]
    fault: str = ""


def folders() -> list[tuple[Origin, Path]]:
    """The folders that are searched for a build's name, in order."""
    bundled = resources.builds_dir()
    here = Path.cwd() / "builds"
    own: list[tuple[Origin, Path]] = [
        ("user", paths.user_builds()),
        ("imported", paths.imported_builds()),
        ("bundled", bundled),
    ]
    same = here.is_dir() and bundled.is_dir() and here.samefile(bundled)
    return own if same or not here.is_dir() else [("project", here), *own]


def _files() -> Iterator[tuple[Origin, Path]]:
    listed_names: set[str] = set()
    for origin, folder in folders():
        inside = imported.files(folder) if origin == "imported" else folder.glob("*.yaml")
        for path in sorted(inside, key=lambda path: path.stem):
            if path.is_file() and path.stem not in listed_names:
                listed_names.add(path.stem)
                yield origin, path


def names() -> list[str]:
    return [path.stem for _, path in _files()]


def listed() -> list[Listed]:
    """Every build that can be named, the bundled default first, without checking the files."""
    builds = []
    for origin, path in _files():
        try:
            data, fault = parsed.data(path, _data), ""
        except CfError as error:
            data, fault = {}, error.message
        if not isinstance(data, dict):
            data, fault = {}, "not a build file"
        builds.append(Listed(path.stem, origin, path, data, fault))
    order = {"bundled": 0, "user": 1, "project": 2, "imported": 3, "path": 4}
    return sorted(builds, key=lambda build: (order[build.origin], build.name != DEFAULT_BUILD))


def _data(raw: bytes, origin: str) -> Any:
    return parse_bytes(raw, origin).data


def find(name: str | Path) -> tuple[Origin, Path]:
    """The origin and file of that build; raises ConfigurationError for an unknown one."""
    if isinstance(name, Path) or "/" in name or name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
        _require_file(path, name)
        return "path", path.resolve()
    for origin, path in _files():
        if path.stem == name:
            return origin, path
    if name in RENAMED:
        raise renamed(name)
    suggestion = did_you_mean(name, names())
    raise ConfigurationError(
        f"there is no build {name!r}" + (f"; {suggestion}" if suggestion else ""),
        hint="`cf list-builds` shows all builds; a file is named by its path, like ./my-build.yaml",
    )


def renamed(name: str) -> ConfigurationError:
    """The error that names today's name of a build of RENAMED."""
    return ConfigurationError(
        f"the build {name!r} is called {RENAMED[name]!r} now",
        hint=f"Write {RENAMED[name]}. An instance that runs under the former name is kept by "
        f"`cf up {RENAMED[name]} --instance {name}`.",
    )


def _require_file(path: Path, name: str | Path) -> None:
    if path.is_file():
        return
    if path.is_dir():
        raise ConfigurationError(
            f"{name} is a folder, not a build file", hint="name the .yaml file in it"
        )
    if path.exists():
        raise ConfigurationError(
            f"{name} is not a regular file, so it is not read as a build file",
            hint="save the build to a .yaml file and name that",
        )
    raise ConfigurationError(f"there is no build file {name}")


def load(name_or_path: str | Path) -> BuildFile:
    """The checked build; raises ConfigurationError with every fault of its file and its line."""
    origin, path = find(name_or_path)
    build = checked(read(path))
    if origin != "path" and build.name != path.stem:
        raise ConfigurationError(
            f"{path}: the build is named {build.name!r}, its file {path.name!r}",
            hint=f"rename one of them: a build is found by its file name ({build.name}.yaml)",
        )
    return BuildFile(build, origin, path)


def checked(document: Document) -> BuildSpec:
    """The build of a document; raises ConfigurationError with every fault and its line."""
    from compreface_cli.builds import spec

    build = spec.validate(document)
    taken = [
        Fault(
            document.origin,
            *document.position(("models", number, "name")),
            f"models.{number}.name: {entry.name!r} is the name of a catalogue model, and this "
            "entry differs from it",
            "choose another name, or leave the entry out; --accept-hash accepts your own file",
        )
        for number, entry in enumerate(build.models)
        if _differs_from_catalogue(entry)
    ]
    if taken:
        raise refuse(taken)
    return build


def _differs_from_catalogue(entry: ModelSpec) -> bool:
    """Whether the entry describes another model under the name of a catalogue model.

    Prepared models are stored by name, so the two would overwrite each other.
    """
    from compreface_cli.models import catalogue
    from compreface_cli.models.prepare import entry_digest

    known, own = catalogue.model(entry.name), model_of(entry)
    if known is None:
        return False

    def compared(model: Model) -> list[Any]:
        """What the conversion depends on: all but the sources."""
        return [
            (entry_digest(choice), {file.path: set(file.sha256) for file in choice.files})
            for choice in model.choices
        ]

    return compared(known) != compared(own)


def model_of(entry: ModelSpec, build_folder: str = "") -> Model:
    """The Model of a checked `models:` entry, as the store takes it."""
    return Model.from_entry(entry.model_dump(), build_folder)


def customise(base: BuildFile, name: str, changes: Mapping[str, Any]) -> BuildSpec:
    """The build with changed values under another name; `changes`: by key, None for no change.

    Raises ConfigurationError, which names the flag of each invalid value.
    """
    from compreface_cli.builds import spec

    data = base.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    data = {"schema": 1, **data, **{key: v for key, v in changes.items() if v is not None}}
    data["name"] = name
    if changes.get("plugins") is not None:
        data.pop("fallbacks", None)  # whoever names the plugins wants these
    if base.name != name:
        data["summary"] = f"{base.name} with changes of your own"
    if facts := _facts_that_hold(data.pop("facts", {}), base.spec, data):
        data["facts"] = facts
    try:
        return spec.validate(read_data(data, f"build {name}"))
    except ConfigurationError as error:  # its line numbers belong to no file
        faults = [_with_flag(fault, changes) for fault in error.details["faults"]]
        raise ConfigurationError("\n".join(faults)) from error


def _with_flag(fault: Mapping[str, Any], changes: Mapping[str, Any]) -> str:
    """The text of a fault, with the flag that set the value in place of the key."""
    place, _, reason = fault["message"].partition(": ")
    key = place.partition(".")[0]
    if changes.get(key) is not None:
        place = f"flag {BY_KEY[key].flag}"
    return f"{place}: {reason}" + (f"; {fault['hint']}" if fault["hint"] else "")


def _facts_that_hold(
    facts: Mapping[str, Any], base: BuildSpec, changed: Mapping[str, Any]
) -> dict[str, Any]:
    """The facts that are still true: accuracy and licence hold for unchanged plugins only."""

    def same(before: str, after: str) -> bool:
        """Whether both are the same plugin with the same model, named or by default."""
        model = plugin_table.model_of(before)
        return before == after or (
            model is not None
            and model == plugin_table.model_of(after)
            and plugin_table.split(before)[0] == plugin_table.split(after)[0]
        )

    calculator = same(base.calculator, str(changed["calculator"]))
    detector = same(base.detector, str(changed["detector"]))
    # Recognition was measured on the faces that this detector found.
    holds = {"recognition": calculator and detector, "detection": detector}
    kept = {
        **facts,
        "good_for": facts.get("good_for") if calculator and detector else None,
        "accuracy": [
            figure for figure in facts.get("accuracy", ()) if holds[figure.get("of", "recognition")]
        ],
        "licence": _licence(facts.get("licence"), base, changed, calculator and detector),
        "upstream": facts.get("upstream") if calculator and detector else None,
        "note": facts.get("note") if calculator and detector else None,
    }
    return {key: value for key, value in kept.items() if value}


def _licence(
    stated: Mapping[str, Any] | None, base: BuildSpec, changed: Mapping[str, Any], same: bool
) -> Mapping[str, Any] | None:
    """The terms of the base build if they cover all plugins, else the strictest of all models."""
    from compreface_cli.models import licence

    plugins = changed.get("plugins", plugin_table.UI_PLUGINS)
    more = [plugin for plugin in plugins if plugin not in base.plugins]
    level = str((stated or {}).get("commercial", "unclear"))
    if same and not licence.stricter(licence.together(more)["commercial"], level):
        return stated
    return licence.together((changed["detector"], changed["calculator"], *plugins), stated)


def read_data(data: Mapping[str, Any], origin: str) -> Any:
    """Plain data as a document that is checked like a file; its line numbers mean nothing."""
    from compreface_cli.config.yamlfile import parse

    return parse(_dump(data), origin)


def _dump(data: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, width=100)


def text_of(spec: BuildSpec) -> str:
    """The text of the build's file; its first line has the hash by which `cf` recognises it."""
    data = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    ordered = {"schema": 1, **data}
    body = _dump(ordered)
    return f"{_MARK}{hashlib.sha256(body.encode()).hexdigest()}\n{body}"


def written_by_cf(text: str) -> bool:
    """Whether `cf` wrote this build file, and it was not edited since."""
    first, _, body = text.partition("\n")
    return first == _MARK + hashlib.sha256(body.encode()).hexdigest()


def save_custom(spec: BuildSpec, folder: Path | None = None) -> Path:
    """Save a build in ./builds if that folder exists, else in the user's builds; returns the path.

    Raises ConflictError with a diff for a file that differs and that `cf` did not write.
    """
    path = place_for(spec, folder)
    text = text_of(spec)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, "utf-8")
    part.replace(path)
    return path


def place_for(spec: BuildSpec, folder: Path | None = None) -> Path:
    """The path that `save_custom` writes to; raises ConflictError as it does."""
    if folder is None:
        here = Path.cwd() / "builds"
        folder = here if here.is_dir() else paths.user_builds()
    path = folder / f"{spec.name}.yaml"
    if path.exists() and not path.is_file():
        raise ConflictError(f"{path} is not a regular file", hint="choose another name with --name")
    if path.exists():
        present, text = path.read_text("utf-8", errors="replace"), text_of(spec)
        if present != text and not written_by_cf(present):
            raise ConflictError(
                f"{path} was not written by cf, or was edited since; it is not replaced\n"
                + _diff(present, text, path),
                hint="choose another name with --name, or move the file away",
            )
    return path


def _diff(present: str, wanted: str, path: Path) -> str:
    from difflib import unified_diff

    lines = unified_diff(
        present.splitlines(), wanted.splitlines(), str(path), "what cf would write", lineterm=""
    )
    return "\n".join(lines)
