"""A rendered folder runs with plain `docker compose`, where there is no `cf`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.e2e.machine import PORTRAITS, Cf, Docker, free_port, get, post_photograph, sign_up


def test_a_rendered_folder_runs_without_cf(
    docker: Docker,
    cf: Cf,
    instance: str,
    stack: dict[str, str],
    tmp_path: Path,
) -> None:
    # A name of its own: what Compose builds has no label of ours, and would take `cf`'s name.
    name = docker.own_name("rendered")
    cf.environment |= {**stack, "CF_IMAGE": name}
    ui, engine = free_port(), free_port()
    folder = tmp_path / "rendered"
    doors = ("--port", str(ui), "--core-port", str(engine))
    render = ("render", "embedded", "-o", str(folder), "--instance", instance, *doors)
    cf.ok(*render)
    first = _files(folder)
    cf.ok(*render)
    assert _files(folder) == first, "secrets are kept, and the rest is the same bytes"

    # Away from where it was made, with nothing but the docker program on the PATH.
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    shutil.rmtree(cf.home)
    programs = tmp_path / "bin"
    programs.mkdir()
    docker_program = shutil.which("docker")
    assert docker_program is not None
    (programs / "docker").symlink_to(docker_program)
    environment = {"PATH": str(programs), "HOME": os.environ.get("HOME", "/")}
    assert shutil.which("cf", path=str(programs)) is None

    def compose(*arguments: str) -> None:
        done = subprocess.run(
            ["docker", "compose", *arguments],
            cwd=moved,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    compose("up", "--detach", "--wait", "--build")
    try:
        assert get(f"http://127.0.0.1:{engine}/status")[0] == 200
        api = f"http://127.0.0.1:{ui}/api/v1/recognition"
        key = sign_up(f"http://127.0.0.1:{ui}")["RECOGNITION"]
        stored = post_photograph(
            f"{api}/faces?subject=Grace", PORTRAITS / "grace_hopper.jpg", key=key
        )
        assert stored[0] == 201, stored
        assert docker.inspect(f"cf-{instance}-compreface-core-1")["Config"]["Image"] == name
    finally:
        compose("down", "--volumes")
    assert docker.things_of(f"cf-{instance}") == []


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
