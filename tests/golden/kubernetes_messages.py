"""Cases of messages about Kubernetes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from compreface_cli.plan.data import Data
from compreface_cli.project.targets import kubernetes
from tests.chart.cases import Case, planned


def a_volume_of_docker(folder: Path) -> None:
    kubernetes.render(replace(planned(Case()), data=Data("faces_postgres-data")))


def an_authority_in_der(folder: Path) -> None:
    (folder / "ca.der").write_bytes(b"\x30\x82\xff")
    url = f"postgresql://me:secret-1@db/faces?sslmode=verify-full&sslrootcert={folder / 'ca.der'}"
    kubernetes.render(planned(Case({"database_url": url})))


CASES: Final = {
    "a volume of Docker for a cluster": a_volume_of_docker,
    "an authority that is not PEM": an_authority_in_der,
}
