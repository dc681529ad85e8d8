"""The folder of an instance's project: the user's own file in it is broken, or it is a mount."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.names import assert_named
from tests.e2e.conftest import up_core
from tests.e2e.machine import Cf, Docker, free_port, get


def test_a_broken_file_of_the_user_is_named_and_nothing_is_changed(
    docker: Docker, cf: Cf, instance: str, embedded: dict[str, Any]
) -> None:
    port = free_port()
    cf.ok(*up_core(instance, port))
    own = cf.project(instance) / "compose.override.yaml"
    for text, words in {
        "services: {compreface-core: {bogus: 1}}\n": "bogus is not allowed",
        "services:\n  compreface-core: [\n": "yaml: ",
    }.items():
        own.write_text(text)
        for command in (
            up_core(instance, free_port()),
            up_core(instance, free_port(), "--dry-run"),
            ("restart", instance),
        ):
            done = cf.run(*command)
            assert done.returncode == 3, done.stderr
            assert_named(done.stderr, "error: ", own)
            assert words in done.stderr
    assert get(f"http://127.0.0.1:{port}/status")[0] == 200
    assert own.read_text() == text
    own.unlink()
    cf.ok("restart", instance)
    cf.ok("down", instance)


def test_a_project_folder_on_a_mount_of_its_own_is_told_and_keeps_what_is_in_it(
    docker: Docker, cf: Cf, instance: str, embedded: dict[str, Any], tmp_path: Path
) -> None:
    cf.ok(*up_core(instance, free_port()))
    folder, disk = cf.project(instance), tmp_path / "disk"
    subprocess.run(["cp", "-a", str(folder), str(disk)], check=True)
    before = sorted(path.name for path in disk.iterdir())
    program = f"{sys.executable} -m compreface_cli.cli"
    up = " ".join(up_core(instance, free_port()))
    for mount, words in {
        "true": "is a mount of its own",
        f"mount -o remount,ro,bind {folder}": "is on a read-only disk",
    }.items():
        script = f"mount --bind {disk} {folder} && {mount} || exit 77; {program} {up}"
        done = subprocess.run(
            ["unshare", "--mount", "bash", "-c", script],
            capture_output=True,
            text=True,
            cwd=cf.here,
            env=cf._environment(),
            timeout=120,
            check=False,
        )
        if done.returncode == 77 or "unshare" in done.stderr:
            pytest.skip("this user may not mount")
        assert done.returncode == 3, done.stderr
        assert words in done.stderr
        assert str(folder) in done.stderr
        assert sorted(path.name for path in disk.iterdir()) == before
    cf.ok("down", instance)
