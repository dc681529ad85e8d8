"""The OpenVINO session gives ONNX Runtime's numbers, to many threads at once."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import compreface_engine
from compreface_engine.core.errors import ConfigurationError
from compreface_engine.runtimes.host import this_cpu
from compreface_engine.runtimes.onnxruntime import OnnxSession
from tests.shared import ROOT

pytest.importorskip("openvino", reason="OpenVINO is not installed")
from compreface_engine.runtimes.openvino import OpenVinoSession

_MODELS = Path(compreface_engine.__file__).parent / "embedded_models"
_ONET = _MODELS / "mtcnn_onet.onnx"


def _patches(rows: int, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    return {"input": random.standard_normal((rows, 3, 48, 48), np.float32)}


@pytest.fixture(scope="module")
def onet() -> OpenVinoSession:
    return OpenVinoSession(_ONET, threads=1, runs=2)


def test_names_and_numbers_are_those_of_onnx_runtime(onet: OpenVinoSession) -> None:
    other = OnnxSession(_ONET, threads=1)
    assert (onet.inputs, onet.outputs) == (other.inputs, other.outputs)
    for rows in (1, 5, 2):
        mine, its = onet.run(_patches(rows)), other.run(_patches(rows))
        for a, b in zip(mine, its, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            np.testing.assert_allclose(a, b, atol=2e-5)


def test_outputs_come_in_the_order_they_are_asked_for(onet: OpenVinoSession) -> None:
    everything = dict(zip(onet.outputs, onet.run(_patches(2)), strict=True))
    prob, box = onet.run(_patches(2), ["prob", "box"])
    assert np.array_equal(prob, everything["prob"])
    assert np.array_equal(box, everything["box"])


def test_an_answer_is_the_callers_own(onet: OpenVinoSession) -> None:
    first = onet.run(_patches(3, 1), ["prob"])[0]
    kept = first.copy()
    onet.run(_patches(3, 2))
    assert np.array_equal(first, kept), "the next run wrote into an answer"


def test_many_threads_share_it_and_no_more_requests_exist_than_ran_at_once(
    onet: OpenVinoSession,
) -> None:
    alone = [onet.run(_patches(4, seed), ["prob"])[0] for seed in range(24)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: onet.run(_patches(4, seed), ["prob"])[0], range(24)))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
    assert 0 < len(onet._requests) <= 4
    assert onet._network.get_property("NUM_STREAMS") == 2, "runs would take turns"
    assert onet._network.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"


def test_a_file_that_is_no_model_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(ConfigurationError, match=r"broken\.onnx cannot be loaded by OpenVINO"):
        OpenVinoSession(tmp_path / "broken.onnx", threads=1)


@pytest.mark.skipif(this_cpu().multiplies_bfloat16, reason="this CPU has bfloat16")
def test_a_precision_that_the_cpu_lacks_is_refused_and_not_replaced_in_silence() -> None:
    with pytest.raises(ConfigurationError, match=r"onet\.onnx in bf16 on this CPU but in f32"):
        OpenVinoSession(_ONET, threads=1, precision="bf16")


_RUN = """
import sys, time
from pathlib import Path
import numpy as np
from compreface_engine.runtimes.openvino import OpenVinoSession
session = OpenVinoSession(Path(sys.argv[1]), threads=1)
session.run({"input": np.zeros((1, 3, 48, 48), np.float32)})
print([name for name in sys.modules if "telemetry" in name])
"""


def test_nothing_is_written_to_the_home_folder_and_no_telemetry_is_loaded(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": str(ROOT / "engine"),
    }
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(_ONET)],
        env=environment,
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == "[]"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
