"""A layer of 2 GB goes through little memory, on the wire as well as behind its compression."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.lying_registry import LyingRegistry, digest_of, lying_registry
from tests.shared import ROOT

pytestmark = pytest.mark.slow
BULK = 2 << 30
WEIGHTS = bytes(range(256)) * 4000
# Downloads in a process of its own, and tells by how much its memory has grown.
FETCH = """
import json, pathlib, re, sys
from contextlib import contextmanager
from compreface_cli.models import registry
from compreface_cli.models.registry.reference import Reference
host, digest, folder = sys.argv[1:]
moved = 0
@contextmanager
def progress(label, total):
    def advance(amount):
        global moved
        moved += amount
    yield advance
def peak():  # unlike ru_maxrss, this begins anew with the program
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
import httpx2, ssl
before = peak()
registry.fetch(
    Reference(host, "a/b", digest), {"app/model.pb": pathlib.Path(folder, "model.pb")},
    progress=progress, note=print, folder=pathlib.Path(folder, "layers"),
)
print(json.dumps({"grown_mb": (peak() - before) / 1024, "moved": moved}))
"""


def header(name: str, size: int) -> bytes:
    row = tarfile.TarInfo(name)
    row.size = size
    return row.tobuf(tarfile.GNU_FORMAT)


def layer() -> Iterator[bytes]:
    """A tar with 2 GB of zeros before the wanted file."""
    yield header("usr/lib/framework.so", BULK)
    zeros = bytes(1 << 20)
    for _ in range(BULK >> 20):
        yield zeros
    yield header("app/model.pb", len(WEIGHTS))
    yield WEIGHTS + bytes(-len(WEIGHTS) % 512 + 1024)


def packed() -> Iterator[bytes]:
    packer = zlib.compressobj(1, wbits=31)
    for chunk in layer():
        yield packer.compress(chunk)
    yield packer.flush()


def offered(server: LyingRegistry, gzip: bool) -> tuple[str, int]:
    """The digest of an image with that layer; the length of the layer on the wire."""
    made, size = hashlib.sha256(), 0
    for chunk in packed() if gzip else layer():
        made.update(chunk)
        size += len(chunk)
    blob = f"sha256:{made.hexdigest()}"
    server.streams[blob] = (size, packed if gzip else layer)
    config = b"{}"
    document = json.dumps(
        {
            "schemaVersion": 2,
            "config": {"digest": digest_of(config), "size": len(config)},
            "layers": [{"digest": blob, "size": size}],
        }
    ).encode()
    server.contents = {digest_of(data): data for data in (document, config)}
    return digest_of(document), size


@pytest.mark.parametrize("gzip", [True, False], ids=["gzip", "plain"])
def test_a_layer_of_2_gb_takes_little_memory(tmp_path: Path, gzip: bool) -> None:
    with lying_registry() as server:
        digest, size = offered(server, gzip)
        done = subprocess.run(
            [sys.executable, "-c", FETCH, server.host, digest, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (tmp_path / "model.pb").read_bytes() == WEIGHTS
    assert said["moved"] >= size
    assert said["grown_mb"] < 100
    assert not [path for path in (tmp_path / "layers").glob("**/*") if path.is_file()]
