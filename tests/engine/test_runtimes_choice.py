"""The choice of a runtime: fast, exact enough, measured once and kept whole or not at all."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import compreface_engine
from compreface_engine.core.errors import ConfigurationError
from compreface_engine.core.geometry import aligned_crop
from compreface_engine.core.image import decode
from compreface_engine.models.inputs import InputSpec
from compreface_engine.models.probe import real_faces
from compreface_engine.pipeline import Pipeline, PipelineConfig
from compreface_engine.runtimes import backends
from compreface_engine.runtimes import measure as measuring
from compreface_engine.runtimes.backends import REFERENCE, Backend
from compreface_engine.runtimes.base import Concurrency
from compreface_engine.runtimes.choice import Choice, RuntimeRequest, choose
from compreface_engine.runtimes.host import Cpu, this_cpu
from compreface_engine.runtimes.measure import Measured, least_cosine, measure, measure_apart
from tests.shared import needs_shared, shared

_MODELS = Path(compreface_engine.__file__).parent / "embedded_models"
_RNET = _MODELS / "mtcnn_rnet.onnx"
_CALCULATOR = "mobilefacenet192_fp16w.onnx"
FP32, BF16 = Backend("openvino", "fp32"), Backend("openvino", "bf16")
OLD, NEW = Cpu("old", frozenset({"avx2"})), Cpu("new", frozenset({"avx2", "avx512_bf16"}))
VERSIONS = {"onnxruntime": "1.32.0", "openvino": "2026.4.1"}
WITHOUT_OPENVINO = {"onnxruntime": "1.32.0"}


class Measures:
    """Measures as it was told, and remembers what it was asked for."""

    def __init__(self, *results: Measured) -> None:
        self.results = results
        self.asked: list[list[Backend]] = []

    def __call__(
        self, path: Path, probe: NDArray[np.float32], wanted: Sequence[Backend], threads: int
    ) -> list[Measured]:
        self.asked.append(list(wanted))
        return [result for result in self.results if result.backend in wanted]


QUICK = Measures(
    Measured(REFERENCE, 8, 6, 1.0), Measured(FP32, 9, 8, 1.0), Measured(BF16, 5, 3, 0.9999)
)


def chosen(
    measures: Measures,
    request: RuntimeRequest,
    cpu: Cpu = NEW,
    path: Path = _RNET,
    installed: Mapping[str, str] = VERSIONS,
    threads: int = 1,
) -> Choice:
    def probe() -> NDArray[np.float32]:
        return np.zeros((6, 3, 24, 24), np.float32)

    return choose(
        path,
        probe,
        request,
        concurrency=Concurrency(runs=2, threads=threads),
        cpu=cpu,
        measure=measures,
        version_of=installed.get,
    )


def auto(folder: Path | None = None) -> RuntimeRequest:
    return RuntimeRequest(runtime="auto", folder=folder)


def test_the_fastest_way_within_the_tolerance_is_taken_and_said() -> None:
    choice = chosen(QUICK, auto())
    assert choice.backend == BF16
    assert choice.json() == {
        "runtime": "openvino",
        "version": "2026.4.1",
        "precision": "bf16",
        "device": "cpu",
        "sha256": None,
        "threads_alone": 1,
        "min_cosine": 0.9999,
        "tolerance": 0.998,
        "measured": [
            {"runtime": "onnxruntime", "precision": "fp32", "ms": 7},
            {"runtime": "openvino", "precision": "fp32", "ms": 8.5},
            {"runtime": "openvino", "precision": "bf16", "ms": 4},
        ],
    }
    assert "openvino 2026.4.1 bf16 on cpu (cosine 0.999900, at least 0.998" in str(choice)


def test_what_is_less_exact_than_the_tolerance_is_left() -> None:
    assert chosen(QUICK, replace(auto(), min_cosine=0.99995)).backend == REFERENCE


def test_a_cpu_without_bfloat16_is_not_asked_for_it() -> None:
    measures = Measures(*QUICK.results)
    assert chosen(measures, auto(), OLD).backend == REFERENCE
    assert measures.asked == [[REFERENCE, FP32]]


@pytest.mark.parametrize(("factor", "way"), [(0.98, REFERENCE), (0.96, FP32)])
def test_another_way_is_taken_only_where_it_saves_more_than_runs_differ(
    factor: float, way: Backend
) -> None:
    close = Measures(Measured(REFERENCE, 8, 6, 1.0), Measured(FP32, 8 * factor, 6 * factor, 1.0))
    assert chosen(close, auto(), OLD).backend == way


def test_a_way_that_failed_is_left() -> None:
    failing = Measures(Measured(REFERENCE, 8, 6, 1.0), Measured(FP32, error="no such kernel"))
    choice = chosen(failing, auto(), OLD)
    assert choice.backend == REFERENCE
    assert [one["runtime"] for one in choice.json()["measured"]] == ["onnxruntime"]


def test_where_only_onnx_runtime_is_installed_nothing_is_measured() -> None:
    measures = Measures()
    choice = chosen(measures, auto(), installed=WITHOUT_OPENVINO)
    assert (choice.backend, choice.measured, measures.asked) == (REFERENCE, (), [])


def test_a_forced_runtime_in_float32_needs_no_measurement() -> None:
    measures = Measures()
    choice = chosen(measures, RuntimeRequest("openvino", "fp32"))
    assert (choice.backend, choice.version, measures.asked) == (FP32, "2026.4.1", [])


def test_a_forced_precision_is_held_to_the_tolerance_too() -> None:
    assert chosen(QUICK, RuntimeRequest("openvino", "bf16")).backend == BF16
    with pytest.raises(ConfigurationError, match=r"CF_MIN_COSINE=0\.99999.*cosine 0\.999900"):
        chosen(QUICK, RuntimeRequest("auto", "bf16", 0.99999))


def test_bfloat16_on_a_cpu_without_it_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"CF_PRECISION=bf16: this CPU has neither"):
        chosen(QUICK, RuntimeRequest("auto", "bf16"), OLD)


def test_bfloat16_where_nothing_installed_computes_in_it_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="`openvino` extra"):
        chosen(QUICK, RuntimeRequest("auto", "bf16"), installed=WITHOUT_OPENVINO)
    with pytest.raises(ConfigurationError, match="CF_RUNTIME=openvino, but it is not installed"):
        chosen(QUICK, RuntimeRequest("openvino"), installed=WITHOUT_OPENVINO)


class Breaks(Measures):
    def __call__(
        self, path: Path, probe: NDArray[np.float32], wanted: Sequence[Backend], threads: int
    ) -> list[Measured]:
        raise ConfigurationError("it ended with -4")


def test_a_measurement_that_breaks_leaves_auto_with_onnx_runtime_and_a_warning(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    assert chosen(Breaks(), auto(tmp_path)).backend == REFERENCE
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "it ended with -4" in caplog.text
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigurationError, match="could not be measured: it ended with -4"):
        chosen(Breaks(), RuntimeRequest("openvino"))


def test_what_was_measured_is_kept_and_read_again(tmp_path: Path) -> None:
    folder = tmp_path / "models" / ".choices"
    measures = Measures(*QUICK.results)
    first = chosen(measures, auto(folder))
    assert chosen(measures, auto(folder)) == first
    assert len(measures.asked) == 1
    (file,) = folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o644
    assert json.loads(file.read_text())["key"]["cpu"] == "new"


def test_the_tolerance_is_judged_anew_from_what_was_kept(tmp_path: Path) -> None:
    measures = Measures(*QUICK.results)
    assert chosen(measures, auto(tmp_path)).backend == BF16
    assert chosen(measures, replace(auto(tmp_path), min_cosine=0.99999)).backend == REFERENCE
    assert len(measures.asked) == 1


def test_another_model_cpu_number_of_threads_or_version_measures_again(tmp_path: Path) -> None:
    measures = Measures(*QUICK.results)
    chosen(measures, auto(tmp_path))
    chosen(measures, auto(tmp_path), path=_MODELS / "mtcnn_onet.onnx")
    chosen(measures, auto(tmp_path), Cpu("new", NEW.flags | {"amx_bf16"}))
    chosen(measures, auto(tmp_path), Cpu("newer", NEW.flags))
    chosen(measures, auto(tmp_path), installed={**VERSIONS, "openvino": "2027.0.0"})
    chosen(measures, auto(tmp_path), threads=2)
    assert len(measures.asked) == len(list(tmp_path.iterdir())) == 6


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": 1, "results": []}'])
def test_a_damaged_file_is_measured_again_and_replaced(tmp_path: Path, text: str) -> None:
    measures = Measures(*QUICK.results)
    first = chosen(measures, auto(tmp_path))
    (file,) = tmp_path.iterdir()
    whole = file.read_text()
    file.write_text(text)
    assert chosen(measures, auto(tmp_path)) == first
    assert len(measures.asked) == 2
    assert file.read_text() == whole


def test_a_kept_result_with_nonsense_in_it_is_measured_again(tmp_path: Path) -> None:
    measures = Measures(*QUICK.results)
    chosen(measures, auto(tmp_path))
    (file,) = tmp_path.iterdir()
    kept = json.loads(file.read_text())
    kept["results"][0]["ms_alone"] = None
    file.write_text(json.dumps(kept))
    chosen(measures, auto(tmp_path))
    assert len(measures.asked) == 2


def test_a_folder_that_cannot_be_written_costs_one_warning_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    measures = Measures(*QUICK.results)
    folder = tmp_path / "file" / ".choices"
    assert chosen(measures, auto(folder)).backend == BF16
    assert chosen(measures, auto(folder)).backend == BF16
    assert len(measures.asked) == 2
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "Set CF_CHOICES_DIR" in caplog.text


def test_a_file_that_cannot_be_put_in_place_leaves_no_half_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chosen(QUICK, auto(tmp_path))
    (file,) = tmp_path.iterdir()
    file.unlink()
    file.mkdir()
    assert chosen(QUICK, auto(tmp_path)).backend == BF16
    assert list(tmp_path.iterdir()) == [file]
    assert "cannot be kept" in caplog.text


def _rows() -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((8, 3, 24, 24), np.float32)


def test_real_networks_are_timed_and_compared() -> None:
    found = backends.available(OLD)
    results = measure(_RNET, _rows(), found, 1)
    assert [result.backend for result in results] == found
    assert all(result.ms_alone > 0 and result.ms_batched > 0 for result in results)
    assert all(result.min_cosine > 0.999999 for result in results)
    assert not any(result.error for result in results)


class _WrongAbout:
    """A session that answers all rows alike, but for one."""

    inputs, outputs = ("rows",), ("found",)

    def __init__(self, wrong: float) -> None:
        self._wrong = wrong

    def run(
        self, feeds: Mapping[str, NDArray[np.float32]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[np.float32]]:
        found = np.ones((len(feeds["rows"]), 2), np.float32)
        found[feeds["rows"][:, 0] == self._wrong, 0] = 0
        return [found]


@pytest.mark.parametrize("wrong", [0, 5, 6, 25])
def test_every_row_is_compared_in_whichever_batch_it_runs(
    monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    sessions = {REFERENCE: _WrongAbout(-1), FP32: _WrongAbout(wrong)}
    monkeypatch.setattr(measuring, "open_network", lambda backend, *_: sessions[backend])
    probe = np.arange(26, dtype=np.float32).reshape(26, 1)
    (_, other) = measure(Path("any"), probe, [REFERENCE, FP32], 1)
    assert other.min_cosine == pytest.approx(0.5**0.5)


def test_the_lowest_cosine_counts_of_all_rows_and_outputs() -> None:
    rows = np.array([[3.0, 4.0], [1.0, 0.0]])
    close = np.array([[3.0, 4.0], [4.0, 3.0]])
    assert least_cosine([rows, rows], [rows, rows]) == pytest.approx(1)
    assert least_cosine([rows, rows], [close, rows]) == pytest.approx(0.8)
    assert least_cosine([rows], [rows * np.nan]) == -1


def test_a_way_that_cannot_run_is_named_with_its_reason() -> None:
    (good, bad) = measure(_RNET, _rows(), [REFERENCE, Backend("openvino", "int3")], 1)
    assert good.backend == REFERENCE
    assert not good.error
    assert bad.error


def test_a_measurement_runs_in_a_process_of_its_own() -> None:
    (result,) = measure_apart(_RNET, _rows(), [REFERENCE], 1)
    assert result.backend == REFERENCE
    assert result.ms > 0
    assert result.min_cosine == 1.0
    with pytest.raises(ConfigurationError, match=r"it ended with 1: .*absent\.onnx"):
        measure_apart(Path("absent.onnx"), _rows(), [REFERENCE], 1)


def test_the_cpu_is_read_from_the_system(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: Some CPU\nstepping\t: 1\n"
        "flags\t\t: fpu avx2 avx512_bf16\n\nprocessor\t: 1\nmodel name\t: Another\nflags\t\t: x\n"
    )
    cpu = this_cpu(cpuinfo)
    assert cpu == Cpu("Some CPU (26 2 1)", frozenset({"fpu", "avx2", "avx512_bf16"}))
    assert cpu.multiplies_bfloat16
    assert not this_cpu(tmp_path / "absent").flags


def test_the_faces_to_measure_on_are_the_same_each_time_and_unlike_each_other() -> None:
    faces = real_faces(112)
    assert faces.shape == (26, 112, 112, 3)
    assert faces.dtype == np.uint8
    assert np.array_equal(faces, real_faces(112))
    assert all((a != b).mean() > 0.5 for a, b in itertools.pairwise(faces))
    steps = np.abs(np.diff(faces.astype(np.int16), axis=2))
    assert np.median(steps) < 10, "smoother than noise"


@needs_shared
@pytest.mark.skipif(not this_cpu().multiplies_bfloat16, reason="this CPU has no bfloat16")
def test_real_faces_lose_no_more_by_bfloat16_than_those_that_are_measured() -> None:
    """The promise of `auto`, held against the samples of CompreFace, faces of 37 px among them."""
    pipeline = Pipeline.load(PipelineConfig(extras=()))
    crops = []
    for path in sorted(shared("faces", "compreface-samples").glob("*.jpg")):
        picture = decode(path.read_bytes(), max_pixels=1 << 28).image
        (faces,) = pipeline._detector.detect([picture], min_score=0.85)
        crops += [aligned_crop(picture, f.landmarks, 112) for f in faces if f.landmarks is not None]
    assert len(crops) >= 46
    inputs = InputSpec(112, mean=(127.5,) * 3, scale=(128.0,) * 3)

    def lowest(pictures: NDArray[np.uint8]) -> float:
        rows = inputs.tensor(pictures)
        (_, rounded) = measure(_MODELS / _CALCULATOR, rows, [REFERENCE, BF16], 1)
        assert not rounded.error
        return rounded.min_cosine

    probed = lowest(real_faces(112))
    assert RuntimeRequest().min_cosine < probed <= lowest(np.stack(crops))
