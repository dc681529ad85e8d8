"""The engine's own messages; those of upstream's contract are tested with the contract."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from compreface_engine import limits
from compreface_engine.__main__ import USAGE
from compreface_engine.admission import Busy, Gate
from compreface_engine.api import ops
from compreface_engine.api.app import App
from compreface_engine.api.body import MAX_JSON_VALUES
from compreface_engine.api.errors import Unavailable
from compreface_engine.api.form import MAX_FIELD_BYTES, MAX_HEADS_BYTES, MAX_PARTS
from compreface_engine.api.protocol import HeadTooLarge, Malformed
from compreface_engine.api.server import bind
from compreface_engine.budget import Budget
from compreface_engine.core.errors import ConfigurationError
from compreface_engine.core.image import decode
from compreface_engine.core.pieces import MAX_CHUNKS, MAX_TIFF_PARTS
from compreface_engine.core.scans import MAX_SEGMENTS
from compreface_engine.models.inputs import InputSpec
from compreface_engine.models.prepared import PreparedModel, Source
from compreface_engine.plugins import registry
from compreface_engine.plugins.context import Context
from compreface_engine.runtimes.backends import Backend
from compreface_engine.runtimes.base import Concurrency
from compreface_engine.runtimes.choice import RuntimeRequest, choose
from compreface_engine.runtimes.factory import SessionFactory
from compreface_engine.runtimes.host import Cpu
from compreface_engine.runtimes.measure import Measured
from compreface_engine.runtimes.table import RUNTIMES
from compreface_engine.settings import Settings
from tests.contract.process import MULTIPART, multipart, part
from tests.engine.costly_pictures import (
    grain,
    jpeg_of_scans,
    png,
    png_chunk,
    saved,
    segment,
    tiff_of_shared_strips,
    tiff_of_shared_tiles,
)
from tests.engine.fakes import Caller, FakePipeline

Case = Callable[[Path], object]


def _settings(**variables: str) -> Case:
    """The error of these variables, or the warnings about them."""
    return lambda _: "\n".join(Settings.from_env(variables, cores=2).warnings)


def _keys_file(text: str) -> Case:
    def read(folder: Path) -> object:
        path = folder / "keys"
        path.write_text(text)
        return Settings.from_env({"CF_API_KEYS_FILE": str(path)}, cores=2)

    return read


def _request(
    path: str, *, variables: Mapping[str, str] | None = None, memory: int = 1 << 40, **request: Any
) -> Case:
    """The message that answers a POST, with its status in front."""

    async def answer() -> object:
        settings = Settings.from_env(variables or {}, cores=2)
        gate = Gate(
            concurrency=1, max_queue=1, max_bytes=1 << 30, max_wait_s=1.0, budget=Budget(memory)
        )
        app = App(settings, FakePipeline(), gate)
        request.setdefault("headers", {"Content-Type": "application/json"})
        request["headers"]["X-Request-Id"] = "1"
        for _ in range(2 if variables and "CF_RATE_LIMIT" in variables else 1):
            reply = await Caller(app, "POST", path, **request).run()
        return reply.json()["message"]

    return lambda _: asyncio.run(answer())


def _form(*parts: bytes, query: str = "", memory: int = 1 << 40) -> Case:
    """The message that answers a form of `parts`."""
    return _request(
        "/find_faces",
        headers={"Content-Type": MULTIPART},
        body=multipart(parts),
        query=query,
        memory=memory,
    )


def _json(document: Any) -> Case:
    return _request("/find_faces_base64", body=json.dumps(document).encode())


def _gate(provoke: Callable[[Gate], Awaitable[object]]) -> Case:
    """What `provoke` makes of a gate of one worker whose callers wait for no more than 10 ms."""

    async def run() -> object:
        gate = Gate(
            concurrency=1, max_queue=1, max_bytes=10, max_wait_s=0.01, budget=Budget(10), stuck_s=1
        )
        try:
            return await provoke(gate)
        except Busy as error:
            return Unavailable(str(error), error.retry_after)

    return lambda _: asyncio.run(run())


async def _stays() -> None:
    await asyncio.Event().wait()


async def _queue(gate: Gate) -> object:
    gate.max_queue = 0
    await gate.permit(_stays)
    return gate.admit()


async def _bodies(gate: Gate) -> object:
    await gate.admit().hold(10)
    await gate.admit().hold(1)  # the first beyond the limit is let in
    await gate.admit().hold(1)
    raise AssertionError("a body beyond the limit was let in")


async def _pictures(gate: Gate) -> object:
    (await gate.permit(_stays)).share.reserve(10)
    return await gate.permit(_stays, memory=5)


async def _worker(gate: Gate) -> object:
    await gate.permit(_stays)
    return await gate.permit(_stays)


async def _stopping(gate: Gate) -> object:
    gate.close()
    return gate.admit()


async def _out_of_memory(gate: Gate) -> object:
    raise gate.out_of_memory()


async def _stuck(gate: Gate) -> object:
    permit = await gate.permit(_stays)
    permit.description = "request 1 (PNG, 5 bytes)"
    gate.age(5)
    return json.loads(ops.live(gate).body)["message"]


def _memory(chosen: int, held_kb: int, available_kb: int) -> Case:
    """What the limits say on a machine with so much memory."""

    def shares(folder: Path) -> object:
        (folder / "proc/self").mkdir(parents=True)
        (folder / "proc/self/status").write_text(f"VmRSS: {held_kb} kB\n")
        (folder / "proc/meminfo").write_text(
            f"MemTotal: 8388608 kB\nMemAvailable: {available_kb} kB\n" if available_kb else ""
        )
        return limits.shares(chosen, bodies=1 << 28, body=1 << 26, workers=2, root=folder)

    return shares


def _taken_port(_: Path) -> object:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        try:
            return bind("127.0.0.1", port)
        except Exception as error:
            return str(error).replace(str(port), "PORT")


def _picture(data: bytes, max_pixels: int = 178_956_970) -> Case:
    return lambda _: decode(data, max_pixels=max_pixels)


def _runtime(
    runtime: str,
    precision: str = "auto",
    *,
    gpu_idx: int = -1,
    installed: Collection[str] = tuple(RUNTIMES),
) -> Case:
    """The error of asking for a runtime where these are installed."""
    request = RuntimeRequest(runtime, precision)
    return lambda _: SessionFactory(
        request, Concurrency(gpu_idx=gpu_idx), lambda name: "1.0" if name in installed else None
    )


def _choice(
    runtime: str,
    precision: str,
    *,
    flags: Collection[str] = ("amx_bf16",),
    installed: Collection[str] = tuple(RUNTIMES),
    broken: bool = False,
) -> Case:
    """The error of choosing a backend, whose measurement gives a cosine of 0.9."""

    def measure(
        path: Path, probe: object, backends: Sequence[Backend], threads: int
    ) -> list[Measured]:
        if broken:
            raise ConfigurationError("it ended with -4")
        return [Measured(backend, 8, 6, 0.9) for backend in backends]

    def case(folder: Path) -> object:
        path = folder / "mine" / "model.onnx"
        path.parent.mkdir()
        path.write_bytes(b"weights")
        return choose(
            path,
            lambda: np.zeros((6, 3, 112, 112), np.float32),
            RuntimeRequest(runtime, precision),
            concurrency=Concurrency(),
            cpu=Cpu("a CPU", frozenset(flags)),
            measure=measure,
            version_of=lambda name: "1.0" if name in installed else None,
        )

    return case


def _own_files(folder: Path) -> object:
    """The error of a model in a framework's format whose files were not kept."""
    sessions = SessionFactory(RuntimeRequest("mxnet"), Concurrency(), lambda _: "1.0")
    path = folder / "mine" / "model.onnx"
    model = PreparedModel("mine", "calculator", path, InputSpec(112), source=Source("mxnet"))
    return sessions.model(model)


def _plugin(
    role: str, notation: str, damage: Callable[[Path], object] | None = None, **changes: Any
) -> Case:
    """The error of loading a plugin; its model, if it names one, is prepared with `changes`."""

    def load(folder: Path) -> object:
        place = folder / (notation.partition("@")[2] or "mine")
        place.mkdir()
        (place / "model.onnx").write_bytes(b"weights")
        manifest = {
            "schema": 1,
            "name": place.name,
            "role": "calculator",
            "file": "model.onnx",
            "sha256": hashlib.sha256(b"weights").hexdigest(),
            "input": {"size": 112, "mean": 127.5, "scale": 128},
            "align": "arcface5",
            "similarity": [1.2, 5],
            "dimension": 2,
        }
        (place / "model.json").write_text(json.dumps(manifest | changes))
        if damage is not None:
            damage(place)
        context = Context(open_session=_no_session, models_dir=folder, length_limit=640)
        return getattr(registry, role)(notation, context)

    return load


def _no_session(path: Path) -> Any:
    raise AssertionError(f"{path} is not to be opened")


CASES: Final[Mapping[str, Case]] = {
    "usage": lambda _: USAGE,
    # Settings
    "setting: a whole number": _settings(CF_PORT="http"),
    "setting: a number with both limits": _settings(CF_PORT="70000"),
    "setting: a number with a lower limit": _settings(CF_MAX_CONCURRENCY="0"),
    "setting: seconds": _settings(CF_MAX_WAIT_S="soon"),
    "setting: seconds above 0": _settings(CF_MAX_WAIT_S="0"),
    "setting: requests a second": _settings(CF_RATE_LIMIT="fast"),
    "setting: requests a second above 0": _settings(CF_RATE_LIMIT="0"),
    "setting: a cosine": _settings(CF_MIN_COSINE="high"),
    "setting: a cosine up to 1": _settings(CF_MIN_COSINE="1.1"),
    "setting: a flag": _settings(CF_APPLY_EXIF="maybe"),
    "setting: a choice": _settings(CF_RUNTIME="caffe"),
    "setting: a folder": _settings(CF_MODELS_DIR="/no/such/folder"),
    "setting: a log level": _settings(LOGGING_LEVEL_NAME="loud"),
    "setting: a queue smaller than a body": _settings(CF_MAX_QUEUE_BYTES="5"),
    "setting: unknown": _settings(CF_MAX_WAITS="5"),
    "setting: of the original, without effect": _settings(
        ML_PORT="80", FLASK_ENV="test", CUDA="90", INTEL_OPTIMIZATION="true", UWSGI_MASTER="1"
    ),
    "setting: another version than the build's": _settings(BE_VERSION="9"),
    "setting: a burst without a limit": _settings(CF_RATE_BURST="9"),
    "keys: none": _settings(CF_API_KEYS=","),
    "keys: short": _settings(CF_API_KEYS="long-enough,short"),
    "keys: a digest": _settings(CF_API_KEYS="sha256:12"),
    "keys: given twice": _settings(CF_API_KEYS="long-enough", CF_API_KEYS_FILE="/keys"),
    "keys: no file": _settings(CF_API_KEYS_FILE="/no/such/file"),
    "keys: none in the file": _keys_file("# none\n"),
    "keys: short in the file": _keys_file("# ours\nlong-enough\nshort\n"),
    "traces: address": _settings(OTEL_EXPORTER_OTLP_ENDPOINT="collector:4318"),
    "traces: headers": _settings(
        OTEL_EXPORTER_OTLP_ENDPOINT="http://collector", OTEL_EXPORTER_OTLP_HEADERS="token"
    ),
    "traces: exporter": _settings(
        OTEL_EXPORTER_OTLP_ENDPOINT="http://collector", OTEL_TRACES_EXPORTER="zipkin"
    ),
    "traces: protocol": _settings(
        OTEL_EXPORTER_OTLP_ENDPOINT="http://collector", OTEL_EXPORTER_OTLP_PROTOCOL="grpc"
    ),
    # The process
    "port: taken": _taken_port,
    "host: no address of this machine": lambda _: bind("203.0.113.1", 3000),
    "memory: too little": _memory(1000, held_kb=500, available_kb=1000),
    "memory: no limit known": _memory(0, held_kb=500, available_kb=0),
    "memory: shares": _memory(1 << 30, held_kb=102400, available_kb=0),
    # Requests
    "request: no key": _request("/find_faces", variables={"CF_API_KEYS": "long-enough"}),
    "request: a wrong key": _request(
        "/find_faces",
        variables={"CF_API_KEYS": "long-enough"},
        headers={"X-Api-Key": "another-one"},
    ),
    "request: too many": _request(
        "/find_faces", variables={"CF_RATE_LIMIT": "0.5"}, headers={"Content-Type": MULTIPART}
    ),
    "request: a slow body": _request(
        "/find_faces_base64", variables={"CF_BODY_TIMEOUT_S": "0.01"}, body=b"{", ends=False
    ),
    "request: a large body": _request(
        "/find_faces_base64", variables={"CF_MAX_BODY_BYTES": "5"}, body=b'{"file": ""}'
    ),
    "request: another content type": _request(
        "/find_faces_base64", headers={"Content-Type": "text/plain"}, body=b"{}"
    ),
    "request: a failure": _form(part("file", b"X", "a.jpg")),
    "request: no memory": _form(part("file", b"M", "a.jpg")),
    "request: more memory than there is": _form(
        part("file", b"2" * 50_000, "a.jpg"), memory=20_000_000
    ),
    "request: a threshold that is no number": _form(
        part("file", b"2", "a.jpg"), query="det_prob_threshold=high"
    ),
    "request: no HTTP": lambda _: Malformed(),
    "request: a long head": lambda _: HeadTooLarge(),
    "json: another document": _json([]),
    "json: no file": _json({}),
    "json: a file that is no text": _json({"file": 1}),
    "json: a file beyond ASCII": _json({"file": "\u00e4"}),
    "json: a file that is no base64": _json({"file": "a"}),
    "json: many values": _json([0] * (MAX_JSON_VALUES + 1)),
    "form: a long field": _form(part("limit", b"0" * (MAX_FIELD_BYTES + 1))),
    "form: many parts": _form(*[part("x", b"")] * (MAX_PARTS + 1)),
    "form: long part headers": _form(part("x" * (MAX_HEADS_BYTES + 1), b"")),
    "busy: the queue": _gate(_queue),
    "busy: memory for bodies": _gate(_bodies),
    "busy: memory for pictures": _gate(_pictures),
    "busy: no worker": _gate(_worker),
    "busy: stopping": _gate(_stopping),
    "busy: out of memory": _gate(_out_of_memory),
    "busy: stuck": _gate(_stuck),
    # Pictures
    "picture: pixels": _picture(saved(grain(8, 8), "PNG"), max_pixels=50),
    "picture: a header cut short": _picture(saved(grain(8, 8), "JPEG")[:30]),
    "picture: scans of a JPEG": _picture(jpeg_of_scans(200)),
    "picture: samples of a JPEG": _picture(jpeg_of_scans(60, width=13_000, height=13_000)),
    "picture: segments of a JPEG": _picture(b"\xff\xd8" + segment(0xFE, b"") * (MAX_SEGMENTS + 1)),
    "picture: bytes before the first scan of a JPEG": _picture(
        b"\xff\xd8" + segment(0xFE, bytes(65_000)) * 130 + saved(grain(8, 8, 4), "JPEG")[2:]
    ),
    "picture: chunks of a PNG": _picture(png(png_chunk(b"IDAT") * (MAX_CHUNKS + 1))),
    "picture: parts of a TIFF": _picture(tiff_of_shared_tiles(MAX_TIFF_PARTS + 1)),
    "picture: bytes of a TIFF": _picture(tiff_of_shared_strips(3000, 100_000)),
    "picture: tiles beyond a TIFF": _picture(tiff_of_shared_tiles(100, height=40_000)),
    "picture: bytes of a JPEG 2000": _picture(saved(grain(32, 32), "JPEG2000") + bytes(1 << 24)),
    "picture: reads": _picture(b"/* XPM */\n" + b"\n" * 70_000),
    # Plugins and models
    "plugin: no notation": _plugin("detector", "facenet"),
    "plugin: unknown": _plugin("detector", "foo.Bar"),
    "plugin: takes no model": _plugin("analyzer", "facenet.LandmarksDetector@x"),
    "plugin: unknown model": _plugin("calculator", "embedded.Calculator@other"),
    "plugin: names no model": _plugin("calculator", "custom.Calculator"),
    "plugin: no folder of models": lambda _: registry.calculator(
        "facenet.Calculator", Context(open_session=_no_session, models_dir=None, length_limit=0)
    ),
    "model: absent": _plugin(
        "calculator",
        "custom.Calculator@mine",
        lambda place: (place / "model.json").unlink(),
    ),
    "model: an unreadable manifest": _plugin("calculator", "custom.Calculator@mine", schema=2),
    "model: of another role": _plugin("detector", "retinaface.FaceDetector@mine"),
    "model: damaged": _plugin(
        "calculator",
        "custom.Calculator@mine",
        lambda place: (place / "model.onnx").write_bytes(b"others"),
    ),
    "model: another input than upstream's": _plugin(
        "calculator", "facenet.Calculator@20180402-114759"
    ),
    "model: another crop than the plugin's": _plugin(
        "calculator",
        "facenet.Calculator@20180402-114759",
        input={"size": 160, "mean": None, "scale": None},
    ),
    # Runtimes
    "runtime: not installed": _runtime("tensorflow", installed=()),
    "runtime: none of its own on a GPU": _runtime("openvino", gpu_idx=0),
    "runtime: a precision it lacks": _runtime("onnxruntime", "bf16"),
    "runtime: a precision the CPU lacks": _choice("auto", "bf16", flags=()),
    "runtime: a precision that nothing installed has": _choice(
        "auto", "bf16", installed=("onnxruntime",)
    ),
    "runtime: less exact than allowed": _choice("openvino", "bf16"),
    "runtime: it could not be measured": _choice("openvino", "auto", broken=True),
    "runtime: no files of its own kept": _own_files,
}
