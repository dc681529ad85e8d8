"""What `cf up --data` and the checks of existing data say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from unittest import mock

from compreface_cli import checks
from compreface_cli.checks import volume
from compreface_cli.checks.base import Finding, OwnedResources
from compreface_cli.config.settings import Settings, Value
from compreface_cli.deploy import existing_data, running
from compreface_cli.docker import belongings, client
from compreface_cli.facts import places, volume_image
from compreface_cli.facts.database import Collection, DatabaseFacts
from compreface_cli.facts.docker import Labelled
from compreface_cli.instance.records import Record, now
from compreface_cli.plan import data as existing
from compreface_cli.plan.data import Data
from compreface_cli.plan.plan import Plan
from compreface_cli.removal import rm
from compreface_cli.removal.things import Thing
from compreface_cli.terminal.output import Output
from tests.cli.fake_facts import FOLDER, STACK, container, docker, facts, plan

Case = Callable[[Path], object]

VOLUME = "compreface_postgres-data"
WHOLE = {**STACK, "postgres_user": "postgres", "postgres_db": "frs"}
DATA = Data(VOLUME, STACK["postgres_image"], "postgres", "frs")
FACES = Collection("People", 7, "Front door", "facenet.Calculator", 88000)
READ = DatabaseFacts(collections=(FACES,), written_by="11", server="11")
CALCULATORS = {"facenet": "facenet.Calculator", "mine": "facenet.Calculator@20180402-114759"}


def _data(seen: DatabaseFacts | None, data: Data = DATA, **engine: Any) -> Case:
    """What the check of the volume has against the embedded build on that data."""

    def case(_: Path) -> list[Finding]:
        here = {"volumes": (Labelled(VOLUME),), **engine}
        gathered = replace(facts(docker=docker(**here)), database=seen, calculators=CALCULATORS)
        wanted = existing.on(plan(stack=WHOLE), data, "postgres")
        rows = list(volume.check(wanted, gathered, OwnedResources(folder=FOLDER)))
        return [row for row in rows if row.level != "ok"] or rows

    return case


def _given(changes: Mapping[str, Any], **plan_changes: Any) -> Case:
    """The plan of `cf up` with these settings, `key=(value, layer)`."""

    def case(_: Path) -> Plan:
        values = {
            key: Value(value, layer, f"{layer} {key}") for key, (value, layer) in changes.items()
        }
        stack = {"postgres_host": "compreface-postgres-db", **WHOLE}
        wanted = plan(**{"stack": stack, **plan_changes})
        return existing_data.on_data(wanted, Settings(values), Output())

    return case


def _record(name: str, of: Plan) -> Record:
    return Record(
        name=name,
        build="embedded",
        calculator="embedded.Calculator@mobilefacenet192",
        services="full",
        phase="stopped",
        created=now(),
        plan=of.as_dict(),
    )


def _other_data(_: Path) -> None:
    with mock.patch.object(belongings, "volumes", return_value=["cf-embedded_postgres-data"]):
        existing_data._refuse_other_data(plan(), None, DATA)


def _shared(_: Path) -> None:
    lent = replace(DATA, volume="cf-old_postgres-data", instance="old")
    running.instances().save(_record("new", replace(plan(), data=lent)))
    thing = Thing("volume", lent.volume, None, lambda: None)
    rm._refuse_shared("old", [thing])


def _several(_: Path) -> None:
    user = container("compreface-postgres-db", volumes=(VOLUME,))
    here = docker(volumes=(Labelled(VOLUME),), containers=(user,))
    gathered = replace(facts(docker=here), database=READ, calculators=CALCULATORS)
    checks.raise_for(
        list(volume.check(existing.on(plan(stack=WHOLE), DATA), gathered, OwnedResources()))
    )


def _unknown(_: Path) -> object:
    with mock.patch.object(client, "find", return_value=None):
        return places.place_of("nothing")


def _no_database(_: Path) -> object:
    return places.of_record(_record("alone", plan()))


def _no_image(_: Path) -> None:
    with (
        mock.patch.object(volume_image, "fitting", return_value=""),
        places.Place(VOLUME).opened(),
    ):
        pass


CASES: Final[Mapping[str, Case]] = {
    "it fits": _data(replace(READ, collections=())),
    "another calculator, in a volume of upstream's": _data(READ),
    "another calculator, of another instance": _data(READ, replace(DATA, instance="old")),
    "another calculator, which no build has": _data(
        replace(READ, collections=(replace(FACES, calculator="custom.Calculator@own", faces=1),))
    ),
    "another PostgreSQL": _data(replace(READ, server="15")),
    "another password": _data(replace(READ, collections=(), roles={"postgres": "md5other"})),
    "another user": _data(replace(READ, collections=(), roles={"admin": "md5other"})),
    "another database": _data(
        DatabaseFacts('database "frs" does not exist', written_by="11", server="11")
    ),
    "it cannot be read": _data(DatabaseFacts("no answer within 90 s", written_by="11")),
    "no database": _data(DatabaseFacts(collections=())),
    "before CompreFace 0.6": _data(replace(READ, old=True)),
    "it was not read": _data(None),
    "it is gone": _data(None, volumes=()),
    "mounted, and of another calculator": _several,
    "an engine alone": _given({"data": ("old", "flag")}, services="core"),
    "a database elsewhere": _given(
        {"data": ("old", "flag"), "postgres_host": ("db.example.com", "environment")},
        stack={**WHOLE, "postgres_host": "db.example.com"},
    ),
    "an instance with data of its own": _other_data,
    "rm: another instance runs on it": _shared,
    "neither an instance nor a volume": _unknown,
    "an instance without a database": _no_database,
    "no image that can read it": _no_image,
}
