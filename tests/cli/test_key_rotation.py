"""API keys of an engine: replaced in the user's file, accepted beside the old ones, then alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from compreface_cli.deploy import key_rotation
from compreface_cli.engine.client import fault, is_up
from tests.cli.local_cf import LocalCf
from tests.cli.names import assert_named

OLD = ("first-key-of-a-client", "second-key-of-a-client")
TEXT = f"# of the door\n{OLD[0]}\n{OLD[1]}  # of the gate\n"


def test_new_keys_stand_where_the_old_ones_stood() -> None:
    made = dict(zip(OLD, ("new-key-1", "new-key-2"), strict=True))
    text = key_rotation.with_new(TEXT, made)
    assert key_rotation.split(text) == (("new-key-1", "new-key-2"), OLD)
    assert text.startswith("# of the door\nnew-key-1\nnew-key-2  # of the gate\n")
    assert key_rotation.split(TEXT) == (OLD, ())


@pytest.mark.slow
def test_keys_overlap_until_the_old_ones_are_dropped(local_cf: LocalCf, tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    file.write_text(TEXT)
    file.chmod(0o600)
    local_cf.env["CF_API_KEYS_FILE"] = str(file)
    url = local_cf.up("--port", "auto")["engine_url"]
    pid = local_cf.status()["services"][0]["pid"]
    rotate = ("secrets", "rotate", "embedded", "--api-keys")

    refused = local_cf.run(*rotate, CF_API_KEYS_FILE="")
    assert refused.returncode == 3
    assert_named(refused.stderr, "CF_API_KEYS_FILE")
    assert local_cf.run(*rotate, "--drop-old").returncode == 3
    assert local_cf.json(*rotate, "--dry-run")["valid"] == 4
    assert file.read_text() == TEXT

    done = local_cf.json(*rotate)
    assert (done["valid"], done["old"]) == (4, 2)
    new, old = key_rotation.split(file.read_text())
    assert old == OLD
    assert len(set(new)) == 2
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert all(is_up(url, key=key) for key in (*new, *OLD))
    assert all(key not in str(done) for key in (*new, *OLD))
    assert local_cf.json(*rotate)["valid"] == 4  # again: nothing more
    assert key_rotation.split(file.read_text()) == (new, old)
    assert local_cf.up("--port", "auto")["change"] == "already running"

    dropped = local_cf.json(*rotate, "--drop-old")
    assert (dropped["valid"], dropped["old"]) == (2, 0)
    assert key_rotation.split(file.read_text()) == (new, ())
    assert all(is_up(url, key=key) for key in new)
    assert all(str(fault(url, key=key)).startswith("401") for key in OLD)
    assert local_cf.status()["state"] == "running"
    assert local_cf.status()["services"][0]["pid"] == pid
    os.remove(file)
    assert local_cf.run(*rotate).returncode == 3
