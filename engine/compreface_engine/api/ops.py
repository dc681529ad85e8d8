"""Health, readiness and API documentation: routes that are answered at once, past the queue."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files

from compreface_engine.admission import Gate
from compreface_engine.api.answers import Answer, json_answer

_OK = json_answer({"status": "OK"})
_FULL = json_answer(
    {"message": "503 Service Unavailable: The queue is full"}, 503, ((b"retry-after", b"1"),)
)
_STOPPING = json_answer(
    {"message": "503 Service Unavailable: The engine is stopping"}, 503, ((b"retry-after", b"5"),)
)


def live(gate: Gate) -> Answer:
    """/live: 200 while no worker is stuck."""
    return _stuck(gate) or _OK


def healthcheck(gate: Gate) -> Answer:
    """/healthcheck: 200 while no worker is stuck; the port opens after the models are loaded."""
    return _stuck(gate) or _OK


def ready(gate: Gate) -> Answer:
    """/ready: 200 while a new request would be admitted."""
    stuck = _stuck(gate)
    if stuck is not None:
        return stuck
    if gate.stopping:
        return _STOPPING
    return _FULL if gate.full else _OK


def _stuck(gate: Gate) -> Answer | None:
    stuck = gate.stuck
    if not stuck:
        return None
    message = (
        f"503 Service Unavailable: A worker has been stuck for {stuck[0].ran_s:.0f} s at "
        f"{stuck[0].description or 'a request'}; the engine exits, to be restarted"
    )
    return json_answer({"message": message}, 503)


def documents(*, keys: bool) -> dict[str, Callable[[], Answer]]:
    """The answers of the documentation's routes; `keys`: whether API keys are required."""
    folder = files("compreface_engine.api").joinpath("docs")

    def document(name: str, content_type: bytes) -> Callable[[], Answer]:
        answer = Answer(200, folder.joinpath(name).read_bytes(), content_type)
        return lambda: answer

    api = json.loads(folder.joinpath("openapi.json").read_bytes())
    if not keys:
        del api["security"]
    described = json_answer(api)
    page = document("apidocs.html", b"text/html; charset=utf-8")
    moved = Answer(302, b"", b"text/html; charset=utf-8", ((b"location", b"/apidocs"),))
    return {
        "/frs-core-api.json": document("frs-core-api.json", b"application/json"),
        "/openapi.json": lambda: described,
        "/docs": document("docs.html", b"text/html; charset=utf-8"),
        "/apidocs": page,
        "/apidocs/index.html": lambda: moved,
        "/apidocs/apidocs.css": document("apidocs.css", b"text/css; charset=utf-8"),
        "/apidocs/apidocs.js": document("apidocs.js", b"text/javascript; charset=utf-8"),
    }
