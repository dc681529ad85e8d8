"""The embedded networks: a rebuild gives the shipped bytes, which give the original numbers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from compreface_convert.errors import ConvertError
from compreface_convert.proof import lowest_cosine, run_onnx
from compreface_engine.models.inputs import InputSpec
from tests.convert.test_recorded import RECORDINGS, recorded
from tests.shared import ROOT, needs_shared, shared
from tools import embedded

MODELS = ROOT / "engine" / "compreface_engine" / "embedded_models"


@pytest.mark.parametrize(
    ("net", "outputs"),
    [
        ("pnet", ("box", "prob")),
        ("rnet", ("box", "prob")),
        ("onet", ("box", "landmark", "prob")),
    ],
)
def test_the_shipped_mtcnn_gives_what_the_tflite_interpreter_gave(
    net: str, outputs: tuple[str, ...]
) -> None:
    arrays = recorded("tflite_interpreter.npz")
    data = (MODELS / f"mtcnn_{net}.onnx").read_bytes()
    values = run_onnx(data, arrays[f"{net}_input"], outputs)
    for name, value in zip(outputs, values, strict=True):
        assert np.abs(value - arrays[f"{net}_{name}"]).max() < 1e-5, name


def test_the_shipped_mobilefacenet_gives_what_the_tflite_interpreter_gave() -> None:
    spec = InputSpec(112, mean=(127.5,) * 3, scale=(128.0,) * 3)
    batch = spec.tensor(recorded("crops.npz")["aligned_u8"])
    data = (MODELS / "mobilefacenet192_fp16w.onnx").read_bytes()
    (answer,) = run_onnx(data, batch, ["embedding"])
    expected = recorded("tflite_interpreter.npz")["mobilefacenet"]
    assert np.abs(answer - expected).max() < 0.1
    assert lowest_cosine(answer, expected) > 0.99999


def test_pnet_takes_any_size_and_any_batch() -> None:
    data = (MODELS / "mtcnn_pnet.onnx").read_bytes()
    batch = np.random.default_rng(1).uniform(-1, 1, (2, 3, 61, 48)).astype(np.float32)
    box, prob = run_onnx(data, batch, ["box", "prob"])
    assert box.shape == (2, 4, 26, 19)
    assert np.allclose(prob.sum(axis=1), 1, atol=1e-6)


def test_shipped_files_are_fixed_in_version_and_carry_no_prelu_operator_on_pictures() -> None:
    for source in embedded.SOURCES:
        model = onnx.load(str(MODELS / source.target))
        assert (model.ir_version, model.opset_import[0].version) == (8, 17)
        counts = [node.op_type for node in model.graph.node].count("PRelu")
        # The one behind a dense layer is small; rewriting it brings nothing.
        assert counts == (source.target in ("mtcnn_rnet.onnx", "mtcnn_onet.onnx"))
        assert [value.name for value in model.graph.output] == list(source.form.outputs)


def test_another_file_than_the_one_in_the_package_is_refused() -> None:
    data = (RECORDINGS / "small.tflite").read_bytes()
    with pytest.raises(ConvertError, match=r"pnet\.tflite has the SHA-256"):
        embedded.convert_one(embedded.SOURCES[0], [data])


TFLITE = [source for source in embedded.SOURCES if len(source.files) == 1]


@needs_shared
@pytest.mark.parametrize("source", TFLITE, ids=lambda source: source.target)
def test_a_rebuild_gives_the_shipped_bytes_and_the_recorded_numbers(
    source: embedded.Source,
) -> None:
    ((file, _),) = source.files
    made = embedded.convert_one(source, [shared("models", "embedded", file).read_bytes()])
    assert made.data == (MODELS / source.target).read_bytes()
    references = [
        shared("models", folder, "reference.npz") for folder in ("agegender_faceapi", "embedded")
    ]
    difference = embedded.prove_reference(source, made.data, references)
    assert difference is not None
    assert difference <= source.tolerance
    assert embedded.prove_reference(source, made.data, references[:1]) is None


@needs_shared
def test_the_shipped_age_and_gender_are_face_apis() -> None:
    """The recorded answers are those of face-api itself, in node."""
    (source,) = (source for source in embedded.SOURCES if source not in TFLITE)
    data = (MODELS / source.target).read_bytes()
    reference = shared("models", "agegender_faceapi", "reference.npz")
    difference = embedded.prove_reference(source, data, [reference])
    assert difference is not None
    assert difference <= 2e-5  # years
    given = shared("models", "agegender_faceapi", "age_gender.onnx").read_bytes()
    rng = np.random.default_rng(3)
    batch = rng.uniform(0, 255, (8, 3, 112, 112)).astype(np.float32)
    age, gender = run_onnx(given, batch, ["age", "gender"])
    (answer,) = run_onnx(data, batch, source.outputs)
    assert np.abs(answer[:, :1] - age).max() <= 5e-5
    assert np.abs(answer[:, 1:] - gender).max() <= 2e-6


def test_the_shipped_age_and_gender_keep_their_weights_in_8_bits() -> None:
    path = MODELS / "agegender_u8w.onnx"
    model = onnx.load(str(path))
    kinds = {node.op_type for node in model.graph.node}
    assert "DequantizeLinear" not in kinds
    assert {"Cast", "Sub", "Mul"} <= kinds
    wide = [t for t in model.graph.initializer if np.prod(t.dims) > 512]
    assert {tensor.data_type for tensor in wide} == {onnx.TensorProto.UINT8}
    assert path.stat().st_size < 440_000
