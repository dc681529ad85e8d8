"""The grammar of a model file's sources: one line each, `KIND ADDRESS @PROOF / PATH`.

    https://HOST/PATH                                      a file
    git+https://HOST/OWNER/REPOSITORY@COMMIT/PATH          a file of a Git repository
    zip+https://HOST/PATH@sha256:DIGEST/MEMBER             a file of a zip archive
    tar+https://HOST/PATH@sha256:DIGEST/MEMBER             a file of a tar archive
    oci://REGISTRY/REPOSITORY@sha256:DIGEST/PATH#LAYER     a file of an image

DIGEST is the SHA-256 of the archive, or of the image's manifest. The last part of a path in an
archive or image may have one `*`, which stands for any characters and must match one file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from urllib.parse import quote, urlsplit

Kind = Literal["https", "git", "zip", "tar", "oci"]

_DIGEST = re.compile(r"(?P<address>.+?)@sha256:(?P<proof>[0-9a-f]{64})/(?P<path>.+)")
_COMMIT = re.compile(r"(?P<address>.+?)@(?P<proof>[0-9a-f]{40})/(?P<path>.+)")
# host[:port]/path, as the distribution specification limits the parts of a repository's name.
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(rf"[A-Za-z0-9.-]+(?::[0-9]{{1,5}})?(?:/{_PART})+")
_WEB = ("https://", "http://")


@dataclass(frozen=True, slots=True)
class Source:
    """One place that a file can be fetched from.

    `address`: the URL of the file, archive or repository; REGISTRY/REPOSITORY of an image.
    `proof`: 64 hexadecimal digits (zip, tar: of the archive; oci: of the manifest), the 40 of a
    commit (git), or empty (https). `path`: the file in the archive, image or repository.
    `layer`: a part of the command that made the image's layer; empty: any layer.
    """

    kind: Kind
    text: str
    address: str
    proof: str = ""
    path: str = ""
    layer: str = ""

    @property
    def proven(self) -> bool:
        """Whether the digest proves the file, so that no hash of the file is needed."""
        return self.kind in ("zip", "tar", "oci")

    @property
    def url(self) -> str:
        """The address that is downloaded over HTTP; empty for an image."""
        if self.kind == "oci":
            return ""
        return _raw(self.address, self.proof, self.path) if self.kind == "git" else self.address

    @property
    def registry(self) -> str:
        """The host and port of an image's registry, as written."""
        return self.address.partition("/")[0] if self.kind == "oci" else ""

    @property
    def repository(self) -> str:
        """The name of an image in its registry."""
        return self.address.partition("/")[2] if self.kind == "oci" else ""

    @property
    def digest(self) -> str:
        """`sha256:` and the proof of an archive or image; empty for the other kinds."""
        return f"sha256:{self.proof}" if self.proven else ""

    @property
    def container(self) -> tuple[str, ...]:
        """What is downloaded as one: equal for files of the same archive or layer of an image."""
        if self.proven:
            return (self.kind, self.address, self.proof, self.layer)
        return (self.kind, self.text)

    def __str__(self) -> str:
        return self.text


@lru_cache(maxsize=1024)
def parse(text: str) -> Source:
    """The source that this line names; raises ValueError with the reason if it names none."""
    if text.startswith("oci://"):
        return _image(text)
    if " " in text or not text.isprintable():  # which no other space is
        raise ValueError("must be an address without spaces, like https://HOST/PATH")
    kind, plus, url = text.partition("+")
    if text.startswith(_WEB):
        _check_url(text)
        return Source("https", text, text)
    if not plus or kind not in ("git", "zip", "tar") or not url.startswith(_WEB):
        raise ValueError(
            "must begin with https://, http://, git+https://, zip+https://, tar+https:// or "
            "oci://; a file goes beside the build file"
        )
    return _repository(text, url) if kind == "git" else _archive(kind, text, url)


def matches(pattern: str, path: str) -> bool:
    """Whether the path of a source, which may have one `*` in its last part, names this file."""
    before, star, after = pattern.partition("*")
    if not star:
        return pattern == path
    fits = path.startswith(before) and path.endswith(after)
    return fits and len(path) >= len(pattern) - 1 and "/" not in path[len(before) :]


def _archive(kind: str, text: str, url: str) -> Source:
    parts = _DIGEST.fullmatch(url)
    if parts is None:
        raise ValueError(
            f"must be {kind}+https://HOST/ARCHIVE@sha256:DIGEST/MEMBER; DIGEST is the archive's "
            "SHA-256, 64 lower-case hexadecimal digits"
        )
    _check_url(parts["address"])
    _check_path(parts["path"], star=True)
    known: Kind = "zip" if kind == "zip" else "tar"
    return Source(known, text, parts["address"], parts["proof"], parts["path"])


def _image(text: str) -> Source:
    body, _, layer = text.removeprefix("oci://").partition("#")
    parts = _DIGEST.fullmatch(body)
    if parts is None or not _IMAGE.fullmatch(parts["address"]):
        raise ValueError(
            "must be oci://REGISTRY/REPOSITORY@sha256:DIGEST/PATH; DIGEST is the manifest's, 64 "
            "lower-case hexadecimal digits, and no tag may stand before it"
        )
    if not layer.isprintable():
        raise ValueError("the text after # must be one line")
    _check_path(parts["path"], star=True)
    return Source("oci", text, parts["address"], parts["proof"], parts["path"], layer)


def _repository(text: str, url: str) -> Source:
    parts = _COMMIT.fullmatch(url)
    if parts is None:
        raise ValueError(
            "must be git+https://HOST/OWNER/REPOSITORY@COMMIT/PATH; COMMIT is a full commit, 40 "
            "lower-case hexadecimal digits, since a branch, a tag or a short one may change"
        )
    _check_url(parts["address"])
    _check_path(parts["path"], star=False)
    _raw(parts["address"], parts["proof"], parts["path"])
    return Source("git", text, parts["address"], parts["proof"], parts["path"])


def _raw(address: str, commit: str, path: str) -> str:
    """The address of a repository's file at a commit; raises ValueError for an unknown host."""
    address = address.removesuffix(".git").rstrip("/")
    host = urlsplit(address).hostname or ""
    names = urlsplit(address).path.strip("/").split("/")
    if host == "github.com" and len(names) == 2:
        return f"{address}/raw/{commit}/{quote(path)}"
    if (host == "gitlab.com" or host.startswith("gitlab.")) and len(names) >= 2:
        return f"{address}/-/raw/{commit}/{quote(path)}"
    raise ValueError(
        "the raw files of a repository are known at github.com/OWNER/REPOSITORY and "
        "gitlab.HOST/GROUP/REPOSITORY only; for another host write the file's own https address"
    )


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        known = parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError as error:
        raise ValueError(f"the address cannot be read: {error}") from error
    if not known:
        raise ValueError("the address names no host")


def _check_path(path: str, *, star: bool) -> None:
    parts = path.split("/")
    if "" in parts or "." in parts or ".." in parts or "\\" in path or not path.isprintable():
        raise ValueError(f"the path in it must be relative and plain, without '..', not {path!r}")
    if path.count("*") > 1 or "*" in "".join(parts[:-1]) or ("*" in path and not star):
        where = "once, in the last part of the path" if star else "in an archive or image only"
        raise ValueError(f"the path in it may have a * {where}")
