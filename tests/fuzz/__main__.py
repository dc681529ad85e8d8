"""`python -m tests.fuzz TARGET [libFuzzer flags]`: coverage-guided, with atheris (`make fuzz`).

New inputs go to `.cache/fuzz/TARGET`; one that causes an unexpected error is kept as `crash-...`.

`-merge=1 tests/fuzz/corpus/TARGET .cache/fuzz/TARGET` keeps those that reach new code.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["compreface_engine", "PIL"]):
    from tests.fuzz.targets import TARGETS

HERE = Path(__file__).resolve().parent


def main() -> None:
    name = sys.argv[1]
    new = HERE.parent.parent / ".cache" / "fuzz" / name
    new.mkdir(parents=True, exist_ok=True)
    flags = sys.argv[2:]
    if not any(not flag.startswith("-") for flag in flags):
        flags += [str(new), str(HERE / "corpus" / name)]
    prefix = f"-artifact_prefix={new.parent}/{name}-"
    atheris.Setup([sys.argv[0], "-max_len=8192", "-timeout=20", prefix, *flags], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
