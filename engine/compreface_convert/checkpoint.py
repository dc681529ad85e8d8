"""Reads a TensorFlow checkpoint folder of a network whose architecture the entry names."""

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
"""Names an entry's `network` can have, and how many labels each has."""
_STATE: Final = "checkpoint"
_MAX_STATE: Final = 1 << 20


def read_checkpoint(files: Mapping[str, Path], network: str) -> Graph:
    """The network over the folder's newest checkpoint. `files`: paths by their name in the folder.

    Only the V2 format is read (`.index` and `.data-…` files), the one upstream's age and gender
    models have. Raises ConvertError for anything else.
    """
    labels = NETWORKS.get(network)
    if labels is None:
        raise ConvertError(f"`network` {network!r} is not known: use {' or '.join(NETWORKS)}")
    named = by_base_name(files)
    return inception_v3(Bundle(_prefix(named), named).tensor, labels)


def _prefix(files: Mapping[str, Path]) -> str:
    """What the checkpoint's files begin with: as the `checkpoint` file says, or the only one."""
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
        raise ConvertError("several checkpoints are listed; list one, or the file `checkpoint` too")
    return indexed[0]


def _newest(path: Path) -> str:
    """The base name that the text file gives; often its folder was on another machine."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_STATE).decode("utf-8", "replace")
    except OSError as error:
        raise ConvertError(f"{path} cannot be read: {error}") from error
    found = re.search(r'^\s*model_checkpoint_path:\s*"([^"\n]*)"', text, re.MULTILINE)
    if found is None:
        raise ConvertError(f"{path.name} names no checkpoint (`model_checkpoint_path`)")
    return re.split(r"[/\\]", found.group(1))[-1]
