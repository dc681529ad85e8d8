"""Speed and memory of each bundled build relative to the default one: `builds/measured.json`.

Each build runs beside the default build, and the two are asked in turn, so that a ratio compares
the same minute. A scan is detection and embeddings: no other plugin has a part in its time.
Builds that cannot run here, for want of weights or of a GPU, have no figures; those that run with
a fallback of a plugin have none of their memory.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import load, seeded, servers
from bench.processes import Server, free_port, running
from bench.result import Chapter
from compreface_cli import plugin_table, resources
from compreface_cli.builds import builds, measured
from compreface_cli.builds.measured import Machine, Measured
from compreface_cli.config import settings
from compreface_cli.config.settings_table import DEFAULT_BUILD
from compreface_cli.config.yamlfile import read
from compreface_cli.errors import CfError
from compreface_cli.models import store
from compreface_cli.models.entry import Model, ModelFile
from compreface_cli.models.files import sha256_of
from compreface_cli.plan import fallbacks, plan
from compreface_cli.plan.plan import Plan
from compreface_cli.terminal.output import Output
from tools import source_python

ROUNDS = 3
SECONDS = 1.5  # of a block of requests
_CACHE = servers.ROOT / ".cache" / "bench" / "builds"
_NOWHERE = Path(os.devnull, "nowhere")


@dataclass(frozen=True, slots=True)
class StandIn:
    """Files that are as fast as a model's own, which are not here."""

    how: str
    files: tuple[str, ...] = ()  # below the folder of weights
    write: Callable[[Path], None] | None = None


_SEEDED = "seeded weights in the calculator"
STAND_INS = {
    "w600k_mbf": StandIn(
        "the calculator's weights rounded to 8 bits and back",
        ("w600k_mbf/w600k_mbf_dequantised_fp32.onnx",),
    ),
    "retinaface_mnet025_v1": StandIn(
        "a retrained copy of the detector's weights",
        ("retinaface_mnet025/mnet.25-symbol.json", "retinaface_mnet025/mnet.25-0000.params"),
    ),
    "yunet_2023mar": StandIn("a retrained detector", ("yunet/yunet_n_640_640.onnx",)),
    "genderage": StandIn("seeded weights of age and gender", write=seeded.mobilenet(8, 96, 2, 3)),
    "sface_2021dec": StandIn(_SEEDED, write=seeded.mobilenet(32, 112, 1, 128)),
    "auraface_v1": StandIn(_SEEDED, write=seeded.iresnet((3, 13, 30, 3))),
}


class Unmeasured(Exception):
    """Why a build has no figures."""


def measure(shared: Path, *, rounds: int = ROUNDS, write: bool = False) -> Chapter:
    """The figures of all builds; with `write` they become `builds/measured.json`."""
    picture = (shared / servers.PHOTO).read_bytes()
    rows: list[dict[str, Any]] = []
    lines = ["  build                  8 connections  1 connection  memory"]
    for path in sorted(resources.builds_dir().glob("*.yaml")):
        load.progress(path.stem)
        try:
            figures = _figures(path, shared, picture, rounds)
        except (Unmeasured, CfError, RuntimeError) as reason:
            lines.append(f"  {path.stem:<23}not measured: {' '.join(str(reason).split())[-400:]}")
            continue
        rows.append(
            {
                "build": path.stem,
                "parts": measured.parts(read(path).data),
                "figures": {
                    key: round(value, 3) if isinstance(value, float) else value
                    for key, value in asdict(figures).items()
                },
            }
        )
        lines.append(
            f"  {path.stem:<23}{figures.speed:>12.2f}x{figures.speed_alone:>13.2f}x"
            f"{figures.memory or float('nan'):>7.2f}x  {figures.how}"
        )
    load.progress("")
    document = {"machine": asdict(_machine()), "builds": rows}
    if write:
        measured.path().write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return Chapter("Builds relative to the default", lines, [], document)


def _machine() -> Machine:
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        model = value.strip() if key.strip() == "model name" else model
    date = datetime.now(UTC).date().isoformat()
    return Machine(model, len(os.sched_getaffinity(0)), date)


def _figures(path: Path, shared: Path, picture: bytes, rounds: int) -> Measured:
    if path.stem == DEFAULT_BUILD:
        return Measured(1.0, 1.0, 1.0)
    wanted, how = _runnable(_plan(path), shared)
    default, _ = _runnable(_plan(path.with_stem(DEFAULT_BUILD)), shared)
    with (
        tempfile.TemporaryDirectory() as work,
        _engine(default, shared, Path(work)) as base,
        _engine(wanted, shared, Path(work)) as ours,
    ):
        faces = {len(json.loads(load.ask(each.port, picture))["result"]) for each in (base, ours)}
        if len(faces) > 1:
            raise Unmeasured(f"it finds another number of faces than the default: {faces}")
        speed, alone = (_ratio(base, ours, picture, many, rounds) for many in (8, 1))
        memory = None if wanted.replaced else ours.memory()[0] / base.memory()[0]
    return Measured(speed, alone, memory, how)


def _plan(path: Path) -> Plan:
    none = settings.resolve({}, environ={}, project_file=_NOWHERE, user_file=_NOWHERE)
    return plan.resolve(builds.load(path), none)


def _runnable(wanted: Plan, shared: Path) -> tuple[Plan, str]:
    """The plan with what is here, and in words what differs from the build; else Unmeasured."""
    if wanted.device == "cuda":
        raise Unmeasured("it needs a GPU")
    models, how, missing = [], [], {}
    for model in wanted.models:
        stand_in = STAND_INS.get(model.name)
        if all((shared / "models" / file.path).is_file() for file in model.files):
            models.append(model)
        elif stand_in:
            models.append(_standing_in(model, stand_in, shared))
            how.append(stand_in.how)
        else:
            missing[model.name] = "it is not here"
    lacking = [name for name in missing if name not in fallbacks.optional(wanted)]
    if lacking:
        raise Unmeasured(f"without weights of {', '.join(lacking)}")
    if missing:
        wanted = fallbacks.without(wanted, missing)
    used = [plugin_table.model_of(each) for each in wanted.plugins]
    models = [
        *models,
        *(
            model
            for model in wanted.models
            if model.name not in {known.name for known in models} and model.name in used
        ),
    ]
    return replace(wanted, models=tuple(models)), " and ".join(how)


def _standing_in(model: Model, stand_in: StandIn, shared: Path) -> Model:
    files = [shared / "models" / name for name in stand_in.files]
    if stand_in.write:
        files = [_CACHE / "seeded" / f"{model.name}.onnx"]
        if not files[0].is_file():
            stand_in.write(files[0])
    return replace(
        model,
        alternatives=(),
        files=tuple(ModelFile(path.name, (sha256_of(path),), ()) for path in files),
        build_folder=str(files[0].parent),
    )


@contextmanager
def _engine(wanted: Plan, shared: Path, work: Path) -> Iterator[Server]:
    """The engine of a plan with its default settings."""
    places = store.Places(
        models=_CACHE / "models",
        weights=_CACHE / "weights",
        accepted=_CACHE / "accepted.json",
        mirror=str(shared / "models"),
    )
    out, port = Output(quiet=True), free_port()
    store.ensure(
        wanted.models,
        out.progress,
        python=lambda: source_python.write(_CACHE),
        portrait=resources.portrait(),
        note=out.note,
        places=places,
    )
    environment = {
        **wanted.engine_environment(),
        "PYTHONPATH": str(servers.ROOT / "engine"),
        "CF_PORT": str(port),
        "CF_MODELS_DIR": str(places.models) if wanted.models else "",
        "CF_CHOICES_DIR": str(_CACHE / "choices"),
        "LOGGING_LEVEL_NAME": "warning",
    }
    command = [sys.executable, "-m", "compreface_engine"]
    with running(wanted.build, command, port, environment, work / f"{port}.log") as server:
        yield server


def _ratio(base: Server, ours: Server, picture: bytes, connections: int, rounds: int) -> float:
    """Scans a second over those of the default build: the median of alternating blocks."""
    counts = {}
    for server in (base, ours):
        load.block(server.port, picture, 2 * connections, connections)  # warm
        rate = load.block(server.port, picture, 2 * connections, connections).per_second
        counts[server.port] = max(2 * connections, round(rate * SECONDS))
    ratios = []
    for _ in range(rounds):
        default, own = (
            load.block(server.port, picture, counts[server.port], connections).per_second
            for server in (base, ours)
        )
        ratios.append(own / default)
    return statistics.median(ratios)
