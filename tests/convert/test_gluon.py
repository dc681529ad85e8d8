"""Networks of the gluon model zoo for files without a graph: names, shapes, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compreface_convert import gluon
from compreface_convert.errors import ConvertError
from compreface_convert.mxnet_run import run
from tests.frameworks import mxnet_weights

RECORDINGS = Path(__file__).parent / "recordings"
NAMES = json.loads((RECORDINGS / "mxnet_gluon_names.json").read_text("utf-8"))
NETWORKS = ["mobilenet_v2", "resnet18_v1"]


def weights(network: str, style: int) -> dict[str, Any]:
    """Seeded arrays under MXNet's names: 0 by place, 1 by layer, 2 by layer without prefix."""
    result = {}
    for place, layer, shape in NAMES[network]:
        name = (place, layer.replace("v20", "v27").replace("v10", "v17"), layer.partition("_")[2])
        result[name[style]] = mxnet_weights.values(place, shape)
    return result


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("style", range(3), ids=["by place", "by layer", "without prefix"])
def test_the_network_gives_what_mxnet_gave_however_its_weights_are_named(
    network: str, style: int
) -> None:
    with np.load(RECORDINGS / "mxnet_gluon_scores.npz", allow_pickle=False) as arrays:
        expected = arrays[network]
    (result,) = run(gluon.build(network, weights(network, style)), mxnet_weights.pictures())
    # Recorded with AVX2; AVX-512 adds in another order, and MobileNetV2 is 1.1e-5 off there.
    assert np.abs(result - expected).max() < 5e-5 * np.abs(expected).max()


@pytest.mark.parametrize("network", NETWORKS)
def test_a_missing_array_is_named_both_ways(network: str) -> None:
    arrays = weights(network, 0)
    del arrays["features.1.beta"]
    with pytest.raises(ConvertError, match=r"neither 'features\.1\.beta' nor '\w*batchnorm0_beta'"):
        gluon.build(network, arrays)


def test_arrays_that_the_network_does_not_have_are_named() -> None:
    arrays = {**weights("resnet18_v1", 0), "features.9.weight": np.ones(1, np.float32)}
    with pytest.raises(ConvertError, match=r"that resnet18_v1 does not have: features\.9\.weight"):
        gluon.build("resnet18_v1", arrays)


def test_the_weights_of_the_other_network_are_refused() -> None:
    with pytest.raises(ConvertError, match="neither"):
        gluon.build("mobilenet_v2", weights("resnet18_v1", 0))


def test_an_array_of_another_shape_is_refused() -> None:
    arrays = weights("resnet18_v1", 0)
    arrays["features.0.weight"] = arrays["features.0.weight"][:, :, :5, :5]
    with pytest.raises(ConvertError, match="Convolution"):
        run(gluon.build("resnet18_v1", arrays), np.zeros((1, 3, 64, 64), np.float32))


def test_an_unknown_network_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConvertError, match="use mobilenet_v2 or resnet18_v1"):
        gluon.build("vgg16", {})
