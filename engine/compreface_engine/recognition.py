"""How well two calculators tell the same people apart: `python -m compreface_engine recognition`.

It reads photographs from stdin, a line each, its four fields behind tabs: service, subject, and the
embedding of either calculator as `{0.1,0.2}`, at unit length. No network runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final

from compreface_engine.core.errors import EXIT_CONFIGURATION

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Embeddings = NDArray[np.float32]

BORDER: Final = 1000
"""One in so many pairs of two people is above the border of similarity."""
_MOST_NUMBERS: Final = 64 << 20  # 256 MB of float32
_ROWS: Final = 256  # compared with all others at once
_IMPOSTORS: Final = 4096  # photographs whose pairs the border is taken from: 8 million of them
_BINS: Final = 20_000  # of the cosine, -1..1
_NAMED: Final = 1000  # subjects that are named in the result


class Refused(Exception):
    """The input is not as described; the message says where."""


@dataclass
class Photographs:
    """Those of one service: a subject and two embeddings each."""

    subjects: list[str] = field(default_factory=list)
    before: list[Embeddings] = field(default_factory=list)
    after: list[Embeddings] = field(default_factory=list)


def main(arguments: Sequence[str], source: IO[str] | None = None) -> int:
    """The exit code: 0 success, 3 the input cannot be compared. Prints one JSON document."""
    options = _parser().parse_args(arguments)
    try:
        read = _read(sys.stdin if source is None else source)
        services = {
            name: compared(photographs, options.before, options.after)
            for name, photographs in read.items()
        }
    except Refused as error:
        print(json.dumps({"schema_version": 1, "error": {"message": str(error)}}))
        return EXIT_CONFIGURATION
    print(json.dumps({"schema_version": 1, "services": services}))
    return 0


def compared(
    photographs: Photographs, before: Sequence[float], after: Sequence[float]
) -> dict[str, Any]:
    """How often a photograph's most similar other one shows the same subject, before and after.

    Only subjects with two photographs or more count (`tested` photographs). `before` and `after`:
    the coefficients (c0, c1) of either calculator's similarity. A border is None for fewer than
    `BORDER` pairs of two people.
    """
    import numpy as np

    _, numbers, counts = np.unique(photographs.subjects, return_inverse=True, return_counts=True)
    tested = counts[numbers] >= 2
    first = _of(photographs.before, numbers, before)
    second = _of(photographs.after, numbers, after)
    had, has = (
        np.bincount(numbers, weights=tested & each.recognised, minlength=len(counts)).astype(int)
        for each in (first, second)
    )
    names = np.array(photographs.subjects)[np.unique(numbers, return_index=True)[1]]
    worse = np.flatnonzero(has < had)
    return {
        "photographs": len(numbers),
        "subjects": len(counts),
        "tested": int(tested.sum()),
        "tested_subjects": int((counts >= 2).sum()),
        "recognised_before": int(had.sum()),
        "recognised_after": int(has.sum()),
        "subjects_better": int((has > had).sum()),
        "subjects_worse": len(worse),
        "worse": {
            str(names[index]): [int(counts[index]), int(had[index]), int(has[index])]
            for index in worse[:_NAMED]
        },
        "border_before": first.border,
        "border_after": second.border,
    }


@dataclass(frozen=True)
class _Separation:
    recognised: NDArray[np.bool_]  # of each photograph
    border: float | None


def _of(
    rows: Sequence[Embeddings], subjects: NDArray[np.int64], coefficients: Sequence[float]
) -> _Separation:
    import numpy as np

    embeddings = np.stack(rows)
    recognised = np.zeros(len(embeddings), bool)
    histogram = np.zeros(_BINS, np.int64)
    for start in range(0, len(embeddings), _ROWS):
        chosen = slice(start, start + _ROWS)
        cosines = embeddings[chosen] @ embeddings.T
        if start < _IMPOSTORS:
            others = slice(0, _IMPOSTORS)
            pairs = subjects[chosen, None] != subjects[None, others]
            bins = (cosines[:, others][pairs] + 1) * (_BINS / 2)
            histogram += np.bincount(np.clip(bins, 0, _BINS - 1).astype(np.int64), minlength=_BINS)
        own = np.arange(len(cosines))
        cosines[own, own + start] = -np.inf
        recognised[chosen] = subjects[cosines.argmax(axis=1)] == subjects[chosen]
    return _Separation(recognised, _border(histogram, coefficients))


def _border(histogram: NDArray[np.int64], coefficients: Sequence[float]) -> float | None:
    """The similarity that one in `BORDER` of these pairs reaches."""
    import numpy as np

    total = int(histogram.sum())  # each pair is counted twice
    if total < 2 * BORDER:
        return None
    above = np.cumsum(histogram[::-1])
    bin_ = _BINS - 1 - int(np.searchsorted(above, total / BORDER))
    cosine = (bin_ + 0.5) / (_BINS / 2) - 1
    c0, c1 = coefficients
    distance = np.sqrt(max(0.0, 2 - 2 * cosine))
    return round(float((np.tanh((c0 - distance) * c1) + 1) / 2), 4)


def _read(lines: Iterable[str]) -> Mapping[str, Photographs]:
    """The photographs by service; raises Refused."""
    services: dict[str, Photographs] = {}
    lengths: tuple[int, int] | None = None
    total = 0
    for number, line in enumerate(lines, start=1):
        fields = line.rstrip("\n").split("\t")
        if len(fields) != 4:
            raise Refused(f"line {number} has {len(fields)} fields, not 4")
        before, after = (_numbers(text, number) for text in fields[2:])
        lengths = lengths or (len(before), len(after))
        if (len(before), len(after)) != lengths:
            raise Refused(f"line {number} has embeddings of another length")
        total += len(before) + len(after)
        if total > _MOST_NUMBERS:
            raise Refused(f"more than {_MOST_NUMBERS} numbers")
        service = services.setdefault(fields[0], Photographs())
        service.subjects.append(fields[1])
        service.before.append(before)
        service.after.append(after)
    return services


def _numbers(text: str, line: int) -> Embeddings:
    import numpy as np

    try:
        if text[:1] + text[-1:] != "{}":
            raise ValueError(text[:20])
        vector = np.array(text[1:-1].split(","), np.float32)
    except ValueError as error:
        raise Refused(f"line {line} has no embedding: {error}") from error
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length == 0:
        raise Refused(f"line {line} has an embedding without a length")
    return vector / np.float32(length)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m compreface_engine recognition",
        allow_abbrev=False,
        description="Reads photographs with the embeddings of two calculators from stdin and says "
        "how often either recognises a subject by its other photographs.",
    )
    for name in ("--before", "--after"):
        parser.add_argument(name, type=float, nargs=2, metavar=("C0", "C1"), required=True)
    return parser
