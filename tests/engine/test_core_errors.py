"""Errors have the contract's statuses and texts."""

from __future__ import annotations

import pytest

from compreface_engine.core.errors import (
    BrokenImage,
    NoFaceFound,
    TooManyPixels,
    TruncatedHeader,
    is_out_of_memory,
)


def test_errors_of_the_contract_have_its_exact_texts() -> None:
    assert str(BrokenImage()) == "400 Bad Request: Image has incorrect format or is broken"
    assert str(NoFaceFound()) == "400 Bad Request: No face is found in the given image"


def test_mistakes_that_the_original_answered_with_500_are_422() -> None:
    error = TooManyPixels(400_000_000, 178_956_970)
    assert error.status == TruncatedHeader().status == 422
    assert (error.pixels, error.limit) == (400_000_000, 178_956_970)
    assert str(error).startswith("422 Unprocessable Entity: ")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Conv node. std::bad_alloc"),
        RuntimeError("Failed to allocate memory for requested buffer of size 12345"),
        RuntimeError("can't start new thread"),
        OSError(12, "Cannot allocate memory"),
        ValueError("(-4:Insufficient memory) Failed to allocate 123 bytes"),
    ],
)
def test_out_of_memory_errors_are_recognised(error: Exception) -> None:
    assert is_out_of_memory(error)
    outer = ValueError("the detector failed")
    outer.__cause__ = error
    assert is_out_of_memory(outer)


def test_other_errors_are_not_out_of_memory() -> None:
    error = ValueError("no memory of this")
    error.__context__ = error.__cause__ = KeyError("x")
    assert not is_out_of_memory(error)
