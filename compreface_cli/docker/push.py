"""Pushes images to a registry, and asks the registry for the digest that it keeps them under."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from compreface_cli import causes
from compreface_cli.causes.registry import FAILED, STALLED
from compreface_cli.docker import cli, client
from compreface_cli.docker import image as images
from compreface_cli.docker.client import NoAnswerError
from compreface_cli.docker.image import Waiting
from compreface_cli.errors import CfError, FetchError

NAME = "compreface-core"  # of the engine's image below the folder that the user names
# No layer, byte or retry was reported for so long. The Docker engine reports every 512 KiB, and a
# registry on object storage may take a minute or two to commit a layer of 1 GB.
STALL_S = 180.0
PAUSES_S = (2.0, 5.0)  # before each further attempt; the Docker engine itself retries a layer
_TRANSIENT = re.compile(
    r"connection reset|broken pipe|\bEOF\b|TLS handshake timeout|i/o timeout|\b50[234]\b|"
    r"toomanyrequests|\b429\b",
    re.IGNORECASE,
)
_REFUSED = re.compile(r"connection refused", re.IGNORECASE)
_ENDED = ("Pushed", "Layer already exists")


def push(
    image: str,
    push_to: str,
    *,
    waiting: Waiting = images.silent,
    report: Callable[[str], None] = lambda line: None,
    stall_s: float = STALL_S,
) -> str:
    """Push the local image of that name; returns "REGISTRY/FOLDER/compreface-core@sha256:...".

    `push_to`: "REGISTRY/FOLDER". In the registry the image has the tag that it has here; on this
    machine its name there is removed again, unless it existed before. Raises FetchError for all
    that the registry refuses, and DockerError without a Docker engine.
    """
    repository = f"{push_to}/{NAME}"
    with _named(image, f"{repository}:{_tag(image)}") as name:
        return f"{repository}@{push_name(name, waiting, report, stall_s=stall_s)}"


def push_name(
    name: str,
    waiting: Waiting = images.silent,
    report: Callable[[str], None] = lambda line: None,
    *,
    stall_s: float = STALL_S,
) -> str:
    """Push the image to the registry in its name (with a tag); the digest, "sha256:...".

    The registry is asked for the digest once it is pushed; another answer than the Docker engine's
    is an error.
    """
    header = _authorisation(name, report)
    with waiting(f"pushing {name}") as show:
        for pause_s in (*PAUSES_S, None):
            sending = _Sending(name, show)
            try:
                sending.run(header, stall_s)
                return _as_registry_has_it(name, sending.digest, header)
            except FetchError as failed:
                again = _TRANSIENT.search(failed.message) or (
                    sending.layers and _REFUSED.search(failed.message)
                )
                if pause_s is None or not again or failed.details.get("timed_out"):
                    raise
                report(f"  {failed.message.splitlines()[-1].strip()}; again in {pause_s:g} s")
                time.sleep(pause_s)
    raise AssertionError("the last attempt returns or raises")


def failure(name: str, text: str) -> CfError:
    """The error for a push of which the Docker engine or the registry says `text`."""
    cause = causes.of("registry", text)
    what = cause.what if cause else "the registry did not take the image"
    host = name.partition("/")[0]
    details = {"image": name, "registry": host, "output": [text]}
    return FetchError(
        f"push {name}: {what}\n    {text}",
        hint=cause.hint.format(host=host) if cause else "Run the command again.",
        details=details,
        topic=cause.topic if cause else FAILED,
    )


@dataclass(slots=True)
class _Sending:
    """One attempt: the state of each layer, as the Docker engine reports it."""

    name: str
    show: Callable[[str], None]
    layers: dict[str, str] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    digest: str = ""

    def run(self, header: str, stall_s: float) -> None:
        repository, _, tag = self.name.rpartition(":")
        try:
            with client.events(
                *("images", repository, "push"),
                doing=f"push {self.name}",
                headers={"X-Registry-Auth": header},
                quiet_s=stall_s,
                tag=tag,
            ) as events:
                for event in events:
                    self._read(event)
        except NoAnswerError as error:
            if error.state == "timeout" and self.layers:
                raise self._stalled(stall_s) from error
            if error.status:
                raise failure(self.name, error.reason) from error
            raise
        if not self.digest:
            raise failure(self.name, "the registry named no digest")

    def _read(self, event: dict[str, Any]) -> None:
        if text := event.get("error") or (event.get("errorDetail") or {}).get("message"):
            raise failure(self.name, str(text))
        if digest := (event.get("aux") or {}).get("Digest"):
            self.digest = str(digest)
        layer, status = event.get("id"), str(event.get("status") or "")
        if layer and layer != self.name.rpartition(":")[2]:
            self.layers[layer] = status
            self.sent[layer] = int((event.get("progressDetail") or {}).get("current") or 0)
            done = sum(state.startswith(_ENDED) for state in self.layers.values())
            amount = sum(self.sent.values()) / 1e6
            self.show(
                f"pushing {self.name}: {done} of {len(self.layers)} layers, {amount:.0f} MB sent"
            )

    def _stalled(self, stall_s: float) -> CfError:
        done = sum(state.startswith(_ENDED) for state in self.layers.values())
        host = self.name.partition("/")[0]
        return FetchError(
            f"push {self.name}: the registry took nothing for {stall_s:g} s "
            f"({done} of {len(self.layers)} layers are there)",
            hint=f"Check {host} and the network to it, then run the command again: "
            "what is there is not sent twice.",
            details={"image": self.name, "registry": host, "timed_out": True},
            topic=STALLED,
        )


def _as_registry_has_it(name: str, digest: str, header: str) -> str:
    """The digest that the registry has under the name; FetchError if it is another one."""
    headers = {"X-Registry-Auth": header}
    try:
        answer = client.get("distribution", name, "json", doing=f"look for {name}", headers=headers)
        there = str(answer["Descriptor"]["digest"])
    except NoAnswerError as error:
        if not error.status:
            raise
        raise failure(name, f"it was pushed, and is not there: {error.reason}") from error
    except (KeyError, TypeError) as error:
        raise failure(name, "it was pushed, and the registry names no digest") from error
    if there != digest:
        raise failure(name, f"it was pushed as {digest}, and the registry has {there}")
    return there


@contextmanager
def _named(image: str, name: str) -> Iterator[str]:
    """Give the image that name for the block, and put back what had it before."""
    now, before = images.find(image), images.find(name)
    if now is None:
        raise CfError(f"push {image}: there is no such image here", hint="Build it: cf build.")
    try:
        if before is None or before.id != now.id:
            images.add_tag(now, name)
        yield name
    finally:
        if before is None:
            _forget(name)
        elif before.id != now.id:
            cli.run("tag", before.id, name, doing=f"give {name} back", check=False)
            repository = name.rpartition(":")[0]
            known = images.find(now.id)
            for digest in known.digests if known else ():
                if digest.startswith(f"{repository}@") and digest not in now.digests:
                    _forget(digest)


def _forget(name: str) -> None:
    """Remove this name of an image that has others."""
    cli.run("image", "rm", "--no-prune", name, doing=f"remove the name {name}", check=False)


def _tag(image: str) -> str:
    """The tag of an image's name; `latest` without one, as Docker has it."""
    last = image.partition("@")[0].rpartition("/")[2]
    return last.rpartition(":")[2] if ":" in last else "latest"


def _authorisation(name: str, report: Callable[[str], None]) -> str:
    """The header with what `docker login` has kept for the registry of that name."""
    from compreface_cli.models.registry import credentials

    host = name.partition("/")[0]
    known, problem = credentials.credentials_for(host)
    if problem:
        report(f"  the login of {host}: {problem}")
    document = {"serveraddress": host}
    if known is not None:
        document |= {
            "username": known.user,
            "password": known.password,
            "identitytoken": known.identity_token,
            "registrytoken": known.registry_token,
        }
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode()
