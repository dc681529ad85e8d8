"""`python -m bench.scaling`: the tables of docs/scaling.md; `measure` takes new figures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from bench.scaling import measure, page


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables, or writes them; or measures one, two and four engines anew."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the tables into the page")
    of_measure = parser.add_subparsers(dest="what").add_parser("measure", help=measure.__doc__)
    measure.add_to(of_measure)
    options = parser.parse_args(arguments)
    if options.what == "measure":
        document = measure.measure(options)
        if options.out:
            options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        return 0
    if options.write:
        page.PAGE.write_text(page.text(), encoding="utf-8")
        return 0
    for name, lines in page.tables().items():
        print(f"{name}\n" + "\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
