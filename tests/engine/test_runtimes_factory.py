"""Which runtime opens which network, and what is refused with which way out."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.core.types import Align
from compreface_engine.models.inputs import InputSpec
from compreface_engine.models.prepared import Embedding, PreparedModel, Source
from compreface_engine.pipeline import Pipeline, PipelineConfig
from compreface_engine.plugins.embedded import MODELS
from compreface_engine.runtimes.base import Concurrency
from compreface_engine.runtimes.batcher import Batcher
from compreface_engine.runtimes.choice import RuntimeRequest
from compreface_engine.runtimes.factory import SessionFactory
from compreface_engine.runtimes.onnxruntime import OnnxSession
from compreface_engine.runtimes.table import version_of

FILE = MODELS / "mobilefacenet192_fp16w.onnx"
CALCULATOR = PreparedModel(
    "mobilefacenet192",
    "calculator",
    FILE,
    InputSpec(112, mean=(127.5,) * 3, scale=(128.0,) * 3),
    outputs=("embedding",),
    embedding=Embedding(Align.ARCFACE5, (1.1, 6.0), 192),
)
ANALYZER = replace(CALCULATOR, role="analyzer", embedding=None)
DETECTOR = replace(
    CALCULATOR, role="detector", embedding=None, path=MODELS / "mtcnn_pnet.onnx", outputs=()
)
WITH_OPENVINO = pytest.mark.skipif(
    version_of("openvino") is None, reason="OpenVINO is not installed"
)


def with_source(folder: Path, format: str, *names: str) -> PreparedModel:
    """The calculator with kept source files, each of which holds its name."""
    folder.mkdir(exist_ok=True)
    files = []
    for name in names:
        (folder / name).write_text(name)
        files.append((folder / name, hashlib.sha256(name.encode()).hexdigest()))
    return replace(CALCULATOR, source=Source(format, tuple(files)))


def test_by_default_all_networks_run_in_onnx_runtime_and_nothing_is_measured() -> None:
    sessions = SessionFactory(RuntimeRequest(), Concurrency())
    for model in (CALCULATOR, DETECTOR, replace(ANALYZER, batch=1)):
        assert isinstance(sessions.model(model), OnnxSession)
        path = sessions.requested()
        assert path is not None
        choice = sessions.choice(path)
        assert (str(choice.backend), choice.device, choice.measured) == (
            "onnxruntime fp32",
            "cpu",
            (),
        )


def test_who_asks_again_gets_the_same_session_and_is_told_of_it_too() -> None:
    sessions = SessionFactory(RuntimeRequest(), Concurrency())
    assert sessions.model(CALCULATOR) is sessions.model(ANALYZER)
    assert sessions.file(FILE) is sessions.model(CALCULATOR)
    assert sessions.requested() is not None
    assert sessions.requested() is None
    sessions.model(ANALYZER)
    assert sessions.requested() is not None


@WITH_OPENVINO
def test_openvino_runs_the_calculator_and_leaves_the_rest_alone() -> None:
    sessions = SessionFactory(RuntimeRequest("openvino", "fp32"), Concurrency())
    session = sessions.model(CALCULATOR)
    path = sessions.requested()
    assert path is not None
    assert str(sessions.choice(path).backend) == "openvino fp32"
    rows = np.random.default_rng(3).standard_normal((3, 3, 112, 112), np.float32)
    (mine,) = session.run({session.inputs[0]: rows})
    (its,) = OnnxSession(FILE, threads=1).run({session.inputs[0]: rows})
    np.testing.assert_allclose(mine, its, atol=1e-3 * np.abs(its).max())
    for model in (DETECTOR, replace(DETECTOR, role="analyzer", path=MODELS / "mtcnn_rnet.onnx")):
        assert isinstance(sessions.model(model), OnnxSession), "too small, or of any size"
    assert isinstance(sessions.file(MODELS / "mtcnn_onet.onnx"), OnnxSession)


@WITH_OPENVINO
def test_auto_measures_the_calculator_and_the_pipeline_says_so(tmp_path: Path) -> None:
    config = PipelineConfig(request=RuntimeRequest("auto", folder=tmp_path / "choices"))
    runtimes = Pipeline.load(config).runtimes
    assert sorted(runtimes) == ["age", "calculator", "detector", "gender"]
    assert runtimes["detector"]["measured"] == []
    measured = runtimes["calculator"]["measured"]
    assert {one["runtime"] for one in measured} == {"onnxruntime", "openvino"}
    assert all(one["ms"] > 0 for one in measured)
    assert runtimes["calculator"]["min_cosine"] >= runtimes["calculator"]["tolerance"] == 0.998
    assert len(list((tmp_path / "choices").iterdir())) == 1
    assert Pipeline.load(config).runtimes == runtimes, "kept, not measured again"


@pytest.mark.parametrize(
    ("wanted", "concurrency", "reason"),
    [
        (
            RuntimeRequest("onnxruntime", "bf16"),
            Concurrency(),
            "for a CPU and the runtimes `auto` and `openvino`",
        ),
        (
            RuntimeRequest("auto", "bf16"),
            Concurrency(gpu_idx=0),
            "for a CPU and the runtimes `auto`",
        ),
    ],
)
def test_a_precision_that_nothing_computes_in_is_refused(
    wanted: RuntimeRequest, concurrency: Concurrency, reason: str
) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        SessionFactory(wanted, concurrency)


@WITH_OPENVINO
def test_openvino_on_a_gpu_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="CF_RUNTIME=openvino runs on the CPU"):
        SessionFactory(RuntimeRequest("openvino"), Concurrency(gpu_idx=0))


@pytest.mark.parametrize("runtime", ["tensorflow", "mxnet"])
@pytest.mark.skipif(
    version_of("tensorflow") is not None or version_of("mxnet") is not None,
    reason="a framework is installed",
)
def test_a_framework_that_is_not_installed_is_refused_with_its_extra(runtime: str) -> None:
    with pytest.raises(ConfigurationError, match=f"not installed.*`{runtime}` extra"):
        SessionFactory(RuntimeRequest(runtime), Concurrency())


def test_a_model_whose_source_was_not_kept_is_refused_with_the_way_out(tmp_path: Path) -> None:
    sessions = framework("mxnet")
    for model in (
        replace(CALCULATOR, source=Source("mxnet")),
        replace(with_source(tmp_path, "mxnet", "a-symbol.json", "a.params"), outputs=()),
        with_source(tmp_path, "mxnet", "a-symbol.json"),
    ):
        with pytest.raises(ConfigurationError, match=r"holds only the converted.*--keep-source"):
            sessions.model(model)


def test_a_damaged_or_missing_source_file_is_refused_by_name(tmp_path: Path) -> None:
    sessions = framework("tensorflow")
    model = with_source(tmp_path, "tensorflow-graph", "graph.pb")
    (tmp_path / "graph.pb").write_text("another")
    with pytest.raises(ConfigurationError, match=r"graph\.pb is damaged"):
        sessions.model(model)
    (tmp_path / "graph.pb").unlink()
    with pytest.raises(ConfigurationError, match=r"graph\.pb cannot be read"):
        sessions.model(model)


def test_a_model_of_another_format_stays_in_onnx_runtime(tmp_path: Path) -> None:
    sessions = framework("tensorflow")
    for model in (CALCULATOR, with_source(tmp_path, "mxnet", "a-symbol.json", "a.params")):
        assert isinstance(sessions.model(model), OnnxSession)
    assert isinstance(sessions.file(MODELS / "mtcnn_onet.onnx"), OnnxSession)


def framework(runtime: str) -> SessionFactory:
    """A factory for which the framework counts as installed; it is never imported here."""
    return SessionFactory(RuntimeRequest(runtime), Concurrency(), version_of=lambda _: "1.0")


def test_batching_covers_what_has_rows_and_takes_any_number_of_them() -> None:
    sessions = SessionFactory(RuntimeRequest(), Concurrency(runs=2, batching=True))
    assert isinstance(sessions.model(CALCULATOR), Batcher)
    assert isinstance(sessions.model(DETECTOR), OnnxSession)
    fixed = replace(CALCULATOR, path=MODELS / "mtcnn_rnet.onnx", batch=1)
    assert isinstance(sessions.model(fixed), OnnxSession)
    assert isinstance(sessions.file(MODELS / "mtcnn_onet.onnx"), OnnxSession)


def test_a_batching_pipeline_gives_the_answers_of_one_that_does_not() -> None:
    image = np.random.default_rng(7).integers(0, 256, (120, 120, 3), np.uint8)
    answers = []
    for batching in ("off", "on"):
        pipeline = Pipeline.load(PipelineConfig(concurrency=2, batching=batching))
        (face,) = pipeline.scan(
            image, min_score=None, detect=False, slugs=frozenset({"calculator"})
        )
        answers.append(face.answers["embedding"])
    assert np.array_equal(*answers)
