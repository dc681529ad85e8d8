"""docs/reference/ against the code (`make reference` writes it)."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from compreface_cli import resources
from tests.shared import ROOT
from tools import build_tables, reference

WRITTEN = reference.pages()


@pytest.mark.parametrize("name", WRITTEN)
def test_the_committed_page_is_what_the_code_says(name: str) -> None:
    assert (reference.FOLDER / name).read_text("utf-8") == WRITTEN[name], "run: make reference"


@pytest.mark.parametrize("page", build_tables.pages(), ids=lambda page: page.name)
def test_the_tables_of_builds_are_those_of_their_facts(page: Path) -> None:
    text = build_tables.pages()[page]
    assert page.read_text("utf-8") == text, "run: make reference"
    for path in resources.builds_dir().glob("*.yaml"):
        assert f"`{path.stem.removesuffix('-gpu')}" in text


def test_there_is_no_other_page() -> None:
    assert {path.name for path in reference.FOLDER.iterdir()} == set(WRITTEN)


def test_the_schema_takes_the_bundled_builds_and_refuses_an_unknown_key() -> None:
    schema = jsonschema_rs.validator_for(json.loads(WRITTEN[reference.SCHEMA]))
    builds = sorted((ROOT / "builds").glob("*.yaml"))
    assert builds
    for path in builds:
        schema.validate(yaml.safe_load(path.read_text("utf-8")))
    assert not schema.is_valid({**yaml.safe_load(builds[0].read_text("utf-8")), "detektor": "x"})


def test_the_schema_takes_a_hash_in_each_form() -> None:
    schema = jsonschema_rs.validator_for(json.loads(WRITTEN[reference.SCHEMA]))
    document = yaml.safe_load(
        (ROOT / "docs" / "your-own-model.md")
        .read_text("utf-8")
        .split("```")[1]
        .removeprefix("yaml")
    )
    for value in (None, "0" * 64, ["0" * 64]):
        document["models"][0]["files"][0]["sha256"] = value
        schema.validate(document)
    document["models"][0]["files"][0]["sha256"] = 1
    assert not schema.is_valid(document)
