"""Run by a Python that has kubernetes-validate: holds objects to the schemas of each release.

Reads {"objects": {name: object}} from the standard input; writes {"releases": [...], "faults":
[[release, name, text], ...]}. Kinds that Kubernetes itself lacks are no part of it.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    import kubernetes_validate as schemas

    objects = json.load(sys.stdin)["objects"]
    releases = [f"1.{minor}" for minor in range(25, 38)]
    faults = []
    for release in releases:
        for name, each in objects.items():
            try:
                schemas.validate(each, release, strict=True)
            except schemas.ValidationError as error:
                faults.append([release, name, f"{list(error.path)}: {error.message}"])
    json.dump({"releases": releases, "faults": faults}, sys.stdout)


if __name__ == "__main__":
    main()
