"""A build of one machine starts on another from one file: nothing else is there, and no network."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.local_cf import LocalCf
from tests.cli.test_up_own_model import BUILD, NETWORK

pytestmark = pytest.mark.slow

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def other_cf(local_cf: LocalCf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCf]:
    """Another machine."""
    other = LocalCf(tmp_path_factory.mktemp("other"), local_cf.environment)
    yield other
    other.sweep()


def test_an_exported_build_starts_elsewhere(
    local_cf: LocalCf, other_cf: LocalCf, tmp_path: Path
) -> None:
    (local_cf.root / "my-build.yaml").write_text(BUILD.replace("HASH", "null"))
    model = local_cf.root / "my-model.onnx"
    shutil.copy(NETWORK, model)
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    build, launcher = str(local_cf.root / "my-build.yaml"), ("--launcher", "process")
    flags = (*launcher, "--port", "auto")
    here = local_cf.json("up", build, *flags, "--accept-hash", f"my-model={digest}")
    file = tmp_path / "my-build.cf.tar"
    local_cf.json("export", build, "-o", str(file), "--with-models")
    local_cf.json("down", "my-build")

    other_cf.json("import", str(file), exit_code=2)
    kept = other_cf.json("import", str(file), "--yes", https_proxy=NOWHERE, http_proxy=NOWHERE)
    assert kept["accepted"] == {"my-model": {"my-model.onnx": digest}}
    file.unlink()
    there = other_cf.json("up", "my-build", *flags, https_proxy=NOWHERE, http_proxy=NOWHERE)
    assert (there["build"], there["calculator"]) == (here["build"], here["calculator"])
    assert there["proof"]["cosine"] == pytest.approx(here["proof"]["cosine"], abs=1e-4)
    assert other_cf.json("up", "my-build", *flags)["change"] == "already running"
    assert other_cf.json("rm", "--build", "my-build", exit_code=4)["error"]
    other_cf.json("down", "my-build")
    other_cf.json("rm", "--build", "my-build", "--confirm", "my-build")
    assert not (other_cf.data / "imported" / "my-build").exists()
