"""The OpenAPI document is true: Schemathesis compares a running engine with it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compreface_engine.admission import Gate
from compreface_engine.api.app import App
from compreface_engine.settings import Settings
from tests.contract.process import Engine
from tests.engine.fakes import FakePipeline
from tests.shared import ROOT

KEY = "a-key-of-the-tests"
DOCUMENT: dict[str, Any] = json.loads(
    (ROOT / "engine/compreface_engine/api/docs/openapi.json").read_text("utf-8")
)


def schemathesis(folder: Path, engine: Engine, *arguments: str) -> None:
    """Every check that it has, over examples, boundary values and random requests."""
    config = folder / "schemathesis.toml"
    # What fits the document may still be a picture without a face, which the contract makes a 400.
    config.write_text('[checks.positive_data_acceptance]\nexpected-statuses = ["2xx", 302, 400]\n')
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from schemathesis.cli import schemathesis as s; s()"),
            *("--config-file", str(config), "run", f"http://127.0.0.1:{engine.port}/openapi.json"),
            *("--checks", "all", "--seed", "1", "--no-shrink", "--generation-database", "none"),
            *("--no-color", *arguments),
        ],
        cwd=folder,
        env={
            **os.environ,
            "SCHEMATHESIS_HOOKS": "tests.engine.schemathesis_hooks",
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "engine"))),
        },
        capture_output=True,
        text=True,
        errors="replace",
        timeout=300,
        check=False,
    )
    output = "\n".join(line[:300] for line in done.stdout.splitlines())
    assert done.returncode == 0, output + done.stderr
    assert "No issues found" in done.stdout


@pytest.mark.slow
def test_an_engine_without_keys_answers_as_its_document_says(tmp_path: Path) -> None:
    with Engine() as engine:
        schemathesis(tmp_path, engine, "--phases", "examples,coverage,fuzzing", "-n", "5")
        assert engine.alive


@pytest.mark.slow
def test_an_engine_with_keys_answers_as_its_document_says(tmp_path: Path) -> None:
    with Engine(CF_API_KEYS=KEY) as engine:
        schemathesis(
            *(tmp_path, engine, "--phases", "examples,fuzzing", "-n", "2"),
            *("-H", f"X-Api-Key: {KEY}"),
        )
        assert engine.alive


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            if name == "$ref":
                yield item
            else:
                yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_every_reference_resolves_and_every_component_is_used() -> None:
    used = set(references(DOCUMENT))
    for reference in used:
        at = DOCUMENT
        for name in reference.removeprefix("#/").split("/"):
            at = at[name]
    kinds = DOCUMENT["components"]
    schemes = {f"#/components/securitySchemes/{name}" for name in kinds["securitySchemes"]}
    every = {f"#/components/{kind}/{name}" for kind, names in kinds.items() for name in names}
    assert every - schemes == used
    assert {name for scheme in DOCUMENT["security"] for name in scheme} == set(
        kinds["securitySchemes"]
    )


def test_exactly_the_routes_are_described() -> None:
    gate = Gate(concurrency=1, max_queue=1, max_bytes=1, max_wait_s=1)
    app = App(Settings.from_env({}, cores=1), FakePipeline(), gate)
    assert set(app.paths) == set(DOCUMENT["paths"])


def test_temporary_refusals_have_retry_after() -> None:
    for name in ("NoRoom", "TooOften"):
        assert "Retry-After" in DOCUMENT["components"]["responses"][name]["headers"]
    for path in ("/find_faces", "/find_faces_base64", "/scan_faces"):
        answers = DOCUMENT["paths"][path]["post"]["responses"]
        assert set(answers) == set("200 400 401 405 408 413 422 429 500 503".split())


def test_the_documentation_loads_nothing_from_other_hosts() -> None:
    folder = ROOT / "engine/compreface_engine/api/docs"
    for name in ("docs.html", "apidocs.html", "apidocs.js", "apidocs.css"):
        text = (folder / name).read_text("utf-8")
        assert not re.search(r"https?://|(src|href)=\"//|@import|url\(", text), name
