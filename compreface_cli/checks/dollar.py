"""Passwords: `$` in upstream's `.env`, where Compose puts a variable in its place."""

from __future__ import annotations

import re
from collections.abc import Iterator

from compreface_cli.checks.base import Finding, OwnedResources, warn
from compreface_cli.config.settings import LITERAL
from compreface_cli.facts import Facts
from compreface_cli.plan.plan import Plan
from compreface_cli.topics import Topic

NAME = "password"
# What Compose replaces in a value of `.env`: $NAME, ${NAME}, ${NAME:-default}; `$$` is a dollar.
_REPLACED = re.compile(r"\$(?:[A-Za-z_]|\{|\$)")

DOLLAR = Topic(
    "password-dollar",
    means="A password in upstream's `.env` contains `$`, and is not in single quotes.",
    why="Compose takes what follows for the name of a variable and leaves it out, so that the "
    "database was created with another password than the file shows: `pa$word` became `pa`.",
    see="`docker compose config | grep POSTGRES_PASSWORD` in upstream's folder, which shows `$` as "
    "`$$`.",
    ways=(
        "Give `cf` the password that `docker compose config` shows: CF_POSTGRES_PASSWORD=...",
        "For a new database, put the value into single quotes. `cf` writes its own `.env` so.",
    ),
)


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    for key, value in plan.secrets.items():
        origin = plan.origins.get(key, "")
        read = origin.startswith("env file") and not origin.endswith(LITERAL)
        if read and _REPLACED.search(value):
            yield warn(
                NAME,
                f"{key} ({origin}) contains `$`: Compose may have given upstream's services "
                "another one, with the name after `$` replaced",
                "If the login fails: docker compose config shows the one that was used; give it "
                f"as CF_{key.upper()}",
                topic=DOLLAR,
            )
