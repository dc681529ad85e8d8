"""Certificates made with the program openssl, for tests of TLS."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

NAMES = "DNS:faces.example.org,IP:127.0.0.1"


class Pair(NamedTuple):
    cert: Path
    key: Path


def openssl(*arguments: str) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("the program openssl is absent")
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


def pair(folder: Path, name: str = "ui", *, days: int = 90, names: str = NAMES) -> Pair:
    """A certificate signed by its own key, as files of the folder."""
    made = Pair(folder / f"{name}.crt", folder / f"{name}.key")
    openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-keyout", str(made.key), "-out", str(made.cert), "-days", str(days)),
        *("-subj", "/CN=faces.example.org", "-addext", "keyUsage=digitalSignature"),
        *(("-addext", f"subjectAltName={names}") if names else ()),
    )
    made.key.chmod(0o600)
    return made
