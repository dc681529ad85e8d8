"""What programs write when they fail is told apart by who wrote it."""

from __future__ import annotations

import pytest

from compreface_cli import causes
from compreface_cli.errors import CfError, ConflictError, DockerError, FetchError


@pytest.mark.parametrize(
    ("writer", "text", "error", "word"),
    [
        ("docker", "write /x: no space left on device", DockerError, "disk"),
        ("pip", "ERROR: [Errno 28] No space left on device", CfError, "disk"),
        ("docker", "listen tcp4: bind: address already in use", ConflictError, "port"),
        ("docker", "THESE PACKAGES DO NOT MATCH THE HASHES", FetchError, "hash"),
        ("pip", "THESE PACKAGES DO NOT MATCH THE HASHES", FetchError, "hash"),
        ("docker", "no answer within 5 s from the Docker daemon", DockerError, "answering"),
    ],
)
def test_the_cause_is_named(
    writer: causes.Writer, text: str, error: type[CfError], word: str
) -> None:
    cause = causes.of(writer, text)
    assert cause is not None
    assert cause.error is error
    assert word in cause.what


def test_package_names_with_cuda_are_not_taken_for_a_gpu_failure() -> None:
    assert causes.of("docker", "Collecting nvidia-cuda-runtime") is None
    assert causes.of("pip", "Collecting nvidia-cuda-runtime") is None


def test_an_exit_code_is_explained_where_its_meaning_is_known() -> None:
    assert causes.exit_code(3) == "exit code 3"
    assert causes.exit_code(139) == "exit code 139: a segmentation fault"
