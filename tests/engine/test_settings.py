"""Settings come from a mapping, are checked, and say which variable is wrong."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.settings import WITHOUT_EFFECT, Settings, usable_cores


def read(**variables: str) -> Settings:
    return Settings.from_env(variables, cores=4)


def test_an_empty_environment_gives_the_embedded_build() -> None:
    settings = read()
    assert settings.detector == "embedded.FaceDetector@mtcnn"
    assert settings.calculator == "embedded.Calculator@mobilefacenet192"
    assert settings.extras == ("facenet.LandmarksDetector", "facenet.PoseEstimator")
    assert (settings.host, settings.port) == ("127.0.0.1", 3000)
    assert settings.img_length_limit == 640
    assert settings.gpu_idx == -1
    assert settings.models_dir is None
    assert settings.threads == settings.max_concurrency == 4
    assert (settings.max_wait_s, settings.max_queue) == (10, 64)
    assert settings.max_queue_bytes == 256 * 1024 * 1024
    assert settings.max_body_bytes == 64 * 1024 * 1024
    assert settings.max_pixels == 178956970
    assert settings.build_version == "1.2.0"
    assert settings.warnings == ()
    assert not settings.apply_exif


def test_empty_means_unset_everywhere() -> None:
    names = [
        "IMG_LENGTH_LIMIT", "FACE_DETECTION_PLUGIN", "CALCULATION_PLUGIN", "EXTRA_PLUGINS",
        "GPU_IDX", "LOGGING_LEVEL_NAME", "APP_VERSION_STRING", "UWSGI_PROCESSES", "UWSGI_THREADS",
        "CF_HOST", "CF_PORT", "CF_MODELS_DIR", "CF_RUNTIME", "CF_MAX_CONCURRENCY", "CF_MAX_WAIT_S",
        "CF_MAX_QUEUE", "CF_MAX_QUEUE_BYTES", "CF_MAX_BODY_BYTES", "CF_MAX_PIXELS", "CF_THREADS",
        "CF_APPLY_EXIF", "CF_BODY_TIMEOUT_S", "CF_UNKNOWN",
    ]  # fmt: skip
    assert read(**dict.fromkeys(names, "")) == read()


def test_the_variables_of_the_original_that_do_nothing_change_nothing() -> None:
    assert read(**dict.fromkeys(WITHOUT_EFFECT, "anything")) == read()


@pytest.mark.parametrize(
    ("text", "extras"),
    [
        (",", ()),
        (" ", ()),
        ("facenet.PoseEstimator", ("facenet.PoseEstimator",)),
        (" a.B, c.D\te.F,", ("a.B", "c.D", "e.F")),
    ],
)
def test_extra_plugins_are_split_as_in_the_original(text: str, extras: tuple[str, ...]) -> None:
    assert read(EXTRA_PLUGINS=text).extras == extras


def test_processes_times_threads_is_the_concurrency_unless_ours_is_set() -> None:
    assert read(UWSGI_PROCESSES="2", UWSGI_THREADS="3").max_concurrency == 6
    assert read(UWSGI_PROCESSES="2").max_concurrency == 2
    assert read(UWSGI_THREADS="3").max_concurrency == 3
    both = read(UWSGI_PROCESSES="2", UWSGI_THREADS="3", CF_MAX_CONCURRENCY="1")
    assert both.max_concurrency == 1


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("CF_PORT", "http", "is not a whole number"),
        ("CF_PORT", "70000", "must be between 0 and 65535"),
        ("IMG_LENGTH_LIMIT", "-1", "must be at least 0"),
        ("CF_MAX_CONCURRENCY", "0", "must be at least 1"),
        ("CF_MAX_WAIT_S", "soon", "is not a number of seconds"),
        ("CF_MAX_WAIT_S", "nan", "must be more than 0 seconds"),
        ("CF_APPLY_EXIF", "maybe", "must be true or false"),
        ("CF_RUNTIME", "mxnet", "does not run in this version"),
        ("CF_MODELS_DIR", "/no/such/folder", "is no folder"),
        ("LOGGING_LEVEL_NAME", "loud", "is no log level"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable_and_the_reason(
    name: str, value: str, reason: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(**{name: value})
    assert str(caught.value).startswith(f"{name}={value}: {reason}")


def test_a_queue_smaller_than_one_body_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="CF_MAX_QUEUE_BYTES=5: is less than"):
        read(CF_MAX_QUEUE_BYTES="5")


@pytest.mark.parametrize(("text", "flag"), [("true", True), ("1", True), ("False", False)])
def test_flags(text: str, flag: bool) -> None:
    assert read(CF_APPLY_EXIF=text).apply_exif is flag


def test_log_levels_in_any_case() -> None:
    assert read(LOGGING_LEVEL_NAME="Debug").log_level == logging.DEBUG
    assert read(LOGGING_LEVEL_NAME="WARNING").log_level == logging.WARNING


def test_unknown_variables_of_ours_are_named() -> None:
    (warning,) = read(CF_MAX_WAITS="5", OTHER="x").warnings
    assert warning.startswith("CF_MAX_WAITS is set but means nothing")


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "250000 100000\n"}, 3),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "9900000 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
    ],
)
def test_cores_are_bounded_by_the_cgroup_quota(
    tmp_path: Path, files: dict[str, str], cores: int
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cores(cgroup=tmp_path, affinity=lambda: 8) == cores


def test_this_host_has_at_least_one_usable_core() -> None:
    assert usable_cores() >= 1
