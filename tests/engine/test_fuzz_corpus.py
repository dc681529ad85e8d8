"""Replays the fuzzing corpus through every target, unchanged and with random changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).resolve().parent.parent / "fuzz" / "corpus"
KEPT = {name: sorted((CORPUS / name).iterdir()) for name in TARGETS}
EVERY = [(name, path) for name, paths in KEPT.items() for path in paths]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


@pytest.mark.parametrize(("name", "path"), EVERY, ids=lambda value: getattr(value, "name", value))
def test_an_input_of_the_corpus_is_answered_or_refused(name: str, path: Path) -> None:
    TARGETS[name](path.read_bytes())


@st.composite
def changed(draw: st.DrawFn, name: str) -> bytes:
    """A kept input with a few bytes overwritten, cut out or doubled."""
    data = bytearray(draw(st.sampled_from(KEPT[name])).read_bytes())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        piece = draw(st.binary(min_size=1, max_size=4))
        how = draw(st.sampled_from(("write", "insert", "cut")))
        if how == "cut":
            del data[at : at + draw(st.integers(1, 40))]
        else:
            data[at : at + (len(piece) if how == "write" else 0)] = piece
    return bytes(data)


@settings(max_examples=300, deadline=None)
@given(changed("decode"))
def test_a_damaged_picture_is_answered_or_refused(data: bytes) -> None:
    TARGETS["decode"](data)


@settings(max_examples=300, deadline=None)
@given(changed("body"))
def test_a_damaged_body_is_answered_or_refused(data: bytes) -> None:
    TARGETS["body"](data)


def test_the_fuzz_targets_detect_an_unexpected_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(data: bytes, **limits: object) -> None:
        raise KeyError("a decoder's own error")

    monkeypatch.setattr("tests.fuzz.targets.decode", fails)
    target: Callable[[bytes], None] = TARGETS["decode"]
    with pytest.raises(KeyError):
        target(b"anything")
