"""Errors carry the contract's whole text."""

from __future__ import annotations

from compreface_engine.core.errors import (
    BrokenImage,
    NoFaceFound,
    TooManyPixels,
    TruncatedHeader,
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
