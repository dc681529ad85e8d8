"""Errors carry the contract's whole text."""

from __future__ import annotations

import pytest

from compreface_engine.core.errors import (
    BrokenImage,
    NoFaceFound,
    TooManyPixels,
    TruncatedHeader,
    is_out_of_memory,
)


def test_refusals_of_the_contract_have_its_exact_texts() -> None:
    assert str(BrokenImage()) == "400 Bad Request: Image has incorrect format or is broken"
    assert str(NoFaceFound()) == "400 Bad Request: No face is found in the given image"


def test_what_the_original_answered_with_500_is_422_and_says_why() -> None:
    error = TooManyPixels(400_000_000, 178_956_970)
    assert error.status == TruncatedHeader().status == 422
    assert str(error) == (
        "422 Unprocessable Entity: Image size (400000000 pixels) exceeds limit of 178956970 pixels"
    )
    assert "ends inside its header" in str(TruncatedHeader())


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
def test_what_means_that_there_is_no_memory_is_known(error: Exception) -> None:
    assert is_out_of_memory(error)
    outer = ValueError("the detector failed")
    outer.__cause__ = error
    assert is_out_of_memory(outer)


def test_other_faults_are_no_shortage() -> None:
    error = ValueError("no memory of this")
    error.__context__ = error.__cause__ = KeyError("x")
    assert not is_out_of_memory(error)
