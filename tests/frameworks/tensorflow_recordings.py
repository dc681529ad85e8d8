"""Makes the recordings that conversions are held against. Runs in the environment of TensorFlow.

    python -m tests.frameworks.tensorflow_recordings --out FOLDER [--facenet PB] [--tflite FOLDER]

Only TensorFlow and NumPy are imported here: the judge shares nothing with the converter.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tests.frameworks import sandberg_graph, small_tflite

v1: Any = tf.compat.v1
CROPS = Path(__file__).resolve().parent.parent / "convert" / "recordings" / "crops.npz"


def run_graph(
    data: bytes, batches: list[Any], *, feed: str = "input", fetch: str = "embeddings"
) -> list[Any]:
    """The node `fetch` of a frozen graph for each NHWC batch, `phase_train` false."""
    definition = v1.GraphDef()
    definition.ParseFromString(data)
    graph = tf.Graph()
    with graph.as_default(), v1.Session(graph=graph) as session:
        v1.import_graph_def(definition, name="")
        switches = {"phase_train:0": False} if feed == "input" else {}
        return [session.run(f"{fetch}:0", {f"{feed}:0": batch, **switches}) for batch in batches]


def record_sandberg(out: Path) -> None:
    """The small graph, two inputs and what TensorFlow gives."""
    data = sandberg_graph.frozen_graph()
    (out / "sandberg_small.pb").write_bytes(data)
    rng = np.random.default_rng(3)
    shape = (3, sandberg_graph.SIZE, sandberg_graph.SIZE, 3)
    batch = rng.standard_normal(shape).astype(np.float32)
    (embeddings,) = run_graph(data, [batch])
    np.savez_compressed(out / "sandberg_small.npz", input_nhwc=batch, embeddings=embeddings)


def record_small_networks(out: Path) -> None:
    """The small network in three files, an input and what TensorFlow gives for each."""
    shape = (1, small_tflite.SIZE, small_tflite.SIZE, 3)
    batch = np.random.default_rng(4).standard_normal(shape).astype(np.float32)
    for name, halves in (("small", False), ("small_halves", True)):
        path = out / f"{name}.tflite"
        path.write_bytes(small_tflite.small_tflite(halves=halves))
        result = run_tflite(path, batch)[0]
        np.savez_compressed(out / f"{name}.npz", input_nhwc=batch, output=result)
    data = small_tflite.small_frozen_graph()
    (out / "small_frozen.pb").write_bytes(data)
    (result,) = run_graph(data, [batch], feed="x", fetch="Identity")
    np.savez_compressed(out / "small_frozen.npz", input_nhwc=batch, output=result)


def standardised(crops: Any) -> Any:
    """FaceNet's input: each crop minus its mean, over its deviation."""
    values = crops.astype(np.float64)
    axes = (1, 2, 3)
    deviation = np.maximum(values.std(axis=axes, keepdims=True), 1 / np.sqrt(values[0].size))
    return ((values - values.mean(axis=axes, keepdims=True)) / deviation).astype(np.float32)


def record_facenet(path: Path, out: Path) -> None:
    """FaceNet's embeddings of the recorded crops and of seeded noise."""
    crops = np.load(CROPS, allow_pickle=False)["facenet_u8"]
    noise = np.random.default_rng(5).standard_normal((1, 160, 160, 3)).astype(np.float32)
    faces, grain = run_graph(path.read_bytes(), [standardised(crops), noise])
    np.savez_compressed(out / "facenet_tensorflow.npz", crops=faces, noise=grain)


def run_tflite(path: Path, batch: Any) -> list[Any]:
    """The interpreter's outputs for one batch of the file's own size (P-Net: of any size)."""
    interpreter = tf.lite.Interpreter(model_path=str(path), num_threads=1)
    place = interpreter.get_input_details()[0]
    if tuple(place["shape"]) != batch.shape:
        interpreter.resize_tensor_input(place["index"], batch.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(place["index"], batch)
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


def record_tflite(folder: Path, out: Path) -> None:
    """Each network's answer, arrays NCHW with the picture the natural way round."""
    arrays: dict[str, Any] = {}
    rng = np.random.default_rng(9)
    for net, size in (("pnet", (37, 50)), ("rnet", (24, 24)), ("onet", (48, 48))):
        picture = rng.uniform(-1, 1, (1, 3, *size)).astype(np.float32)
        arrays[f"{net}_input"] = picture
        # The kernels expect x before y.
        result = run_tflite(folder / f"{net}.tflite", picture.transpose(0, 3, 2, 1).copy())
        names = {2: "prob", 4: "box", 10: "landmark"}
        for value in result:
            natural = value.transpose(0, 3, 2, 1) if value.ndim == 4 else value
            arrays[f"{net}_{names[value.shape[-1]]}"] = natural
    crops = np.load(CROPS, allow_pickle=False)["aligned_u8"].astype(np.float32)
    batch = ((crops - 127.5) / 128).astype(np.float32)
    arrays["mobilefacenet"] = run_tflite(folder / "MobileFaceNet.tflite", batch)[0]
    np.savez_compressed(out / "tflite_interpreter.npz", **arrays)


def main() -> None:
    """Writes every recording whose sources were given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--facenet", type=Path)
    parser.add_argument("--tflite", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    record_sandberg(options.out)
    record_small_networks(options.out)
    if options.facenet:
        record_facenet(options.facenet, options.out)
    if options.tflite:
        record_tflite(options.tflite, options.out)


if __name__ == "__main__":
    main()
