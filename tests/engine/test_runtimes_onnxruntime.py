"""The ONNX Runtime session on a bundled network, and its refusals."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

import compreface_engine
from compreface_engine.core.errors import ConfigurationError
from compreface_engine.runtimes.base import Session
from compreface_engine.runtimes.onnxruntime import OnnxSession

_RNET = Path(compreface_engine.__file__).parent / "embedded_models" / "mtcnn_rnet.onnx"


def _patches(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal((7, 3, 24, 24), np.float32)


def test_outputs_come_by_name_or_all_in_the_graphs_order() -> None:
    session: Session = OnnxSession(_RNET, threads=1)
    assert session.inputs == ("input",)
    feeds = {"input": _patches(0)}
    everything = session.run(feeds)
    assert [value.shape[0] for value in everything] == [7] * len(session.outputs)
    (prob,) = session.run(feeds, ["prob"])
    assert np.array_equal(prob, everything[session.outputs.index("prob")])
    assert np.allclose(prob.sum(axis=1), 1, atol=1e-6)


def test_one_session_serves_many_threads_at_once() -> None:
    session = OnnxSession(_RNET, threads=2)
    alone = [session.run({"input": _patches(seed)}, ["prob"])[0] for seed in range(16)]
    with ThreadPoolExecutor(8) as pool:
        together = list(
            pool.map(lambda seed: session.run({"input": _patches(seed)}, ["prob"])[0], range(16))
        )
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_a_file_that_is_no_model_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(ConfigurationError, match=r"broken\.onnx cannot be loaded"):
        OnnxSession(tmp_path / "broken.onnx", threads=1)


@pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="this runtime has CUDA"
)
def test_a_gpu_without_the_cuda_provider_is_refused_with_the_way_out() -> None:
    with pytest.raises(
        ConfigurationError, match=r"^GPU_IDX=0 asks.*no CUDA provider.*`gpu` extra.*GPU_IDX=-1\.$"
    ):
        OnnxSession(_RNET, threads=1, gpu_idx=0)
