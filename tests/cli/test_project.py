"""Writing a project: whole or not at all, hand edits and secrets kept."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compreface_cli.errors import CfError, ConflictError
from compreface_cli.project import writer
from compreface_cli.project.rendered import Content, FileRef, RenderedProject
from compreface_cli.project.targets.templating import env_text
from tests.cli.names import assert_named


def rendered(
    secrets: Mapping[str, str] | None = None,
    more: Mapping[str, Content] | None = None,
    **files: Content,
) -> RenderedProject:
    whole: dict[str, Content] = {"compose.yaml": "name: x\n", "core/Dockerfile": "FROM x\n"}
    whole.update(more or {})
    whole.update({path.replace("__", "/"): content for path, content in files.items()})
    return RenderedProject("x", whole, secrets or {})


def tree(folder: Path) -> dict[str, bytes]:
    """Everything below the folder, the manifest aside."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != writer.MANIFEST
    }


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "project"


def test_a_project_is_written_with_secrets_of_its_own(folder: Path) -> None:
    assert writer.state(rendered(), folder) == "absent"
    done = writer.write(rendered(), folder)
    assert set(done.changed) == {"compose.yaml", "core/Dockerfile", ".env"}
    assert writer.state(rendered(), folder) == "same"
    assert mode(folder / ".env") == 0o600
    assert mode(folder / "compose.yaml") == 0o644
    values = writer.read_env(folder / ".env")
    assert len(values["POSTGRES_PASSWORD"]) >= 32
    assert values["EMAIL_PASSWORD"] == ""


def test_two_projects_have_two_passwords(tmp_path: Path) -> None:
    for name in "ab":
        writer.write(rendered(), tmp_path / name)
    first, second = (writer.read_env(tmp_path / name / ".env") for name in "ab")
    assert first["POSTGRES_PASSWORD"] != second["POSTGRES_PASSWORD"]


def test_a_second_write_changes_nothing(folder: Path) -> None:
    writer.write(rendered(), folder)
    before = tree(folder)
    done = writer.write(rendered(), folder)
    assert (done.changed, done.removed) == ((), ())
    assert tree(folder) == before


def test_a_changed_plan_replaces_what_changed_and_removes_what_is_gone(folder: Path) -> None:
    writer.write(rendered(core__models__a="x", old="x"), folder)
    secrets = (folder / ".env").read_bytes()
    done = writer.write(rendered(core__Dockerfile="FROM y\n"), folder)
    assert done.changed == ("core/Dockerfile",)
    assert done.removed == ("core/models/a", "old")
    assert not (folder / "core" / "models").exists()
    assert (folder / ".env").read_bytes() == secrets
    assert writer.state(rendered(core__models__a="x"), folder) == "differs"


def test_the_users_own_files_stay(folder: Path) -> None:
    writer.write(rendered(core__models__a="x"), folder)
    (folder / "compose.override.yaml").write_text("mine\n")
    (folder / "core" / "models" / "mine.txt").write_text("mine\n")
    writer.write(rendered(), folder)
    assert (folder / "compose.override.yaml").read_text() == "mine\n"
    assert (folder / "core" / "models" / "mine.txt").read_text() == "mine\n"


def test_a_hand_edit_is_refused_with_its_diff_and_nothing_is_written(folder: Path) -> None:
    writer.write(rendered(), folder)
    (folder / "compose.yaml").write_text("name: x\nmine: 1\n")
    assert writer.state(rendered(), folder) == "differs"
    before = tree(folder)
    with pytest.raises(ConflictError, match=str(folder / "compose.yaml")) as caught:
        writer.write(rendered(core__Dockerfile="FROM y\n"), folder)
    assert caught.value.code == 4
    assert "-mine: 1" in caught.value.message
    assert caught.value.hint is not None
    assert "compose.override.yaml" in caught.value.hint
    assert tree(folder) == before


def test_all_edited_files_are_reported_together(folder: Path) -> None:
    writer.write(rendered(gone="a\n", core__data="b\n"), folder)
    (folder / "compose.yaml").write_text("".join(f"{i}\n" for i in range(200)))
    (folder / "core" / "data").write_bytes(b"\xff\xfe")
    (folder / "gone").write_text("mine")
    with pytest.raises(ConflictError) as caught:
        writer.write(rendered(core__data="c\n"), folder)
    message = caught.value.message
    assert_named(message, *(folder / name for name in ("compose.yaml", "gone", "core/data")))
    assert len(message.splitlines()) < 100  # of more than 200 that differ


def test_an_edit_equal_to_what_cf_would_write_is_no_conflict(folder: Path) -> None:
    writer.write(rendered(), folder)
    (folder / "compose.yaml").write_text("name: y\n")
    writer.write(rendered(more={"compose.yaml": "name: y\n"}), folder)
    assert writer.state(rendered(more={"compose.yaml": "name: y\n"}), folder) == "same"


def test_a_file_that_was_deleted_is_written_again(folder: Path) -> None:
    writer.write(rendered(), folder)
    (folder / "compose.yaml").unlink()
    assert writer.write(rendered(), folder).changed == ("compose.yaml",)


def test_a_folder_with_foreign_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConflictError, match=r"thesis\.txt"):
        writer.write(rendered(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_unknown_file_at_a_rendered_path_is_refused(folder: Path) -> None:
    writer.write(rendered(), folder)
    (folder / "notes.md").write_text("mine")
    with pytest.raises(ConflictError, match=r"notes\.md"):
        writer.write(rendered(more={"notes.md": "cf's"}), folder)


def test_secrets_and_overrides_laid_ready_are_taken(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / ".env").write_text("# mine\nPOSTGRES_PASSWORD=bare\nTZ='Europe/Kyiv'\nnonsense\n")
    (folder / "compose.override.yaml").write_text("services: {}\n")
    writer.write(rendered(), folder)
    values = writer.read_env(folder / ".env")
    assert values == {"POSTGRES_PASSWORD": "bare", "TZ": "Europe/Kyiv", "EMAIL_PASSWORD": ""}


def test_a_password_of_the_users_is_taken_at_first_and_never_changed_later(folder: Path) -> None:
    writer.write(rendered({"postgres_password": "mine", "email_password": "m1"}), folder)
    assert writer.read_env(folder / ".env")["POSTGRES_PASSWORD"] == "mine"
    writer.write(rendered({"postgres_password": "mine", "email_password": "m2"}), folder)
    assert writer.read_env(folder / ".env")["EMAIL_PASSWORD"] == "m2"
    with pytest.raises(ConflictError, match="postgres_password") as caught:
        writer.write(rendered({"postgres_password": "other"}), folder)
    assert "mine" not in str(caught.value)
    writer.write(rendered(), folder)
    assert writer.read_env(folder / ".env")["POSTGRES_PASSWORD"] == "mine"


def test_a_copied_file_is_proven_while_it_is_copied(tmp_path: Path, folder: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"weights")
    writer.write(rendered(core__m=FileRef.of(source)), folder)
    assert (folder / "core" / "m").read_bytes() == b"weights"
    before = tree(folder)
    with pytest.raises(CfError, match=r"model\.onnx"):
        writer.write(
            rendered(core__m=FileRef(source, "0" * 64), more={"compose.yaml": "n"}), folder
        )
    assert tree(folder) == before
    assert not list(folder.glob(".cf-*stage*"))


def test_a_first_write_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    with pytest.raises(CfError, match=r"deep/er/project.*No such file"):
        writer.write(
            rendered(core__m=FileRef(source, "0" * 64)), tmp_path / "deep" / "er" / "project"
        )
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_replaced_puts_all_others_back(folder: Path) -> None:
    writer.write(rendered(), folder)
    before = tree(folder)
    # a folder stands where the last of the new files should go
    new = rendered(more={"compose.yaml": "name: y\n", "zz/file": "x"})
    (folder / "zz").write_text("in the way")
    with pytest.raises(CfError, match=str(folder)):
        writer.write(new, folder)
    (folder / "zz").unlink()
    assert tree(folder) == before
    assert writer.state(rendered(), folder) == "same"


def test_a_run_killed_between_two_files_is_not_taken_for_a_hand_edit(folder: Path) -> None:
    writer.write(rendered(), folder)
    new = rendered(more={"compose.yaml": "name: y\n", "core/Dockerfile": "FROM y\n"})
    manifest = json.loads((folder / writer.MANIFEST).read_text())
    manifest["pending"] = new.hashes()
    (folder / writer.MANIFEST).write_text(json.dumps(manifest))
    (folder / "compose.yaml").write_text("name: y\n")  # moved already; the Dockerfile was not
    third = rendered(more={"compose.yaml": "name: z\n"})
    writer.write(third, folder)
    assert writer.state(third, folder) == "same"


@pytest.mark.parametrize("text", ["{", "[]", '{"files": 1}'])
def test_a_damaged_manifest_is_refused(folder: Path, text: str) -> None:
    writer.write(rendered(), folder)
    (folder / writer.MANIFEST).write_text(text)
    with pytest.raises(ConflictError, match=writer.MANIFEST):
        writer.write(rendered(), folder)


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CfError, match=r"file/project.*Not a directory"):
        writer.write(rendered(), tmp_path / "file" / "project")


def test_a_file_is_replaced_and_never_written_in_place(folder: Path, tmp_path: Path) -> None:
    writer.write(rendered(), folder)
    os.link(folder / "compose.yaml", tmp_path / "link")
    writer.write(rendered(more={"compose.yaml": "name: y\n"}), folder)
    assert (tmp_path / "link").read_text() == "name: x\n"


@given(st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc", "Zl", "Zp"])))
def test_any_password_is_read_back_as_it_was_written(value: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ".env"
        path.write_text(env_text("x", {"KEY": value}), "utf-8")
        assert writer.read_env(path) == {"KEY": value}
