"""The small networks against public peers, each behind a minimal HTTP server, in turn.

The peers cannot read RetinaFace's MXNet files: their detector is SCRFD-500M, which has about the
speed and recall of mnet.25 here. Their recogniser has the engine's weights, converted. In the
second comparison all of them have the same two files.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import load, servers
from bench.processes import Server
from bench.result import Chapter, at_least
from compreface_cli.models.entry import Model, ModelFile

ROUNDS = 6
NEEDED = 1.5
PEERS = (("insightface", 1), ("insightface", 2), ("uniface", 1), ("uniface", 2))
W600K = Model(
    name="bench_w600k_mbf",
    role="calculator",
    format="onnx",
    files=(
        ModelFile(
            "w600k_mbf/w600k_mbf_dequantised_fp32.onnx",
            ("c945beb8c21a77f450eb020e5363197368f28a07cd756f79f68228b5ed3e65ee",),
            (),
        ),
    ),
    size=112,
    layout="nchw",
    colour="rgb",
    mean=(127.5,),
    scale=(127.5,),
    align="arcface5",
    similarity=(1.1, 6.0),
)
SCRFD_BUILD = servers.Build(
    "scrfd.FaceDetector@scrfd_500m",
    "custom.Calculator@bench_w600k_mbf",
    ("scrfd_500m", W600K),
)


def measure(shared: Path, *, requests: int) -> Chapter:
    """Throughput at 8 connections, and the latency of one, against the best of the peers."""
    picture = (shared / servers.PHOTO).read_bytes()
    models = servers.prepared(shared, servers.MOBILENET_BUILD.models)
    recogniser = models / "arcface_mobilefacenet_rgb" / "model.onnx"
    detector = shared / "models/scrfd/scrfd_500m.onnx"
    ours = _compare(shared, servers.MOBILENET_BUILD, picture, detector, recogniser, requests)
    same_files = _compare(
        shared,
        SCRFD_BUILD,
        picture,
        detector,
        shared / "models" / W600K.files[0].path,
        requests,
    )
    lines = [*_lines("mnet.25 + MobileFaceNet against SCRFD-500M + MobileFaceNet", ours)]
    lines += _lines("SCRFD-500M + w600k_mbf, the same two files", same_files)
    rows = [
        at_least("mobilenet build over the best peer, 8 connections", ours["ratio"], NEEDED),
        at_least("the same files over the best peer, 8 connections", same_files["ratio"], NEEDED),
    ]
    document = {"mobilenet": ours, "same_files": same_files}
    return Chapter("Small networks against public peers", lines, rows, document)


def _compare(
    shared: Path,
    build: servers.Build,
    picture: bytes,
    detector: Path,
    recogniser: Path,
    requests: int,
) -> dict[str, Any]:
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running = [stack.enter_context(servers.engine(shared, work, build))]
        running += [
            stack.enter_context(servers.peer(name, work, detector, recogniser, at_once))
            for name, at_once in PEERS
        ]
        answers = {server.name: json.loads(load.ask(server.port, picture)) for server in running}
        faces = {name: len(answer["result"]) for name, answer in answers.items()}
        if set(faces.values()) != {5}:
            raise RuntimeError(f"the servers do not find the five faces: {faces}")
        for server in running:
            load.block(server.port, picture, 16, 8)  # warm
        eight, alone = (_turns(running, picture, requests, count) for count in (8, 1))
        memory = {server.name: server.memory()[0] for server in running}
    best = max(
        (name for name in eight if name != "engine"),
        key=lambda name: statistics.median(run.per_second for run in eight[name]),
    )
    ratios = [
        a.per_second / b.per_second for a, b in zip(eight["engine"], eight[best], strict=True)
    ]
    return {
        "servers": {
            name: {
                "per_s": statistics.median(run.per_second for run in runs),
                "p50_ms": load.middle(runs) * 1000,
                "p50_alone_ms": load.middle(alone[name]) * 1000,
                "memory": memory[name],
            }
            for name, runs in eight.items()
        },
        "best_peer": best,
        "ratio": statistics.median(ratios),
        "ratio_quartiles": load.spread(ratios),
    }


def _turns(
    running: list[Server], picture: bytes, requests: int, connections: int
) -> dict[str, list[load.Run]]:
    runs: dict[str, list[load.Run]] = {server.name: [] for server in running}
    for number in range(ROUNDS):
        for server in running:
            load.progress(f"{connections} connections, round {number + 1}/{ROUNDS}: {server.name}")
            share = max(1, requests // ROUNDS)
            runs[server.name].append(load.block(server.port, picture, share, connections))
    load.progress("")
    return runs


def _lines(title: str, document: dict[str, Any]) -> list[str]:
    low, high = document["ratio_quartiles"]
    return [
        f" {title}",
        "                        scans a second   p50 of 8, ms   p50 alone, ms   memory, MB",
        *(
            f"  {name:<22}{server['per_s']:>14.1f}{server['p50_ms']:>15.0f}"
            f"{server['p50_alone_ms']:>16.0f}{server['memory'] / 1e6:>13.0f}"
            for name, server in document["servers"].items()
        ),
        f"  best peer {document['best_peer']}: ratio {document['ratio']:.2f} "
        f"({low:.2f}-{high:.2f})",
    ]
