"""Installs, removals and a second release: what stays, what does not collide, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kubernetes.conftest import note
from tests.kubernetes.ground import CommandFailed, Namespace, wait_until
from tests.kubernetes.release import Release

LONG = "faces-of-the-entrance-of-the-third-house"  # 40 characters, as pods and labels must bear


def release_of(chart: Path, folder: Path, namespace: Namespace, name: str) -> Release:
    folder.mkdir()
    shutil.copytree(chart, folder, dirs_exist_ok=True)
    return Release(namespace, name, folder)


def test_a_release_that_is_removed_and_installed_again_has_its_rows(
    chart: Path, tmp_path: Path, namespace: Namespace
) -> None:
    one = release_of(chart, tmp_path / "one", namespace, LONG)
    one.upgrade()
    one.learn()
    before = one.rows()
    one.uninstall()
    wait_until(lambda: not namespace.get("pods")["items"], "the end of all pods", 120)
    assert [claim["status"]["phase"] for claim in namespace.get("pvc")["items"]] == ["Bound"]
    one.upgrade()
    assert one.rows() == before
    assert one.knows_grace()
    note(f"removed and installed again: rows and hashes equal, {len(before)} tables")


def test_two_releases_share_a_namespace_and_another_password_is_refused(
    chart: Path, tmp_path: Path, namespace: Namespace
) -> None:
    first = release_of(chart, tmp_path / "first", namespace, "first")
    second = release_of(chart, tmp_path / "second", namespace, "second")
    first.upgrade()
    second.upgrade()
    first.learn()
    assert first.knows_grace()
    assert int(first.sql("select count(*) from public.model")) > int(
        second.sql("select count(*) from public.model")
    )
    with pytest.raises(CommandFailed) as refused:
        first.upgrade(secrets={"postgres_password": "another"})
    assert "secrets.postgres_password" in refused.value.said
    assert first.knows_grace()


def test_the_plain_manifests_are_applied_and_answer(
    render: Callable[..., Path], namespace: Namespace
) -> None:
    folder = render("kubernetes")
    strict = ("apply", f"--kustomize={folder}", "--dry-run=server", "--validate=strict")
    namespace.kubectl(*strict)
    namespace.kubectl("apply", f"--kustomize={folder}")
    deployments = namespace.get("deployments")["items"]
    names = [one["metadata"]["name"] for one in deployments]
    assert len(names) == 4
    service = next(name for name in names if name.endswith("-fe"))
    port = '[{"op":"replace","path":"/spec/type","value":"NodePort"}]'
    namespace.kubectl("patch", "service", service, "--type=json", f"--patch={port}")
    namespace.rolled_out(*(f"deployment/{name}" for name in names))
    release = Release(namespace, service.removesuffix("-fe"), folder)
    wait_until(release.answers, "all services answer", 60)
    release.learn()
    assert release.knows_grace()


def test_a_namespace_of_the_restricted_standard_takes_each_pod_and_warns_of_none(
    chart: Path, namespace: Namespace
) -> None:
    text = namespace.helm("template", "faces", str(chart / "chart"))
    said = namespace.kubectl("apply", "--dry-run=server", "--validate=strict", "-f-", stdin=text)
    assert "created (server dry run)" in said
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "root"},
        "spec": {"containers": [{"name": "root", "image": "root"}]},
    }
    with pytest.raises(CommandFailed) as refused:
        namespace.kubectl("apply", "--dry-run=server", "-f-", stdin=json.dumps(pod))
    assert "restricted" in refused.value.said
