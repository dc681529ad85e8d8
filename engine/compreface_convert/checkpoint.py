"""Reads a TensorFlow checkpoint, with the architecture that the model's entry names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from compreface_convert.errors import ConvertError
from compreface_convert.graph import Graph
from compreface_convert.inception import inception_v3
from compreface_convert.tensor_bundle import Bundle, by_base_name

NETWORKS: Final[Mapping[str, int]] = {"inception_v3_age": 8, "inception_v3_gender": 2}
"""Values of an entry's `network`, and the number of labels of each."""
_STATE: Final = "checkpoint"
_MAX_STATE: Final = 1 << 20


def read_checkpoint(files: Mapping[str, Path], network: str) -> Graph:
    """The network with the weights of the newest checkpoint. `files`: paths by name in the folder.

    Only the V2 format is read (`.index` and `.data-…` files), which upstream's age and gender
    models have. Raises ConvertError for anything else.
    """
    labels = NETWORKS.get(network)
    if labels is None:
        raise ConvertError(f"`network` {network!r} is not known: use {' or '.join(NETWORKS)}")
    named = by_base_name(files)
    return inception_v3(Bundle(_prefix(named), named).tensor, labels)


def _prefix(files: Mapping[str, Path]) -> str:
    """The prefix of the checkpoint's files: named in the file `checkpoint`, or the only prefix."""
    indexed = [name.removesuffix(".index") for name in files if name.endswith(".index")]
    if not indexed:
        raise ConvertError(
            "the folder has no `.index` file; checkpoints of the old V1 format (one file) are not "
            "supported, save it again with TensorFlow 1.0 or newer"
        )
    if _STATE in files:
        newest = _newest(files[_STATE])
        if newest in indexed:
            return newest
        if len(indexed) > 1:
            raise ConvertError(f"the file `checkpoint` names '{newest}', which is not listed")
    if len(indexed) > 1:
        raise ConvertError(
            "several checkpoints are listed; list a single one, or the file `checkpoint` too"
        )
    return indexed[0]


def _newest(path: Path) -> str:
    """The base name of the newest checkpoint; its folder is often one of another machine."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_STATE).decode("utf-8", "replace")
    except OSError as error:
        raise ConvertError(f"{path} cannot be read: {error}") from error
    match = re.search(r'^\s*model_checkpoint_path:\s*"([^"\n]*)"', text, re.MULTILINE)
    if match is None:
        raise ConvertError(f"{path.name} names no checkpoint (`model_checkpoint_path`)")
    return re.split(r"[/\\]", match.group(1))[-1]
