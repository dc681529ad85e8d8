"""Run by a Python that has helm-python-sdk: renders and checks charts, as JSON.

Reads [{"chart": folder, "release": name, "cases": [values, ...]}, ...] from the standard input;
writes for each {"cases": [{"files": {path: text}} or {"error": text}, ...], "lint": report}.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> None:
    json.dump([_tried(each) for each in json.load(sys.stdin)], sys.stdout)


def _tried(asked: dict[str, Any]) -> dict[str, Any]:
    import helm_python as helm

    chart = helm.Chart.load(asked["chart"])

    def answer(values: dict[str, Any]) -> dict[str, Any]:
        try:
            chart.validate_schema(values)
            return {"files": chart.render(values, name=asked["release"], namespace="default")}
        except helm.HelmError as error:
            return {"error": str(error)}

    lint = helm.lint(asked["chart"], {}, strict=True)
    return {"cases": [answer(each) for each in asked["cases"]], "lint": lint}


if __name__ == "__main__":
    main()
