"""Makes what state dicts are held against. Runs in the environment of PyTorch.

    python -m tests.frameworks.torch_recordings --out FOLDER [--reread FILE.pt ...]
        [--facenet FILE.pt] [--crops CROPS.npz]

Only PyTorch, facenet-pytorch and NumPy are imported here: the judge shares nothing with the
converter. `--reread` answers with what PyTorch reads from files, `--facenet` with the embeddings of
`crops` [N, 3, 160, 160] by that state dict.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from facenet_pytorch import InceptionResnetV1

from tests.frameworks import torch_weights


class Small(torch.nn.Module):  # type: ignore[misc]
    """Layers whose state dict has each kind of entry that is common."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, (1, 3))
        self.norm = torch.nn.BatchNorm2d(4)
        self.first = torch.nn.Linear(5, 6)
        self.tied = torch.nn.Linear(5, 6)
        self.tied.weight = self.first.weight


def small_dicts() -> dict[str, Any]:
    """What is saved: a module's state dict, odd tensors, parameters, a training checkpoint."""
    torch.manual_seed(16)
    module = Small()
    module.norm.running_var.uniform_(0.5, 1.5)
    table = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    odd = {
        "table": table,
        "turned": table.permute(2, 0, 1),
        "part": table[1, 1:, ::2],
        "single": table[:1, :1].transpose(0, 2),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5),
        "channels_last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
    }
    kinds = ("float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
    for kind in kinds:
        odd[kind] = torch.tensor([0, 1, -3, 7]).to(getattr(torch, kind))
    training = {
        "epoch": 7, "rate": 0.1, "best": None, "name": "small", "done": False,
        "state_dict": module.state_dict(),
        "optimiser": {"state": {0: {"step": torch.tensor(3.0)}}, "groups": [{"params": [0, 1]}]},
    }  # fmt: skip
    parameters = {"p": torch.nn.Parameter(torch.rand(3, 2)), "q": module.first.weight}
    return {
        "module": module.state_dict(), "odd": odd, "training": training, "parameters": parameters,
    }  # fmt: skip


def as_arrays(tensors: Any) -> dict[str, Any]:
    return {name: array(tensor) for name, tensor in tensors.items()}


def array(tensor: Any) -> Any:
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def record_small(out: Path) -> None:
    """Each dict in both formats, and its values."""
    expected: dict[str, Any] = {}
    for name, value in small_dicts().items():
        torch.save(value, out / f"torch_{name}.pt")
        torch.save(value, out / f"torch_{name}_old.pt", _use_new_zipfile_serialization=False)
        tensors = as_arrays(value.get("state_dict", value))
        expected |= {f"{name}/{key}": values for key, values in tensors.items()}
    np.savez_compressed(out / "torch_small.npz", **expected)


def record_facenet(out: Path) -> None:
    """The names and shapes of FaceNet's tensors, and the embeddings by seeded weights."""
    model = InceptionResnetV1().eval()
    shapes = {n: tuple(t.shape) for n, t in model.state_dict().items() if t.is_floating_point()}
    weights = {n: torch.from_numpy(torch_weights.values(n, s)) for n, s in shapes.items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    padded = [shape + (0,) * (4 - len(shape)) for shape in shapes.values()]
    np.savez_compressed(
        out / "torch_facenet.npz",
        names=np.array(list(shapes)),
        shapes=np.array(padded),
        embeddings=embeddings(model, torch_weights.pictures()),
    )


def embeddings(model: Any, batch: Any) -> Any:
    with torch.no_grad():
        return model(torch.from_numpy(batch)).numpy()


def main() -> None:
    """Writes every recording, and the answers for what was given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--reread", type=Path, nargs="*", default=[])
    parser.add_argument("--facenet", type=Path)
    parser.add_argument("--crops", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    record_small(options.out)
    record_facenet(options.out)
    for path in options.reread:
        value = torch.load(path, weights_only=True)
        np.savez(options.out / f"{path.stem}.npz", **as_arrays(value.get("state_dict", value)))
    if options.facenet:
        model = InceptionResnetV1().eval()
        tensors = torch.load(options.facenet, weights_only=True)
        kept = {name: value for name, value in tensors.items() if not name.startswith("logits.")}
        model.load_state_dict(kept)
        with np.load(options.crops) as crops:
            result = {name: embeddings(model, crops[name]) for name in crops.files}
        np.savez(options.out / "facenet.npz", **result)


if __name__ == "__main__":
    main()
