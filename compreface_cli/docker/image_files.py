"""Files of a local image as a tar stream, copied out of a container that is never started."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from compreface_cli.docker import cli, client
from compreface_cli.docker.labels import LABEL_COPY
from compreface_cli.errors import CfError, DockerError

_ANSWER_S = 5.0  # of an engine that may hang, while a registry would do
_COPY_S = 1800.0


@contextmanager
def opened(name: str, folder: str) -> Iterator[IO[bytes] | None]:
    """The folder of the image REPOSITORY@DIGEST, as `docker cp` gives it: a tar stream.

    Its names begin with the folder's last part. None: there is no such image here, or no engine
    answers. Raises CfError when Docker fails.
    """
    try:
        row = client.find("images", name, "json", timeout_s=_ANSWER_S)
    except DockerError:
        row = None
    if row is None:
        yield None
        return
    _remove_stale()
    # The command is never run; an image without any could not be created otherwise.
    made = cli.run(
        *("create", "--pull=never", "--network=none", f"--label={LABEL_COPY}", row["Id"], "none"),
        doing=f"open the local image {name}",
    )
    container = made.split()[-1]
    try:
        doing = f"copy {folder} out of the local image {name}"
        with cli.output("cp", f"{container}:{folder}", "-", doing=doing, timeout_s=_COPY_S) as tar:
            yield tar
    finally:
        with suppress(CfError):
            _remove(container)


def _remove_stale() -> None:
    """Remove the containers that a killed run of `cf` has left: older than any copy takes."""
    with suppress(DockerError):
        for row in client.get("containers", "json", all=True, filters={"label": [LABEL_COPY]}):
            if row["Created"] < time.time() - 2 * _COPY_S:
                _remove(row["Id"])


def _remove(container: str) -> None:
    cli.run("rm", "--force", "--volumes", container, doing="remove a container", check=False)
