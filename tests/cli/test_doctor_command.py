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

from compreface_cli.plugin_table import UI_PLUGINS
from tests.cli.fake_engine import ANSWERS, engine
from tests.cli.names import assert_named
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
    assert "-> " in lines[at + 1]
    assert "warning" in lines[-1]
    assert "\x1b" not in done.stdout


def test_docker_is_described_when_it_answers(tmp_path: Path) -> None:
    with engine(ANSWERS, tmp_path / "d.sock") as host:
        found = rows(tmp_path, "docker", DOCKER_HOST=host)
    assert "Docker Engine 26.1.5" in found[0]["message"]


def test_a_build_whose_faces_the_ui_cannot_show_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "cf.yaml").write_text("plugins: [facenet.LandmarksDetector]\n")
    with engine(ANSWERS, tmp_path / "d.sock") as host:
        [row] = rows(tmp_path, "ui", DOCKER_HOST=host)
        assert row["level"] == "warn"
        assert_named(row["message"], "pose, age and gender")
        assert "cf.yaml:1" in row["hint"]
        assert rows(tmp_path, "ui", DOCKER_HOST=host, CF_SERVICES="core") == []
        [row] = rows(tmp_path, "ui", DOCKER_HOST=host, CF_PLUGINS=",".join(UI_PLUGINS))
        assert row["level"] == "ok"
    assert rows(tmp_path, "ui") == []  # without Docker it becomes a process
    (tmp_path / "here" / "cf.yaml").write_text("plugins: [nonsense.At]\n")
    assert rows(tmp_path, "ui") == []  # said as what it is, in its own row


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
    assert "the instance mine" in found[0]["message"]
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


def test_an_environment_that_no_longer_imports_fails_with_pythons_error(
    tmp_path: Path,
) -> None:
    script = (
        "from compreface_cli.config import paths\nfrom compreface_cli.engine import venv\n"
        "print(paths.data_dir() / 'engine-env' / venv.inputs('cpu').key())\n"
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
    python.write_text("#!/bin/sh\necho '{}'\n")
    [row] = rows(tmp_path, "engine")
    assert row["level"] == "ok"


@pytest.mark.parametrize(
    ("name", "value", "level", "named"),
    [
        ("CF_PORT", "abc", "fail", "environment CF_PORT: port "),
        ("CF_PROT", "1", "warn", "CF_PORT?"),
        ("CF_MODELS_MIRROR", "/nosuch", "fail", "/nosuch"),
        ("CF_MODELS_MIRROR", "ftp://x", "fail", "https://"),
        ("CF_REGISTRY_MIRROR", "mirror.example", "fail", "CF_REGISTRY_MIRROR"),
        ("CF_BUILD", "nosuch", "fail", "'nosuch'"),
        ("CF_DETECTOR", "nonsense", "fail", "'nonsense'"),
        ("CF_ENV_FILE", "nosuch.env", "fail", "nosuch.env"),
    ],
)
def test_a_setting_that_up_would_refuse_is_a_row_among_the_others(
    tmp_path: Path, name: str, value: str, level: str, named: str
) -> None:
    [row] = rows(tmp_path, "settings", **{name: value})
    assert (row["level"], row["exit_code"]) == (level, 3 if level == "fail" else 0)  # as `cf up`
    assert_named(row["message"], named)
    assert row["hint"] or level == "warn"
    assert rows(tmp_path, "engine", **{name: value}), "the other rows are there too"


def test_every_fault_of_the_settings_is_reported(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "cf.yaml").write_text("prot: 1\nbind: here\n")
    odd = {"CF_PORT": "abc", "CF_CORE_PORT": "0", "CF_PROT": "1"}
    found = [(row["level"], row["message"]) for row in rows(tmp_path, "settings", **odd)]
    assert [level for level, _ in found].count("warn") == 1
    wrong = [message for level, message in found if level == "fail"]
    assert len(wrong) == 4
    assert_named("\n".join(wrong), "cf.yaml:1: ", "'prot'", "cf.yaml:2: bind ")


def test_a_broken_build_that_the_settings_choose_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "here" / "builds").mkdir(parents=True)
    (tmp_path / "here" / "builds" / "embedded.yaml").write_text("a: [")
    [row] = rows(tmp_path, "settings", CF_PORT="21777")
    assert "embedded.yaml" in row["message"]
    assert "21777" in rows(tmp_path, "port", CF_PORT="21777")[1]["message"]


def test_sound_settings_are_a_row(tmp_path: Path) -> None:
    [row] = rows(tmp_path, "settings", CF_PORT="21777")
    assert row["level"] == "ok"


def test_the_ports_are_those_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "cf.yaml").write_text("core_port: 21778\n")
    found = [row["message"] for row in rows(tmp_path, "port", CF_PORT="21777", CF_RUNTIME="foo")]
    for message, port, whose in zip(found, (21778, 21777), ("engine", "UI"), strict=True):
        assert_named(message, f"port {port}", whose)
    [alone] = rows(tmp_path, "port", CF_SERVICES="core", CF_PORT="21777")
    assert_named(alone["message"], "port 21777", "engine")


def test_a_port_that_was_asked_for_and_is_held_fails(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = str(server.getsockname()[1])
        found = rows(tmp_path, "port", CF_PORT=held, CF_CORE_PORT="auto")
    assert [(row["level"], row["exit_code"]) for row in found] == [("fail", 4)]


def test_two_ports_of_one_number_are_a_row(tmp_path: Path) -> None:
    found = rows(tmp_path, "port", CF_CORE_PORT="21777", CF_PORT="21777")
    [row] = [row for row in found if row["level"] == "fail" and "--core-port" in row["message"]]
    assert (row["exit_code"], "21777" in row["message"]) == (4, True)


@pytest.mark.parametrize("record", ["accepted-hashes.json", "proven-hashes.json"])
@pytest.mark.parametrize("text", ["{", "[]", '{"a-model": 1}'])
def test_damaged_hashes_are_a_row(tmp_path: Path, text: str, record: str) -> None:
    state = tmp_path / ".local" / "state" / "compreface-cli"
    state.mkdir(parents=True)
    (state / record).write_text(text)
    [row] = rows(tmp_path, "models")
    assert (row["level"], row["exit_code"]) == ("fail", 9)
    assert_named(row["message"], state / record)
    assert row["hint"]
