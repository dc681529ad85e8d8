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


def a_certificate_that_is_gone(folder: Path) -> None:
    kubernetes.render(planned(Case({"tls_cert": "cert.pem", "tls_key": "key.pem"})))


CASES: Final = {
    "a volume of Docker for a cluster": a_volume_of_docker,
    "a certificate that is gone": a_certificate_that_is_gone,
}
