"""`cf doctor` as a user runs it: rows, JSON, exit code; what it makes of damaged files."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.fake_engine import ANSWERS, engine
from tests.shared import ROOT


def doctor(home: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run it with an empty home, in an empty folder, without Docker unless told otherwise."""
    (home / "here").mkdir(exist_ok=True)
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("XDG_", "CF_", "DOCKER_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "compreface_cli.cli", "doctor", *arguments],
        capture_output=True,
        text=True,
        cwd=home / "here",
        env={
            **kept,
            "HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "NO_COLOR": "1",
            "DOCKER_HOST": f"unix://{home}/no.sock",
            **environ,
        },
        check=False,
    )


def rows(home: Path, check: str, **environ: str) -> list[dict[str, Any]]:
    done = doctor(home, "--json", **environ)
    document = json.loads(done.stdout)
    assert document["schema_version"] == 1
    assert document["exit_code"] == done.returncode
    failed = [row["exit_code"] for row in document["rows"] if row["level"] == "fail"]
    assert done.returncode == min(failed, default=0)
    return [row for row in document["rows"] if row["check"] == check]


def test_every_row_is_there_without_docker_and_it_is_a_warning(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--json")
    document = json.loads(done.stdout)
    assert {row["check"] for row in document["rows"]} >= {
        *("python", "architecture", "cpu", "memory", "disk", "docker", "gpu", "port"),
        *("models", "engine"),
    }
    [docker] = [row for row in document["rows"] if row["check"] == "docker"]
    assert docker["level"] == "warn"
    assert "--launcher process" in docker["hint"]
    assert not list(tmp_path.glob(".local/**/*.onnx")), "the doctor changes nothing"


def test_people_get_a_line_a_row_and_the_next_command(tmp_path: Path) -> None:
    done = doctor(tmp_path)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("ok    python")
    at = next(n for n, line in enumerate(lines) if line.startswith("warn  docker"))
    assert "-> Start it" in lines[at + 1]
    assert "warning" in lines[-1]
    assert "\x1b" not in done.stdout


def test_docker_is_described_when_it_answers(tmp_path: Path) -> None:
    with engine(ANSWERS, tmp_path / "d.sock") as host:
        found = rows(tmp_path, "docker", DOCKER_HOST=host)
    assert "Docker Engine 26.1.5" in found[0]["message"]


def test_a_held_engine_port_names_its_process_and_sets_the_exit_code(tmp_path: Path) -> None:
    try:
        server = socket.create_server(("127.0.0.1", 3000))
    except OSError:
        pytest.skip("port 3000 of this machine is in use")
    with server:
        done = doctor(tmp_path)
    assert done.returncode == 4
    [line] = [line for line in done.stdout.splitlines() if "port 3000" in line]
    assert line.startswith("fail  port")
    assert f"(pid {os.getpid()})" in line


def test_a_port_of_an_instance_of_ours_is_fine(tmp_path: Path) -> None:
    record = {
        "schema": 1,
        "name": "mine",
        "build": "embedded",
        "calculator": "c",
        "services": "core",
        "phase": "running",
        "created": "2026-01-01T00:00:00+00:00",
        "deployment": {"engine": {"bind": "127.0.0.1", "port": 3000}, "ui": None},
    }
    folder = tmp_path / ".local" / "state" / "compreface-cli" / "instances"
    (folder / "mine").mkdir(parents=True)
    (folder / "mine" / "instance.json").write_text(json.dumps(record))
    found = rows(tmp_path, "port")
    assert "the instance mine's" in found[0]["message"]
    (folder / "mine" / "instance.json").write_text("{")
    [damaged] = rows(tmp_path, "files")
    assert "instance mine" in damaged["message"]


def test_a_damaged_model_fails_with_the_code_of_models(tmp_path: Path) -> None:
    model = tmp_path / ".local" / "share" / "compreface-cli" / "models" / "20180402-114759"
    model.mkdir(parents=True)
    (model / "model.onnx").write_bytes(b"half a model")
    [row] = rows(tmp_path, "models")
    assert (row["level"], row["exit_code"]) == ("fail", 9)
    assert "20180402-114759" in row["message"]


def test_a_broken_build_of_the_users_own_is_a_warning(tmp_path: Path) -> None:
    folder = tmp_path / ".local" / "share" / "compreface-cli" / "builds"
    folder.mkdir(parents=True)
    (folder / "odd.yaml").write_text("schema: 1\nname: odd\ncolour: red\n")
    [row] = rows(tmp_path, "files")
    assert row["level"] == "warn"
    assert "the build odd" in row["message"]


def test_an_environment_that_no_longer_imports_fails_with_what_python_said(
    tmp_path: Path,
) -> None:
    script = (
        "from compreface_cli import engine_env, paths\n"
        "print(paths.data_dir() / 'engine-env' / engine_env.inputs('cpu').key())\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "HOME": str(tmp_path), "XDG_DATA_HOME": ""},
        check=True,
    )
    folder = Path(told.stdout.strip())
    (folder / "bin").mkdir(parents=True)
    (folder / "proven.json").write_text("{}")
    python = folder / "bin" / "python"
    python.write_text(
        "#!/bin/sh\necho \"ModuleNotFoundError: No module named 'cv2'\" >&2; exit 1\n"
    )
    python.chmod(0o755)
    [row] = rows(tmp_path, "engine")
    assert (row["level"], row["exit_code"]) == ("fail", 1)
    assert "No module named 'cv2'" in row["message"]
    assert f"rm -r {folder}" in row["hint"]
    python.write_text("#!/no/such/interpreter\n")
    [row] = rows(tmp_path, "engine")
    assert row["level"] == "fail"
    python.write_text("#!/bin/sh\nexit 0\n")
    [row] = rows(tmp_path, "engine")
    assert row["level"] == "ok"
