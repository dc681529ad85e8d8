"""Every rendered build against its golden files (`python -m tests.golden.rendered` refreshes)."""

from __future__ import annotations

import pytest
import yaml

from tests.golden.rendered import CASES, FOLDER, TARGETED, rendered, texts


@pytest.mark.parametrize("name", sorted({*CASES, *TARGETED}))
def test_a_rendered_build_is_the_golden_one(name: str) -> None:
    folder = FOLDER / name
    kept = {
        path.relative_to(folder).as_posix(): path.read_text("utf-8")
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert texts(rendered(name)) == kept


def test_no_golden_folder_is_without_its_case() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {*CASES, *TARGETED}


@pytest.mark.parametrize("name", sorted(CASES))
def test_what_must_never_be_rendered_is_not(name: str) -> None:
    files = texts(rendered(name))
    document = yaml.safe_load(files["compose.yaml"])
    assert "version" not in document
    for service in document["services"].values():
        assert not {"container_name", "gpus", "runtime", "privileged"} & set(service)
        assert service["restart"] == "unless-stopped"
        assert "start_interval" in service["healthcheck"]
    assert not files["core/Dockerfile"].startswith("# syntax")
    assert "# syntax" not in files["core/Dockerfile"]
