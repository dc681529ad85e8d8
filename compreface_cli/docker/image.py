"""The engine's image: builds, finds, pulls and removes it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from compreface_cli.docker import cli, client
from compreface_cli.docker.labels import IMAGE, LABEL_BASE, LABEL_BUILD, LABEL_RENDER
from compreface_cli.errors import CfError, FetchError

if TYPE_CHECKING:
    from compreface_cli.cleanup import CleanUp, Report

# Shows a wait and yields `show(label)`; Output.waiting is one.
Waiting: TypeAlias = Callable[[str], AbstractContextManager[Callable[[str], None]]]

_STEP = re.compile(r"#(\d+) \[(?:\S+ +)?\d+/\d+\] (.*)")
_ENDED = re.compile(r"#(\d+) (CACHED|DONE) ?(?:(\d+)(?:\.\d+)?s)?")
_STEPS = ("ADD", "COPY", "RUN", "WORKDIR")  # instructions that are steps of a build, as FROM is
_WIDTH = 90  # characters of a step's text
_FAILED = re.compile(r"#(\d+) ERROR:? ")
_PREFIX = re.compile(r"#\d+ (?:\d+\.\d+ )?")


@dataclass(frozen=True, slots=True)
class Image:
    """An image on this machine; `size` in bytes, all layers counted."""

    id: str  # "sha256:..."
    tags: tuple[str, ...]
    size: int
    labels: Mapping[str, str] = field(default_factory=dict)
    digests: tuple[str, ...] = ()  # "repository@sha256:...", once it was pulled or pushed
    built: bool = False  # by this run; else it existed, made from the same files

    @property
    def build(self) -> str:
        """The name of the build that `cf` made it from; "" for other images."""
        return self.labels.get(LABEL_BUILD, "")

    @property
    def name(self) -> str:
        """Its first name, or its id if a newer image has taken the name."""
        return self.tags[0] if self.tags else self.id

    @property
    def others(self) -> tuple[str, ...]:
        """The names that the user gave it."""
        return tuple(tag for tag in self.tags if not tag.startswith(f"{IMAGE}:"))


def find(tag: str) -> Image | None:
    """The local image of that name, or None."""
    row = client.find("images", tag, "json", doing=f"look for {tag}")
    return _image({**row, **row["Config"]}) if row else None


def listed(*labels: str, doing: str = "", timeout_s: float = client.ANSWER_S) -> list[Image]:
    """All images that have each `label` or `label=value`, unnamed ones too."""
    filters = {"label": labels}
    rows = client.get("images", "json", doing=doing, timeout_s=timeout_s, filters=filters)
    return [_image(row) for row in rows]


def _image(row: Mapping[str, Any]) -> Image:
    return Image(
        id=row["Id"],
        tags=tuple(sorted(tag for tag in row.get("RepoTags") or () if tag != "<none>:<none>")),
        size=int(row.get("Size") or 0),
        labels=row.get("Labels") or {},
        digests=tuple(row.get("RepoDigests") or ()),
    )


def id_of(tag: str) -> str:
    """The id of the local image of that name; "" if there is none."""
    image = find(tag)
    return image.id if image else ""


def fingerprint(context: Path) -> str:
    """SHA-256 over the names and contents of all files of a build context."""
    files = {}
    for path in (item for item in context.rglob("*") if item.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        files[path.relative_to(context)] = content
    return _total(files)


def _total(files: Mapping[Path, str]) -> str:
    """The hash of a build context; `files`: SHA-256 of each file by its path in the context."""
    total = hashlib.sha256()
    for path, content in sorted(files.items()):
        total.update(f"{path.as_posix()}\0{content}\n".encode())
    return total.hexdigest()


def fingerprint_of(project: Mapping[str, str]) -> str:
    """The `fingerprint` of a project's folder `core/`; `project`: SHA-256 by path."""
    paths = {Path(name): sha for name, sha in project.items() if name.startswith("core/")}
    return _total({path.relative_to("core"): sha for path, sha in paths.items()})


@contextmanager
def silent(label: str) -> Iterator[Callable[[str], None]]:
    """Show nothing."""
    yield lambda text: None


def obtain(
    name: str,
    *,
    report: Report,
    waiting: Waiting = silent,
    pull: bool = False,
    watch: cli.Watch | None = None,
) -> Image:
    """The local image of that name; pulled if it is absent, or always with `pull`.

    `watch` is called every second; an error that it returns ends the pull. Raises FetchError when
    the image cannot be pulled.
    """
    before = find(name)
    if before is not None and not pull:
        return before
    try:
        with waiting(f"pulling {name}"):
            cli.run(
                *("pull", "--quiet", name),
                doing=f"pull {name}",
                timeout_s=None,
                on_line=lambda line: None,
                watch=watch,
            )
    except CfError as failed:
        if before is None or not isinstance(failed, FetchError):
            raise
        output = failed.details.get("output") or [failed.message]
        raise FetchError(
            f"--pull: {name} cannot be pulled: {output[-1]}",
            hint="Check the network and the name. Without --pull the local image is used.",
            details=failed.details,
        ) from failed
    now = find(name)
    if now is None:
        raise CfError(f"{name} was pulled, but Docker does not find it")
    if before is not None:
        report(
            f"{name} is up to date" if now.id == before.id else f"{name}: a newer one was pulled"
        )
    return now


def upon_another(image: Image, base: str) -> bool:
    """Whether the local image named `base` differs from the base that this image was built on."""
    now = find(base)
    return now is not None and image.labels.get(LABEL_BASE) != now.id


def build(
    context: Path,
    tag: str,
    *,
    report: Report,
    base: str = "",
    own_labels: Mapping[str, str] | None = None,
    waiting: Waiting = silent,
    undo: CleanUp | None = None,
    no_cache: bool = False,
    force: bool = False,
    pull: bool = False,
) -> Image:
    """Build `context` as `tag`, unless the image of that name was made from the same files.

    It is also built if the name `base` refers to a different image than before; `pull` updates
    that from its registry first. `force` always builds, with the cache; `no_cache` without it.

    `own_labels` do not count as a difference.

    With `undo`, a later failure of the run gives the name back to its previous image and removes
    the new one. An interrupted build leaves no image; its finished steps stay in the cache.
    """
    made_from = fingerprint(context)
    if base and pull:
        obtain(base, report=report, waiting=waiting, pull=True)
    before = find(tag)
    known = before is not None and before.labels.get(LABEL_RENDER) == made_from
    if before is not None and known and not (no_cache or force):
        if not base or not upon_another(before, base):
            return before
        report(f"{base} has changed since {tag} was built on it")
    labels = [f"--label={LABEL_RENDER}={made_from}"]
    labels += [f"--label={key}={value}" for key, value in (own_labels or {}).items()]
    if base:
        upon = obtain(base, report=report, waiting=waiting)
        labels.append(f"--label={LABEL_BASE}={upon.id}")
    if undo is not None:
        undo.push(f"the image {tag}", lambda: _give_back(tag, before, made_from))
    with waiting(f"building the image {tag}") as say:
        _run_build(
            "build",
            "--progress=plain",
            f"--tag={tag}",
            *labels,
            *(["--no-cache"] if no_cache else []),
            str(context),
            tag=tag,
            steps=_Steps(tag, _count(context / "Dockerfile"), report, say),
        )
    made = find(tag)
    if made is None:
        raise CfError(f"the image {tag} was built, but Docker does not find it")
    return replace(made, built=True)


def _count(dockerfile: Path) -> int:
    """The number of steps of a build from this Dockerfile; each base image counts once."""
    lines = dockerfile.read_text("utf-8").splitlines()
    words = [line.split() for line in lines if line[:1].isupper()]
    bases = {instruction[1] for instruction in words if instruction[0] == "FROM"}
    return len(bases) + sum(instruction[0] in _STEPS for instruction in words)


class _Steps:
    """Reports the steps of a build from BuildKit's output: the current one, and each that ended."""

    def __init__(self, tag: str, total: int, report: Report, say: Callable[[str], None]) -> None:
        self._tag = tag
        self._total = total
        self._report = report
        self._say = say
        self._running: dict[str, str] = {}  # number in BuildKit's log -> text of the step
        self._done: set[str] = set()

    def read(self, line: str) -> None:
        if (step := _STEP.fullmatch(line)) and step[1] not in self._done:
            self._running[step[1]] = " ".join(step[2].split())
        elif (end := _ENDED.fullmatch(line)) and end[1] in self._running:
            words = self._running.pop(end[1])
            self._done.add(end[1])
            words = words if len(words) <= _WIDTH else f"{words[: _WIDTH - 3]}..."
            took = "cached" if end[2] == "CACHED" else f"{end[3] or 0} s"
            self._report(f"  {len(self._done)}/{self._total}  {words}  ({took})")
        else:
            return
        now = next(iter(self._running.values()), "")
        self._say(f"{self._tag}: {len(self._done)} of {self._total} steps  {now}".rstrip())


def _run_build(*arguments: str, tag: str, steps: _Steps) -> None:
    lines: list[str] = []

    def watch(line: str) -> None:
        lines.append(line)
        steps.read(line)

    try:
        cli.run(
            *arguments,
            doing=f"build {tag}",
            timeout_s=None,
            on_line=watch,
            # No attestations: the image's id then depends on its content alone.
            environment={"DOCKER_BUILDKIT": "1", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"},
        )
    except CfError as failed:
        raise _build_failure(tag, lines, failed) from failed


def _build_failure(tag: str, lines: list[str], failed: CfError) -> CfError:
    """An error with the failed step and its last lines, instead of the whole log."""
    numbers = [match[1] for line in lines if (match := _FAILED.match(line))]
    if not numbers:
        return failed
    own = [line for line in lines if line.startswith(f"#{numbers[-1]} ")]
    text = "\n".join(_PREFIX.sub("", line, count=1) for line in own)
    step = next((line for line in text.splitlines() if line.startswith("[")), "")
    error = cli.failure(f"build {tag}, {step[:100]}".rstrip(", "), text, code=1, lines=10)
    error.hint = error.hint or "The lines above are the last ones of the failed step."
    return error


def _give_back(tag: str, before: Image | None, made_from: str) -> None:
    now = find(tag)
    if now is None or now.labels.get(LABEL_RENDER) != made_from:
        return  # the build did not finish, or another program took the name
    if before is not None and now.id == before.id:
        return
    if before is not None:
        cli.run("tag", before.id, tag, doing=f"give {tag} back")
        cli.run("image", "rm", now.id, doing="remove the new image", check=False)
    else:
        cli.run("image", "rm", tag, doing=f"remove the image {tag}")


def add_tag(image: Image, tag: str) -> None:
    cli.run("tag", image.id, tag, doing=f"name the image {tag}")


def remove(image: Image) -> None:
    """Remove all names of the image and the image; Docker refuses while a container uses it."""
    cli.run("image", "rm", *(image.tags or (image.id,)), doing=f"remove the image {image.name}")


def drop_superseded(build: str) -> None:
    """Remove images of that build whose name a newer one took and that no container uses."""
    for image in listed(f"{LABEL_BUILD}={build}"):
        _drop_nameless(image)


def drop_nameless(id_: str) -> None:
    """Remove the image of that id if it has no name; Docker refuses when a container uses it."""
    image = find(id_)
    if image is not None:
        _drop_nameless(image)


def _drop_nameless(image: Image) -> None:
    if not image.tags:
        cli.run("image", "rm", image.id, doing="remove a superseded image", check=False)
