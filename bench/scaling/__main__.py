"""`python -m bench.scaling`: the simulation beside the measurements; `measure` takes new ones."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from bench.scaling import measure, recorded


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables of docs/scaling.md, or measures one, two and four engines anew."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    of_measure = parser.add_subparsers(dest="what").add_parser("measure", help=measure.__doc__)
    measure.add_to(of_measure)
    options = parser.parse_args(arguments)
    if options.what == "measure":
        document = measure.measure(options)
        if options.out:
            options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        return 0
    print("\n".join(recorded.table(recorded.beside(recorded.read()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
