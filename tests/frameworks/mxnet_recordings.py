"""MXNet runs real and seeded networks; what it got and gave is saved for the tests.

Runs in an environment of its own, which lacks everything else of the project.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np

from tests.frameworks import mxnet_networks as networks
from tests.frameworks import mxnet_weights


def seeded(symbol: Any, shape: tuple[int, ...], seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Weights that keep values near 1 through many layers, and statistics as after training."""
    rng = np.random.default_rng(seed)
    arg_shapes, _, aux_shapes = symbol.infer_shape(data=shape)

    def values(name: str, size: tuple[int, ...]) -> Any:
        if name.endswith("bn3_gamma"):  # the end of a residual branch: the sum must not grow
            made = rng.uniform(0.1, 0.3, size)
        elif name.endswith("conv3_weight"):
            made = rng.standard_normal(size) * 0.3 / np.sqrt(np.prod(size[1:]))
        elif name.startswith("face_rpn") and name.endswith("weight"):
            made = rng.standard_normal(size) * 0.01 / np.sqrt(np.prod(size[1:]))
        elif name.endswith("_var"):
            made = rng.uniform(0.5, 1.5, size)
        elif name.endswith("gamma") and "relu" not in name:
            made = rng.uniform(0.5, 1.2, size)
        elif name.endswith("gamma"):  # a PReLU's slopes
            made = rng.uniform(-0.3, 0.6, size)
        elif name.endswith("weight"):
            made = rng.standard_normal(size) * np.sqrt(2 / np.prod(size[1:]))
        else:
            made = rng.standard_normal(size) * 0.1
        return mx.nd.array(made.astype(np.float32))

    args = {
        name: values(name, size)
        for name, size in zip(symbol.list_arguments(), arg_shapes, strict=True)
        if name not in ("data", "softmax_label")
    }
    aux = {
        name: values(name, size)
        for name, size in zip(symbol.list_auxiliary_states(), aux_shapes, strict=True)
    }
    return args, aux


def run(symbol: Any, args: Any, aux: Any, batch: Any) -> dict[str, Any]:
    """Outputs by name, without MXNet's `_output`."""
    known = set(symbol.list_arguments())
    bound = {name: value for name, value in args.items() if name in known}
    executor = symbol.bind(
        mx.cpu(), {**bound, "data": mx.nd.array(batch)}, aux_states=aux, grad_req="null"
    )
    result = executor.forward(is_train=False)
    names = [name.removesuffix("_output") for name in symbol.list_outputs()]
    return {name: value.asnumpy() for name, value in zip(names, result, strict=True)}


def record(
    out: Path, name: str, symbol: Any, shapes: Sequence[tuple[int, ...]], scale: float
) -> None:
    """A seeded network's files, as MXNet saves them, and an .npz of inputs and outputs."""
    args, aux = seeded(symbol, shapes[0], seed=len(name))
    mx.model.save_checkpoint(str(out / name), 0, symbol, args, aux)
    if "fc1_output" in symbol.get_internals().list_outputs():
        symbol = symbol.get_internals()["fc1_output"]
        args = {k: v for k, v in args.items() if k in symbol.list_arguments()}
        aux = {k: v for k, v in aux.items() if k in symbol.list_auxiliary_states()}
    judge(out, name, symbol, args, aux, shapes, scale)


def judge(
    out: Path,
    name: str,
    symbol: Any,
    args: Any,
    aux: Any,
    shapes: Sequence[tuple[int, ...]],
    scale: float,
) -> None:
    rng = np.random.default_rng(3)
    kept: dict[str, Any] = {}
    for i, shape in enumerate(shapes):
        batch = (rng.uniform(0, 1, shape) * scale - (0 if scale > 1 else 0.5)).astype(np.float32)
        kept[f"{i}_input"] = batch
        for key, value in run(symbol, args, aux, batch).items():
            kept[f"{i}_output_{key}"] = value
    np.savez_compressed(out / f"{name}.npz", **kept)


def gluon(out: Path, network: str, zoo: str) -> tuple[list[Any], Any]:
    """A model of the zoo with three classes, saved in each of the ways there are.

    Gives of each of its arrays the name by place, the name by layer, and the shape; and the scores
    of the seeded pictures.
    """
    net = getattr(mx.gluon.model_zoo.vision, zoo)(classes=3)
    net.initialize()
    net.hybridize()
    batch = mxnet_weights.pictures()
    net(mx.nd.array(batch))
    by_layer = {id(parameter): name for name, parameter in net.collect_params().items()}
    names = []
    for place, parameter in net._collect_params_with_prefix().items():
        parameter.set_data(mx.nd.array(mxnet_weights.values(place, parameter.shape)))
        names.append([place, by_layer[id(parameter)], list(parameter.shape)])
    scores = net(mx.nd.array(batch)).asnumpy()
    net.save_parameters(str(out / f"{network}.params"))
    net.collect_params().save(str(out / f"{network}-layers.params"))
    net.collect_params().save(str(out / f"{network}-plain.params"), strip_prefix=net.prefix)
    large = np.random.default_rng(4).standard_normal((2, 3, 224, 224)).astype(np.float32)
    kept = {"0_input": large, "0_output_output": net(mx.nd.array(large)).asnumpy()}
    np.savez_compressed(out / f"{network}.npz", **kept)
    return names, scores


def formats(out: Path) -> None:
    """Arrays of each type in each form of the file that this MXNet writes or reads."""
    made = {
        f"arg:{kind}": mx.nd.array(np.arange(6).reshape(2, 3), dtype=kind)
        for kind in ("float32", "float64", "float16", "uint8", "int32", "int8", "int64")
    }
    mx.nd.save(str(out / "types.params"), made)
    mx.npx.set_np()
    try:
        arrays = {"scalar": mx.np.array(2.5), "empty": mx.np.zeros((0, 3)), "row": mx.np.ones(4)}
        mx.npx.save(str(out / "numpy_shapes.params"), arrays)
    finally:
        mx.npx.reset_np()


def reread(source: Path, target: Path) -> None:
    """What MXNet finds in files that it did not write."""
    for path in sorted(source.glob("*.params")):
        arrays = {name: value.asnumpy() for name, value in mx.nd.load(str(path)).items()}
        np.savez(target / f"{path.stem}.npz", **arrays)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", type=Path, help="folder of real networks")
    parser.add_argument("--reread", type=Path, help="folder of .params files to load")
    options = parser.parse_args()
    out: Path = options.out
    face = [(2, 3, 112, 112)]
    for depth, width in ((34, 16), (50, 16), (100, 16)):
        record(out, f"arcface_r{depth}", networks.arcface(depth, width), face, 255)
    record(out, "arcface_training", networks.arcface(34, 8, training=True), face, 255)
    sizes = [(2, 3, 96, 128), (1, 3, 75, 101), (1, 3, 131, 64)]
    record(out, "retinaface_r50", networks.retinaface(16), sizes, 255)
    record(out, "2d106det", networks.landmarks106(16), [(2, 3, 192, 192)], 255)
    record(out, "odd_ends", networks.odd_ends(), [(2, 4, 9, 8)], 1)
    names, scores = {}, {}
    for network, zoo in (("mobilenet_v2", "mobilenet_v2_1_0"), ("resnet18_v1", "resnet18_v1")):
        names[network], scores[network] = gluon(out, network, zoo)
    (out / "gluon_names.json").write_text(json.dumps(names, separators=(",", ":")) + "\n")
    np.savez(out / "gluon_scores.npz", **scores)
    formats(out)
    if options.models is not None:
        for name, prefix, shapes in (
            ("retinaface_mnet025", "mnet.25", sizes),
            ("arcface_mobilefacenet", "model", face),
            ("genderage_v1", "model", face),
        ):
            symbol, args, aux = mx.model.load_checkpoint(str(options.models / name / prefix), 0)
            judge(out, name, symbol, args, aux, shapes, 255)
    if options.reread is not None:
        reread(options.reread, out)


if __name__ == "__main__":
    main()
