"""The credentials that `docker login` has kept: in config.json, or behind a credential helper."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compreface_cli.child_processes import die_with
from compreface_cli.models.registry.reference import config_keys

HELPER_S = 20.0  # a helper may ask a keyring or a cloud
_MAX_BYTES = 1 << 20
_HELPER = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_BY_TOKEN = "<token>"  # noqa: S105 - the user name with which a helper gives an identity token


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name with a password, or an identity token, or a token of the registry itself."""

    user: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    @property
    def basic(self) -> str:
        """The header `Authorization: Basic`."""
        pair = f"{self.user}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"

    def __repr__(self) -> str:
        return f"Credentials(user={self.user!r})"  # no secret in a traceback


def config_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of Docker's settings of this user."""
    folder = environ.get("DOCKER_CONFIG") or str(Path(environ.get("HOME") or "~") / ".docker")
    return Path(folder).expanduser()


def credentials_for(
    host: str, environ: Mapping[str, str] = os.environ, *, timeout_s: float = HELPER_S
) -> tuple[Credentials | None, str]:
    """The credentials of this host, if `docker login` has kept any; and why they cannot be read.

    The order is Docker's: the host's own helper (credHelpers), the store of all (credsStore), the
    file itself.
    """
    path = config_folder(environ) / "config.json"
    try:
        with path.open("rb") as stream:
            config = json.loads(stream.read(_MAX_BYTES))
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError, RecursionError) as error:
        return None, f"{path} cannot be read ({error})"
    config = config if isinstance(config, dict) else {}
    keys = config_keys(host)
    own = _table(config, "credHelpers")
    helper = next((own[key] for key in keys if key in own), config.get("credsStore"))
    if isinstance(helper, str) and helper:
        if not _HELPER.fullmatch(helper):
            return None, f"{path} names an invalid credential helper"
        for key in keys:
            known, problem = _ask(helper, key, environ, timeout_s)
            if known or problem:
                return known, problem
    entries = _table(config, "auths")
    return next(
        (known for key in keys if (known := _of_entry(_table(entries, key))) is not None), None
    ), ""


def _table(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _of_entry(entry: Mapping[str, Any]) -> Credentials | None:
    """An entry of `auths`; `auth` is base64 of USER:PASSWORD."""
    user, password = _text(entry, "username"), _text(entry, "password")
    try:
        pair = base64.b64decode(_text(entry, "auth"), validate=True).decode()
    except (ValueError, binascii.Error):
        pair = ""
    if ":" in pair:
        user, _, password = pair.partition(":")
        password = password.rstrip("\0")  # as docker/cli does, for files of early versions
    known = Credentials(
        user, password, _text(entry, "identitytoken"), _text(entry, "registrytoken")
    )
    return None if known == Credentials() else known


def _ask(
    helper: str, key: str, environ: Mapping[str, str], timeout_s: float
) -> tuple[Credentials | None, str]:
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"],
            input=key.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environ),
            timeout=timeout_s,
            check=False,
            preexec_fn=die_with(os.getpid()),
        )
    except subprocess.TimeoutExpired:
        return None, f"{program} did not answer within {timeout_s:g} s"
    except OSError as error:
        return None, f"{program} cannot be started: {error.strerror or error}"
    if done.returncode != 0:
        return None, ""  # it has none for this host
    try:
        answer = json.loads(done.stdout[:_MAX_BYTES])
        user, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, f"{program} gave an invalid answer"
    if not isinstance(user, str) or not isinstance(secret, str):
        return None, f"{program} gave an invalid answer"
    return (
        Credentials(identity_token=secret) if user == _BY_TOKEN else Credentials(user, secret)
    ), ""


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) else ""
