"""An exported file as it would be kept: read, proven and checked, but not kept yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from compreface_cli import __version__
from compreface_cli.builds import builds
from compreface_cli.builds.builds import BuildFile
from compreface_cli.builds.spec import BuildSpec
from compreface_cli.config.yamlfile import Fault, parse, refuse
from compreface_cli.errors import CfError, ConfigurationError, FetchError
from compreface_cli.models import licence
from compreface_cli.models.entry import Model, ModelFile
from compreface_cli.models.licence import Terms
from compreface_cli.models.prepare import entry_digest
from compreface_cli.plan.plan import Plan
from compreface_cli.plan.resolve import plan_of
from compreface_cli.sharing import archive, manifest
from compreface_cli.sharing.archive import Contents
from compreface_cli.sharing.manifest import Hash, Manifest

_AGAIN = "Ask its sender for the file again, and compare its SHA-256."


@dataclass(frozen=True, slots=True)
class Offer:
    """What the file has, checked on this machine."""

    source: str  # path or address, without credentials
    contents: Contents
    manifest: Manifest
    spec: BuildSpec  # with the name that it has there
    plan: Plan
    terms: Mapping[str, Terms]  # of each network, by name

    @property
    def text(self) -> str:
        """The build file as it was written."""
        return self.contents.texts[archive.BUILD].decode("utf-8-sig")

    def claims(self) -> dict[str, dict[str, Hash]]:
        """The sender's hashes beyond those that the entries here have: model -> path -> hash."""
        claims: dict[str, dict[str, Hash]] = {}
        for model in self.plan.models:
            shared = self.manifest.model(model.name)
            own = {file.path: file.sha256 for file in all_files(model)}
            beyond = {
                path: known
                for path, known in (shared.hashes if shared else {}).items()
                if path in own and known.sha256 not in own[path]
            }
            if beyond:
                claims[model.name] = beyond
        return claims

    def model_rows(self) -> list[dict[str, Any]]:
        """Each model with its terms, files, hashes and sources, as `--json` lists them."""
        return [self._row(model) for model in self.plan.models]

    def _row(self, model: Model) -> dict[str, Any]:
        claims, terms = self.claims().get(model.name, {}), self.terms.get(model.name)
        shared = self.manifest.model(model.name)
        files = []
        for file in all_files(model):
            inside, claim = self.manifest.files.get(file.path), claims.get(file.path)
            files.append(
                {
                    "path": file.path,
                    "sha256": list(file.sha256),
                    "sources": list(file.sources),
                    "inside_bytes": inside.bytes if inside else None,
                    "senders_sha256": claim.sha256 if claim else None,
                    "senders_by": claim.by if claim else None,
                }
            )
        return {
            "name": model.name,
            "known_from": shared.known_from if shared else None,
            "licence": asdict(terms) if terms else None,
            "files": files,
        }


def all_files(model: Model) -> list[ModelFile]:
    """The files of a model and of its alternatives."""
    return [file for choice in model.choices for file in choice.files]


def read(stream: BinaryIO, source: str) -> Offer:
    """Read and check the whole file; keeps nothing.

    Raises ConfigurationError for what is no export, for a build that this cf cannot run, and for
    another version's format; FetchError for a model file that is not the one it is said to be.
    """
    try:
        contents = archive.read(stream)
        described = manifest.parse(contents.texts[archive.MANIFEST])
    except archive.BrokenArchive as error:
        raise ConfigurationError(
            f"{source} is not a build that `cf export` wrote: {error}",
            hint=_AGAIN,
        ) from error
    except manifest.BrokenManifest as error:
        raise ConfigurationError(
            f"{source}: {archive.MANIFEST} cannot be read: {error}",
            hint=f"It may be of another version of cf; this is {__version__}.",
        ) from error
    _compare(contents, described, source)
    with _of_version(described, source):
        origin = f"{source}: {archive.BUILD}"
        build = builds.checked(parse(_text(contents.texts[archive.BUILD], origin), origin))
        if build.name != described.build:
            raise ConfigurationError(
                f"{source}: {archive.BUILD} names the build {build.name!r}, and "
                f"{archive.MANIFEST} {described.build!r}"
            )
        plan = plan_of(BuildFile(build, "path", Path(archive.BUILD).absolute()))
        _same_models(plan.models, described, source)
    stated = build.facts.licence
    own = stated.model_dump(exclude_none=True) if stated else None
    terms = licence.of((plan.detector, plan.calculator, *plan.plugins), own)
    return Offer(source, contents, described, build, plan, terms)


def _text(raw: bytes, origin: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise refuse([Fault(origin, line, 1, "is not UTF-8 text")]) from error


@contextmanager
def _of_version(described: Manifest, source: str) -> Iterator[None]:
    """Adds the next step to an error, and that the file is of another version of cf, if it is."""
    try:
        yield
    except CfError as error:
        error.hint = error.hint or _AGAIN
        if described.cf != __version__:
            said = f"{source} was written by cf {described.cf}; this is cf {__version__}."
            error.hint += f"\n{said}"
        raise


def _compare(contents: Contents, described: Manifest, source: str) -> None:
    """Raise FetchError unless the files are just those that the manifest lists."""
    listed = {path: (each.bytes, each.sha256) for path, each in described.files.items()}
    for path in sorted(listed.keys() | contents.files.keys()):
        if path not in contents.files:
            raise FetchError(f"{source}: the model file {path} is missing in it", hint=_AGAIN)
        if path not in listed:
            raise FetchError(
                f"{source}: {path} is in it, and {archive.MANIFEST} does not list it", hint=_AGAIN
            )
        if contents.files[path] != listed[path]:
            (size, digest), (right_size, right) = contents.files[path], listed[path]
            actual, expected = f"SHA-256 {digest}", right
            if digest == right:
                actual, expected = f"{size} bytes", str(right_size)
            raise FetchError(
                f"{source}: {path} in it has {actual}, expected {expected}", hint=_AGAIN
            )


def _same_models(models: Sequence[Model], described: Manifest, source: str) -> None:
    """Raise ConfigurationError for a model that means something else here than at the sender's."""
    wanted = {file.path for model in models for file in all_files(model)}
    for model in models:
        shared = described.model(model.name)
        if shared is None:
            raise ConfigurationError(f"{source}: {archive.MANIFEST} lacks the model {model.name}")
        there = builds.model_of(shared.entry)
        if list(map(entry_digest, there.choices)) != list(map(entry_digest, model.choices)):
            raise ConfigurationError(
                f"{source}: the model {model.name} is another one there than here: its files or "
                "its input differ",
            )
        for file in all_files(model):
            inside = described.files.get(file.path)
            known = shared.hashes.get(file.path)
            if inside is None or inside.sha256 in file.sha256:
                continue
            if known is None or known.sha256 != inside.sha256:
                raise FetchError(
                    f"{source}: {file.path} in it is not the file of the model {model.name}: "
                    f"SHA-256 {inside.sha256}, expected {' or '.join(file.sha256) or 'another'}",
                    hint=_AGAIN,
                )
    for path in described.files:
        if path not in wanted:
            raise FetchError(
                f"{source}: {path} in it belongs to no model of the build", hint=_AGAIN
            )


def renamed(offer: Offer, name: str) -> tuple[BuildSpec, str]:
    """The build under that name, and its file's text: unchanged, if that is its own name."""
    if name == offer.spec.name:
        return offer.spec, offer.text
    other = offer.spec.model_copy(update={"name": name})
    return other, builds.text_of(other)
