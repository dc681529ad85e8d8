"""Settings are read from a mapping and checked; errors name the variable."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.pipeline import PipelineConfig
from compreface_engine.settings import Settings, usable_cores
from compreface_engine.variables import WITHOUT_EFFECT


def read(**variables: str) -> Settings:
    return Settings.from_env(variables, cores=4)


def test_an_empty_environment_gives_the_embedded_build() -> None:
    settings = read()
    assert settings.detector == "embedded.FaceDetector@mtcnn"
    assert settings.calculator == "embedded.Calculator@mobilefacenet192"
    assert settings.extras == PipelineConfig().extras
    assert settings.extras == (
        "facenet.LandmarksDetector",
        "facenet.PoseEstimator",
        "embedded.AgeDetector",
        "embedded.GenderDetector",
    )
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


def test_with_batching_more_requests_are_computed_at_once() -> None:
    assert read().max_concurrency == 4
    assert read(GPU_IDX="0").max_concurrency == 8
    assert Settings.from_env({"GPU_IDX": "0"}, cores=16).max_concurrency == 32
    assert read(CF_BATCHING="on").max_concurrency == 8
    assert read(CF_BATCHING="on", UWSGI_PROCESSES="3").max_concurrency == 3
    assert read(GPU_IDX="0", CF_MAX_CONCURRENCY="2").max_concurrency == 2


def test_measurements_are_kept_beside_the_models_unless_a_folder_is_named(tmp_path: Path) -> None:
    assert read().choices_dir is None
    assert read(CF_MODELS_DIR=str(tmp_path)).choices_dir == tmp_path / ".choices"
    named = read(CF_MODELS_DIR=str(tmp_path), CF_CHOICES_DIR="/not/there/yet")
    assert named.choices_dir == Path("/not/there/yet")


def test_empty_means_unset_everywhere() -> None:
    names = [
        "IMG_LENGTH_LIMIT", "FACE_DETECTION_PLUGIN", "CALCULATION_PLUGIN", "EXTRA_PLUGINS",
        "GPU_IDX", "LOGGING_LEVEL_NAME", "APP_VERSION_STRING", "UWSGI_PROCESSES", "UWSGI_THREADS",
        "CF_HOST", "CF_PORT", "CF_MODELS_DIR", "CF_RUNTIME", "CF_MAX_CONCURRENCY", "CF_MAX_WAIT_S",
        "CF_MAX_QUEUE", "CF_MAX_QUEUE_BYTES", "CF_MAX_BODY_BYTES", "CF_MAX_PIXELS", "CF_THREADS",
        "CF_MAX_MEMORY_BYTES",
        "CF_APPLY_EXIF", "CF_BODY_TIMEOUT_S", "CF_UNKNOWN", "CF_API_KEYS", "CF_API_KEYS_FILE",
        "CF_RATE_LIMIT", "CF_RATE_BURST", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_EXPORTER",
        "OTEL_SDK_DISABLED", "OTEL_SERVICE_NAME", "BE_VERSION", "FLASK_ENV", "UWSGI_HARAKIRI",
    ]  # fmt: skip
    assert read(**dict.fromkeys(names, "")) == read()


def test_the_originals_variables_without_effect_change_no_setting() -> None:
    changed = read(**dict.fromkeys(WITHOUT_EFFECT, "anything"))
    assert replace(changed, warnings=()) == read()


# Section 10 of the contract: everything the service reads, then what only its tools read.
OF_THE_ORIGINAL = (
    "ML_PORT IMG_LENGTH_LIMIT FACE_DETECTION_PLUGIN CALCULATION_PLUGIN EXTRA_PLUGINS GPU_IDX "
    "INTEL_OPTIMIZATION LOGGING_LEVEL_NAME FLASK_ENV APP_VERSION_STRING BE_VERSION RUN_MODE CUDA "
    "HOME UWSGI_PROCESSES UWSGI_THREADS "
    "SCANNERS DRY_RUN SAVE_IMG SAVE_IMG_ON_ERROR IMG_NAMES USE_REMOTE ML_HOST ML_URL"
).split()


@pytest.mark.parametrize("name", OF_THE_ORIGINAL)
def test_every_variable_of_the_original_is_read_or_listed_without_effect(name: str) -> None:
    asked: set[str] = set()

    class Recorder(dict[str, str]):
        def get(self, name: str, default: object = None) -> str:
            asked.add(name)
            return ""

    Settings.from_env(Recorder(), cores=1)
    assert name in asked or name in WITHOUT_EFFECT


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ML_PORT", "8080"),
        ("FLASK_ENV", "development"),
        ("CUDA", "11.8"),
        ("INTEL_OPTIMIZATION", "true"),
        ("UWSGI_HARAKIRI", "30"),
        ("CF_RATE_BURST", "5"),
        ("BE_VERSION", "9"),
    ],
)
def test_a_variable_without_effect_is_warned_of(name: str, value: str) -> None:
    (warning,) = read(**{name: value}).warnings
    assert warning.startswith(f"{name} ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ML_PORT", "3000"),
        ("FLASK_ENV", "production"),
        ("INTEL_OPTIMIZATION", "false"),
        ("BE_VERSION", "1.2.0"),
        ("HOME", "/app/ml"),
        ("UWSGI_PROCESSES", "2"),
    ],
)
def test_the_originals_own_values_cause_no_warning(name: str, value: str) -> None:
    assert read(**{name: value}).warnings == ()


def test_keys_are_a_list_or_a_file_of_them(tmp_path: Path) -> None:
    assert read(CF_API_KEYS="first-key, second-key").api_keys == ("first-key", "second-key")
    file = tmp_path / "keys"
    file.write_text("first-key\nsecond-key\n\n")
    assert read(CF_API_KEYS_FILE=str(file)).api_keys == ("first-key", "second-key")


def test_a_file_of_keys_may_have_comments_and_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    text = "first-key # of the backend\n\n# Production keys, handle carefully\n  #x\nsecond#key\r\n"
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read(CF_API_KEYS_FILE=str(file)).api_keys == ("first-key", "second#key")


def test_a_wrong_key_of_a_file_is_named_by_its_line(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\nlong-enough\nsecret\n")
    with pytest.raises(ConfigurationError, match=r"^CF_API_KEYS_FILE: .*line 3 ") as refused:
        read(CF_API_KEYS_FILE=str(file))
    assert "secret" not in str(refused.value)


def test_wrong_keys_are_refused_and_never_shown(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text(" \n")
    absent = str(tmp_path / "absent")
    wrong = {
        "CF_API_KEYS ": {"CF_API_KEYS": ","},
        "CF_API_KEYS: key 2 ": {"CF_API_KEYS": "long-enough,secret"},
        "CF_API_KEYS: key 1 ": {"CF_API_KEYS": "secret\u00e4\u00e4\u00e4\u00e4"},
        "CF_API_KEYS_FILE ": {"CF_API_KEYS_FILE": str(empty)},
        f"CF_API_KEYS_FILE={absent}: ": {"CF_API_KEYS_FILE": absent},
        "CF_API_KEYS and CF_API_KEYS_FILE ": {
            "CF_API_KEYS": "secret-one",
            "CF_API_KEYS_FILE": str(empty),
        },
    }
    for start, variables in wrong.items():
        with pytest.raises(ConfigurationError) as caught:
            read(**variables)
        assert str(caught.value).startswith(start)
        assert "secret" not in str(caught.value)
    assert "first-key" not in repr(read(CF_API_KEYS="first-key"))


def test_a_burst_is_a_second_of_requests_unless_set() -> None:
    assert (read().rate_limit, read().rate_burst) == (0, 1)
    assert read(CF_RATE_LIMIT="2.5").rate_burst == 3
    assert read(CF_RATE_LIMIT="0.1").rate_burst == 1
    assert read(CF_RATE_LIMIT="2", CF_RATE_BURST="20").rate_burst == 20


def test_traces_are_sent_where_a_standard_endpoint_is_set() -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    assert not read().traces
    assert read(**endpoint).traces
    assert read(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://127.0.0.1:4318/v1/traces").traces
    assert not read(**endpoint, OTEL_SDK_DISABLED="true").traces
    assert not read(**endpoint, OTEL_TRACES_EXPORTER="none").traces


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


def test_processes_times_threads_is_the_concurrency_unless_cf_max_concurrency_is_set() -> None:
    assert read(UWSGI_PROCESSES="2", UWSGI_THREADS="3").max_concurrency == 6
    assert read(UWSGI_PROCESSES="2").max_concurrency == 2
    assert read(UWSGI_THREADS="3").max_concurrency == 3
    both = read(UWSGI_PROCESSES="2", UWSGI_THREADS="3", CF_MAX_CONCURRENCY="1")
    assert both.max_concurrency == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CF_PORT", "http"),
        ("CF_PORT", "70000"),
        ("IMG_LENGTH_LIMIT", "-1"),
        ("CF_MAX_CONCURRENCY", "0"),
        ("CF_MAX_WAIT_S", "soon"),
        ("CF_MAX_WAIT_S", "nan"),
        ("CF_APPLY_EXIF", "maybe"),
        ("CF_RUNTIME", "caffe"),
        ("CF_PRECISION", "int8"),
        ("CF_BATCHING", "maybe"),
        ("CF_MIN_COSINE", "1.1"),
        ("CF_MIN_COSINE", "nan"),
        ("CF_MIN_COSINE", "high"),
        ("CF_MODELS_DIR", "/no/such/folder"),
        ("LOGGING_LEVEL_NAME", "loud"),
        ("CF_RATE_LIMIT", "0"),
        ("CF_RATE_LIMIT", "fast"),
        ("CF_MAX_QUEUE_BYTES", "5"),  # less than one body
    ],
)
def test_a_wrong_value_is_named_with_its_variable(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(**{name: value})
    assert str(caught.value).startswith(f"{name}={value}: ")


@pytest.mark.parametrize(("text", "flag"), [("true", True), ("1", True), ("False", False)])
def test_flags(text: str, flag: bool) -> None:
    assert read(CF_APPLY_EXIF=text).apply_exif is flag


def test_log_levels_in_any_case() -> None:
    assert read(LOGGING_LEVEL_NAME="Debug").log_level == logging.DEBUG
    assert read(LOGGING_LEVEL_NAME="WARNING").log_level == logging.WARNING


def test_unknown_cf_variables_are_warned_of() -> None:
    (warning,) = read(CF_MAX_WAITS="5", OTHER="x").warnings
    assert warning.startswith("CF_MAX_WAITS ")


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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
    ],
)
def test_traces_that_cannot_be_sent_are_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}={value}: "):
        read(**{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", name: value})
