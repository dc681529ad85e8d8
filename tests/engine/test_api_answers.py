"""JSON bytes equal those of Python's own printer, whatever the numbers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compreface_engine.api.answers import Answer, to_json

KEYS = st.text("abc_", min_size=1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
FLOATS32 = st.floats(allow_nan=False, allow_infinity=False, width=32)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FLOATS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


def printed(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"


@given(st.dictionaries(KEYS, DOCUMENTS))
def test_documents_are_printed_as_by_python(value: dict[str, Any]) -> None:
    assert to_json(value) == printed(value)


@given(st.lists(FLOATS32))
def test_float32_vectors_are_widened_and_printed_as_by_python(values: list[float]) -> None:
    vector = np.array(values, np.float32)
    assert to_json({"embedding": vector}) == printed({"embedding": vector.astype(float).tolist()})


@given(st.floats(1e-12, 1e-3))
def test_small_numbers_have_pythons_exponents(value: float) -> None:
    vector = np.array([0.5, value, -value, 0.0])
    assert to_json(vector) == printed(vector.tolist())


def test_other_arrays_are_lists_of_their_values() -> None:
    assert to_json(np.array([[1, 2], [3, 4]])) == b"[[1,2],[3,4]]\n"


def test_headers_have_the_originals_order_followed_by_new_ones() -> None:
    names = [name for name, _ in Answer(200, b"{}").start(b"1")["headers"]]
    assert names == [b"content-type", b"content-length", b"cache-control", b"x-request-id"]
