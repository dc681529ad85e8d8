"""Existing data that a plan runs on: a volume, with the PostgreSQL that wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compreface_cli.plan.plan import Plan


@dataclass(frozen=True, slots=True)
class Data:
    """A volume with a database of CompreFace, which the instance uses and does not own.

    The project declares it `external`, so that neither `docker compose down --volumes` nor
    `cf down --volumes` removes it.
    """

    volume: str
    image: str = ""  # of its PostgreSQL; "": that of the settings
    user: str = "postgres"
    database: str = "frs"
    instance: str = ""  # the instance that it was made for; "": it was not made by cf


def of_record(plan: Mapping[str, Any]) -> Data | None:
    """The data in the plan of an instance's record; None if it has a volume of its own."""
    known = plan.get("data")
    return Data(**known) if known else None


def on(plan: Plan, data: Data, password: str = "") -> Plan:
    """The plan on that volume: with its PostgreSQL, user and database where no setting names one.

    `password`: of its database, unless the settings have one.
    """
    stack, origins, secrets = dict(plan.stack), dict(plan.origins), dict(plan.secrets)

    def given(*keys: str) -> bool:
        return any(plan.origins.get(key, "default") != "default" for key in keys)

    for key, value, others in (
        ("postgres_image", data.image, ("postgres_version",)),
        ("postgres_user", data.user, ()),
        ("postgres_db", data.database, ()),
    ):
        if value and not given(key, *others):
            stack[key], origins[key] = value, f"volume {data.volume}"
    if password:
        secrets.setdefault("postgres_password", password)
    return replace(plan, data=data, stack=stack, origins=origins, secrets=secrets)
