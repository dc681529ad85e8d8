"""Run by a Python that has helm-python-sdk: renders and checks a chart, as JSON.

Reads {"chart": folder, "release": name, "cases": [values, ...]} from the standard input; writes for
each case {"files": {path: text}} or {"error": text}.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> None:
    import helm_python as helm

    asked = json.load(sys.stdin)
    chart = helm.Chart.load(asked["chart"])

    def answer(values: dict[str, Any]) -> dict[str, Any]:
        try:
            chart.validate_schema(values)
            return {"files": chart.render(values, name=asked["release"], namespace="default")}
        except helm.HelmError as error:
            return {"error": str(error)}

    lint = helm.lint(asked["chart"], asked.get("lint", {}), strict=True)
    json.dump({"cases": [answer(each) for each in asked["cases"]], "lint": lint}, sys.stdout)


if __name__ == "__main__":
    main()
