"""What is set for the engine reaches the engine that `cf` starts, and `cf` can still use it."""

from __future__ import annotations

import hashlib
import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from compreface_cli import resources
from compreface_cli.builds import builds
from compreface_cli.config import settings, settings_table
from compreface_cli.deploy import observe, project_folder
from compreface_cli.deploy import up as flow
from compreface_cli.errors import ConfigurationError
from compreface_cli.plan import plan
from compreface_cli.project import writer
from compreface_cli.project.targets import compose as target
from compreface_cli.terminal.output import Output
from compreface_engine.settings import Settings as EngineSettings
from tests.cli.local_cf import LocalCf, free_port
from tests.cli.names import assert_named

KEY = "one-key-of-many"
PORTRAIT = resources.portrait()


def _plan(
    environ: dict[str, str], *, services: str = "core", launcher: str = "compose"
) -> plan.Plan:
    flags = {"services": services, "launcher": launcher}
    chosen = settings.resolve(flags, environ=environ)
    assert chosen.notes == ()
    return plan.resolve(builds.load("embedded"), chosen)


LIMITS = {
    "CF_THREADS": "2",
    "CF_BATCHING": "off",
    "CF_MAX_QUEUE": "7",
    "CF_MAX_QUEUE_BYTES": "300000000",
    "CF_MAX_BODY_BYTES": "2000000",
    "CF_MAX_MEMORY_BYTES": "900000000",
    "CF_MAX_PIXELS": "5000000",
    "CF_BODY_TIMEOUT_S": "2.5",
    "CF_APPLY_EXIF": "true",
    "CF_RATE_LIMIT": "0.5",
    "CF_RATE_BURST": "3",
}


def test_limits_that_are_set_reach_process_and_compose_and_no_others_do(tmp_path: Path) -> None:
    unset = _plan({})
    assert not LIMITS.keys() & unset.engine_environment().keys()
    wanted = _plan(LIMITS)
    assert wanted.engine_environment().items() >= LIMITS.items()
    assert wanted.origins["apply_exif"] == "environment CF_APPLY_EXIF"
    assert observe.digest(wanted) != observe.digest(unset)
    files = target.render(wanted).files
    core = yaml.safe_load(str(files["compose.yaml"]))["services"]["compreface-core"]
    assert core["environment"].items() >= LIMITS.items()
    assert "CF_API_KEYS" not in core["environment"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CF_RATE_LIMIT", "many"),
        ("CF_RATE_LIMIT", "0"),
        ("CF_API_KEYS", "short"),
        ("CF_API_KEYS", " , "),
        ("CF_API_KEYS", f"sha256:{'0' * 64}"),
        ("CF_API_KEYS_FILE", "no-such-file"),
        ("CF_APPLY_EXIF", "maybe"),
        ("CF_MAX_PIXELS", "300000"),
        ("CF_API_KEYS_FILE", "/dev/zero"),
        ("CF_API_KEYS_FILE", "/dev"),
        ("CF_ENV_FILE", "/dev/zero"),
    ],
)
def test_a_value_that_does_not_fit_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name) as caught:
        settings.resolve({}, environ={name: value})
    assert name != "CF_API_KEYS" or value not in caught.value.message


def test_the_defaults_are_those_of_the_engine() -> None:
    engine = EngineSettings.from_env({})
    assert engine.max_body_bytes == settings_table.MAX_BODY_BYTES
    assert engine.max_queue_bytes == settings_table.MAX_QUEUE_BYTES


def test_keys_go_into_env_alone_and_leave_it_with_the_setting(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"# who may ask\n{KEY}  # the gate\nsecond$key'\\\n")
    wanted = _plan({"CF_API_KEYS_FILE": str(keys)})
    assert wanted.api_keys == f"{KEY},second$key'\\"
    assert wanted.key == KEY
    assert KEY not in json.dumps(wanted.as_dict()) + repr(wanted)
    rendered = target.render(wanted)
    assert not any(
        KEY in content for content in rendered.files.values() if isinstance(content, str)
    )
    folder = writer.write(rendered, tmp_path / "folder").folder
    assert writer.read_env(folder / ".env")["CF_API_KEYS"] == wanted.api_keys
    assert (folder / ".env").stat().st_mode & 0o777 == 0o600
    assert _files_with(KEY, folder) == [folder / ".env"]
    document = yaml.safe_load((folder / "compose.yaml").read_text())
    core = document["services"]["compreface-core"]
    assert core["environment"]["CF_API_KEYS_FILE"] == "/run/secrets/api-keys"
    given = folder / document["secrets"]["api-keys"]["file"]
    assert given.parent.stat().st_mode & 0o777 == 0o700
    assert EngineSettings.from_env({"CF_API_KEYS_FILE": str(given)}).api_keys == tuple(
        f"sha256:{hashlib.sha256(key.encode()).hexdigest()}" for key in wanted.api_keys.split(",")
    )
    writer.write(target.render(_plan({})), folder)
    assert "CF_API_KEYS" not in writer.read_env(folder / ".env")
    assert not given.parent.exists()


def test_other_keys_leave_the_container_which_reads_them_again() -> None:
    texts = {
        str(target.render(_plan({"CF_API_KEYS": key})).files["compose.yaml"])
        for key in (KEY, f"{KEY},second-key", "another-key")
    }
    assert len(texts) == 1


def test_a_file_that_a_container_has_mounted_stays_the_same_file(tmp_path: Path) -> None:
    folder, before = tmp_path / "project", tmp_path / ".project.before"
    keys = [f"{KEY}-{letter}" for letter in "abc"]
    writer.write(target.render(_plan({"CF_API_KEYS": keys[0]})), folder)
    file = folder / "keys" / "sha256"
    mounted = file.stat().st_ino

    def accepted() -> list[str]:
        assert file.stat().st_ino == mounted
        digests = EngineSettings.from_env({"CF_API_KEYS_FILE": str(file)}).api_keys
        named = {f"sha256:{hashlib.sha256(key.encode()).hexdigest()}": key for key in keys}
        return [named[digest] for digest in digests]

    project_folder._keep(folder, before)
    writer.write(target.render(_plan({"CF_API_KEYS": ",".join(keys[1:])})), folder)
    assert accepted() == keys[1:]
    project_folder._put_back(folder, before)
    assert accepted() == keys[:1]
    writer.set_keys(folder, ",".join(keys))
    assert accepted() == keys
    assert writer.read_env(folder / ".env")["CF_API_KEYS"] == ",".join(keys)
    rendered = target.render(_plan({"CF_API_KEYS": ",".join(keys)}))
    assert writer.state(rendered, folder) == "same"


def _files_with(text: str, folder: Path) -> list[Path]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path for path in files if text.encode() in path.read_bytes()]


def test_keys_beside_a_file_of_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="api_keys_file"):
        settings.resolve({}, environ={"CF_API_KEYS": KEY, "CF_API_KEYS_FILE": "keys"})


def test_a_file_of_keys_lies_beside_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"{KEY}\n")
    (tmp_path / "cf.yaml").write_text("api_keys_file: keys\n")
    found = settings.resolve({}, environ={}, project_file=tmp_path / "cf.yaml")
    assert found.get("api_keys") == KEY
    shown = {row["key"]: row["value"] for row in settings.rows(found)}
    assert shown["api_keys"] == "********"


@pytest.mark.parametrize("key", ["0123456701", "0x12345678", "1234_5678", "[12345678, abcdefgh]"])
def test_a_key_that_yaml_reads_as_a_number_is_refused(key: str, tmp_path: Path) -> None:
    (tmp_path / "cf.yaml").write_text(f"api_keys: {key}\n")
    with pytest.raises(ConfigurationError, match="quotes"):
        settings.resolve({}, environ={}, project_file=tmp_path / "cf.yaml")


def test_a_project_file_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cf.yaml").mkdir()
    with pytest.raises(ConfigurationError, match=r"cf\.yaml"):
        settings.resolve({}, environ={}, project_file=tmp_path / "cf.yaml")


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "keys")
    with pytest.raises(ConfigurationError, match="CF_API_KEYS_FILE"):
        settings.resolve({}, environ={"CF_API_KEYS_FILE": str(tmp_path / "keys")})


def test_a_queue_too_small_for_one_body_is_refused_before_the_start() -> None:
    with pytest.raises(ConfigurationError, match="CF_MAX_QUEUE_BYTES"):
        _plan({"CF_MAX_QUEUE_BYTES": "1"})


def test_settings_without_effect_are_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"SERVICES": "full", "LAUNCHER": "process", "RATE_BURST": "5"}.items():
        monkeypatch.setenv(f"CF_{name}", value)
    flow.resolve({"build": "embedded"}, Output())
    said = capsys.readouterr().err
    assert said.count("warning: ") == 2
    assert_named(said, "services: full (environment CF_SERVICES)", "rate_burst", "rate_limit")


def test_the_full_stack_is_refused_with_keys_since_its_api_sends_none() -> None:
    full = _plan({"CF_API_KEYS": KEY}, services="full")
    with pytest.raises(ConfigurationError, match="api_keys"):
        target.render(full)
    assert not _plan({"CF_API_KEYS": KEY}, services="full", launcher="process").keys_fault()


@pytest.mark.slow
def test_an_engine_with_keys_and_a_limit_is_started_used_and_left_open_again(
    local_cf: LocalCf,
) -> None:
    port = str(free_port())
    asked: Any = {"CF_API_KEYS": f"{KEY} another-key", "CF_RATE_LIMIT": "2", "CF_RATE_BURST": "1"}
    started = local_cf.json("up", "--launcher", "process", "--port", port, **asked)
    assert started["change"] == "started"
    assert KEY not in json.dumps(started)
    assert _status(port) == 401
    assert _status(port, "another-key") == 200
    again = local_cf.json("up", "--launcher", "process", "--port", port, **asked)
    assert again["change"] == "already running"

    # One file of the instance has the key, for its user alone; an address alone has none.
    (file,) = _files_with(KEY, local_cf.state)
    assert (file.name, file.stat().st_mode & 0o777) == ("api-keys", 0o600)
    assert (file.parent / "spec.json").stat().st_mode & 0o777 == 0o600
    assert local_cf.status()["state"] == "running"
    # The limit of two a second is waited for.
    seen = local_cf.json("scan", *[str(PORTRAIT)] * 4)["pictures"]
    assert [len(one["faces"]) for one in seen] == [1] * 4
    local_cf.json("demo")
    url = f"http://127.0.0.1:{port}"
    refused = local_cf.json("scan", str(PORTRAIT), "--url", url, exit_code=1)["error"]
    assert "CF_API_KEYS" in refused["hint"]
    local_cf.json("scan", str(PORTRAIT), "--url", url, CF_API_KEYS=KEY)

    other = local_cf.run("up", "--launcher", "process", CF_API_KEYS="quite-another-key")
    assert other.returncode == 0, other.stderr
    assert _status(port, KEY) == 401
    opened = local_cf.run("up", "--launcher", "process")
    assert opened.returncode == 0, opened.stderr
    assert_named(opened.stderr, "warning: ", "'embedded'")
    assert _status(port) == 200


@pytest.mark.slow
def test_an_instance_of_an_earlier_cf_keeps_its_keys_and_gets_them_as_a_file(
    local_cf: LocalCf,
) -> None:
    """It had them in its record and in the environment of its process."""
    port = str(free_port())
    keys: Any = {"CF_API_KEYS": f"#{KEY}"}
    local_cf.json("up", "--launcher", "process", "--port", port, **keys)
    (file,) = _files_with(KEY, local_cf.state)
    (record,) = local_cf.state.rglob("instance.json")
    document = json.loads(record.read_text())
    document["deployment"]["engine"]["key"] = f"#{KEY}"
    environment = document["deployment"]["data"]["env"]
    del environment["CF_API_KEYS_FILE"]
    environment["CF_API_KEYS"] = f"#{KEY}"
    document["digest"] = "of an earlier cf"
    record.write_text(json.dumps(document))
    file.unlink()

    assert local_cf.status()["state"] == "running"
    local_cf.json("restart")
    assert _status(port, f"#{KEY}") == 200
    again = local_cf.json("up", "--launcher", "process", "--port", port, **keys)
    assert again["change"] == "replaced"
    assert _status(port, f"#{KEY}") == 200
    (file,) = _files_with(KEY, local_cf.state)
    assert (file.name, file.stat().st_mode & 0o777) == ("api-keys", 0o600)


def _status(port: str, key: str = "") -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/status", headers={"X-Api-Key": key})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def _core(plan: plan.Plan) -> dict[str, Any]:
    document = yaml.safe_load(str(target.render(plan).files["compose.yaml"]))
    found: dict[str, Any] = document["services"]["compreface-core"]
    return found


def test_the_engines_container_has_a_memory_limit_that_fits_and_no_swap_beyond_it() -> None:
    core = _core(_plan({}))
    assert (core["mem_limit"], core["memswap_limit"]) == ("2048m", "2048m")
    assert _plan({"CF_RUNTIME": "tensorflow"}).memory_limit == "4096m"


@pytest.mark.parametrize(
    ("said", "limit"), [("3G", "3072m"), ("700 mb", "700m"), ("1GiB", "1024m")]
)
def test_the_memory_limit_can_be_set(said: str, limit: str) -> None:
    wanted = _plan({"CF_MEMORY_LIMIT": said})
    assert wanted.origins["memory_limit"] == "environment CF_MEMORY_LIMIT"
    core = _core(wanted)
    assert (core["mem_limit"], core["memswap_limit"]) == (limit, limit)


def test_the_memory_limit_can_be_left_out() -> None:
    core = _core(_plan({"CF_MEMORY_LIMIT": "None"}))
    assert not {"mem_limit", "memswap_limit"} & core.keys()


@pytest.mark.parametrize("said", ["511M", "0", "2", "2T", "much", "-1G"])
def test_a_memory_limit_below_what_an_engine_needs_is_named(said: str) -> None:
    with pytest.raises(ConfigurationError, match="CF_MEMORY_LIMIT") as caught:
        settings.resolve({}, environ={"CF_MEMORY_LIMIT": said})
    assert_named(caught.value.message, "512M", "none")
