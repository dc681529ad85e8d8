"""The folders that `cf render` writes for Kubernetes: secrets apart, kept, and for nobody else."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from compreface_cli.errors import ConfigurationError
from compreface_cli.plan.data import Data
from compreface_cli.plan.plan import Plan
from compreface_cli.project import writer
from compreface_cli.project.targets import TARGETS
from tests.chart.cases import Case, planned

KINDS = ("helm", "kubernetes")


def write(target: str, folder: Path, plan: Plan) -> writer.Written:
    return writer.write(TARGETS[target].render()(plan, with_models=False), folder)


def secrets(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((folder / "secrets.yaml").read_text("utf-8"))
    return document


@pytest.mark.parametrize("target", KINDS)
def test_the_password_is_in_a_file_of_its_own_and_kept(target: str, tmp_path: Path) -> None:
    plan = planned(Case())
    write(target, tmp_path, plan)
    own = secrets(tmp_path)
    password = writer.read_env(tmp_path / ".env")["POSTGRES_PASSWORD"]
    holder = own["stringData"] if target == "kubernetes" else own["secrets"]
    assert password in holder.values()
    assert stat.S_IMODE((tmp_path / "secrets.yaml").stat().st_mode) == 0o600
    holding = {
        path.name
        for path in tmp_path.rglob("*")
        if path.is_file() and password.encode() in path.read_bytes()
    }
    assert holding == {".env", "secrets.yaml"}
    assert write(target, tmp_path, plan).changed == ()
    (tmp_path / "secrets.yaml").unlink()
    assert write(target, tmp_path, plan).changed == ("secrets.yaml",)
    assert secrets(tmp_path) == own
    assert writer.state(TARGETS[target].render()(plan, with_models=False), tmp_path) == "same"


def test_a_pod_gets_digests_of_the_keys(tmp_path: Path) -> None:
    plan = planned(Case({"services": "core", "api_keys": "first-key-1,second-key-2"}))
    write("kubernetes", tmp_path / "k", plan)
    digests = [hashlib.sha256(key.encode()).hexdigest() for key in plan.api_keys.split(",")]
    assert secrets(tmp_path / "k")["stringData"] == {
        "api-keys": "".join(f"sha256:{digest}\n" for digest in digests)
    }
    write("helm", tmp_path / "h", plan)
    assert secrets(tmp_path / "h")["secrets"] == {"api_keys": ["first-key-1", "second-key-2"]}


@pytest.mark.parametrize("target", KINDS)
def test_a_certificate_lies_beside_the_manifests(target: str, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_text("certificate")
    key.write_text("key")
    plan = planned(Case({"tls_cert": str(cert), "tls_key": str(key)}))
    folder = tmp_path / "out"
    write(target, folder, plan)
    assert (folder / "tls/cert.pem").read_text() == "certificate"
    assert stat.S_IMODE((folder / "tls/key.pem").stat().st_mode) == 0o600
    key.unlink()
    with pytest.raises(ConfigurationError):
        write(target, tmp_path / "other", plan)


def test_the_authority_of_a_database_elsewhere_is_a_value(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("-----BEGIN CERTIFICATE-----\n")
    case = Case(
        {"database_url": f"postgresql://me:secret-1@db/x?sslmode=verify-full&sslrootcert={path}"}
    )
    write("helm", tmp_path / "out", planned(case))
    text = (tmp_path / "out/chart/values.yaml").read_text("utf-8")
    database = yaml.safe_load(text)["database"]
    assert database["external"]["rootCert"] == path.read_text()
    assert not database["enabled"]
    assert "secret-1" not in text
    assert secrets(tmp_path / "out")["secrets"]["postgres_password"] == "secret-1"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError):
        write("helm", tmp_path / "other", planned(case))


@pytest.mark.parametrize("target", KINDS)
def test_what_a_cluster_cannot_have_is_refused(target: str, tmp_path: Path) -> None:
    from dataclasses import replace

    plan = planned(Case())
    for other in (
        replace(plan, secrets={"api_keys": "first-key-1"}),
        replace(plan, data=Data("faces_postgres-data")),
    ):
        with pytest.raises(ConfigurationError):
            write(target, tmp_path, other)
