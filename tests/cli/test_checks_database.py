"""What a look at a database means: never taken for empty when it is not, and the way back."""

from __future__ import annotations

import pytest

from compreface_cli.checks import database
from compreface_cli.facts.database import Collection, DatabaseFacts, DataFolder, Lock
from tests.cli.names import assert_named

OURS, THEIRS = "embedded.Calculator@mobilefacenet192", "facenet.Calculator"
PLACE = database.Place("x", "cf-x-compreface-postgres-db-1")
VOLUME = "cf-x_postgres-data"
FRESH = ("PG_VERSION", "base/1/2619", "base/5/2619_fsm", "global/pg_control", "pg_hba.conf")


def of(
    calculator: str, faces: int = 3, *, service: int = 7, name: str = "People", demo: bool = False
) -> Collection:
    return Collection(name, service, "Front door", calculator, faces, demo)


def seen(*collections: Collection, **more: object) -> DatabaseFacts:
    return DatabaseFacts(collections=collections, **more)  # type: ignore[arg-type]


def folder(*more: str, **changes: bool | str) -> DataFolder:
    rest: dict[str, bool | str] = {"version": True, "open": True, **changes}
    return DataFolder(files=(*FRESH, *more), **rest)  # type: ignore[arg-type]


def test_two_notations_of_one_model_are_one_calculator() -> None:
    old, demo = of("facenet.Calculator@20180402-114759"), of("Facenet2018", demo=True)
    assert database.takes(seen(old, demo), THEIRS) is True
    assert not database.foreign(seen(old, demo), THEIRS)
    assert not list(database.collections(PLACE, seen(old), THEIRS))
    assert database.takes(seen(of(OURS), demo), THEIRS) is False, "the demo's faces do not count"


def test_a_folder_as_initdb_leaves_it_has_no_data() -> None:
    assert database.holds_nothing(folder())
    assert database.holds_nothing(folder("base/16384/112", "postmaster.pid", "pg_wal/000000010"))
    assert database.holds_nothing(DataFolder())


@pytest.mark.parametrize(
    "doubt",
    [
        folder("base/5/16384"),  # a table, in whichever database
        folder("base/16384/16390"),
        folder("base/16384/24576_vm"),
        folder("base/16384/t3_16400"),
        folder("pg_tblspc/16390"),
        folder("pg_twophase/00000001"),
        folder("backup_label"),
        folder("standby.signal"),
        folder("15/PG_VERSION"),  # a data folder below this one
        folder("notes.txt"),
        folder(large=True),
        folder(error="no answer within 60 s"),
    ],
)
def test_a_folder_with_other_files_may_have_data(doubt: DataFolder) -> None:
    assert not database.holds_nothing(doubt)
    assert database.cut(doubt, DatabaseFacts('FATAL:  database "frs" does not exist')) == ""


def test_each_interrupted_stage_of_the_initialisation_is_recognised() -> None:
    absent = DatabaseFacts(error='FATAL:  database "frs" does not exist')
    stages = {
        database.cut(folder(version=False, open=False)),
        database.cut(folder(open=False)),
        database.cut(folder(), absent),
    }
    assert len(stages - {""}) == 3
    assert database.cut(folder(), DatabaseFacts(error="no answer within 10 s")) == ""
    assert database.cut(folder()) == ""
    assert database.cut(DataFolder()) == "", "an empty volume is initialised by its image"


@pytest.mark.parametrize(
    ("said", "named", "way_out"),
    [
        ('password authentication failed for user "postgres"', VOLUME, "CF_POSTGRES_PASSWORD"),
        ('role "other" does not exist', "other", "CF_POSTGRES_USER"),
        ('database "frs" does not exist', '"frs"', "CF_POSTGRES_DB"),
        ('no pg_hba.conf entry for host "172.18.0.2"', "172.18.0.2", "pg_hba.conf"),
    ],
)
def test_a_refused_login_names_the_setting(said: str, named: str, way_out: str) -> None:
    facts = DatabaseFacts(login=f"psql: error: connection failed: FATAL:  {said}")
    found = database.login(VOLUME, facts)
    assert found is not None
    assert (found.level, found.code) == ("fail", 4)
    assert_named(found.message, VOLUME, named)
    assert_named(found.hint, way_out)
    assert "docker volume rm" not in found.hint
    empty = database.login(VOLUME, facts, nothing=True)
    assert empty is not None
    assert f"docker volume rm {VOLUME}" in empty.hint


@pytest.mark.parametrize("said", [None, "", "FATAL:  the database system is starting up"])
def test_a_login_that_may_still_succeed_is_no_finding(said: str | None) -> None:
    assert database.login(VOLUME, DatabaseFacts(login=said)) is None


def test_an_empty_database_takes_any_calculator_and_another_one_refuses_it() -> None:
    demo = of("Facenet2018", 20, demo=True)
    assert database.takes(seen(), OURS) is True
    assert database.takes(seen(demo), OURS) is True
    assert database.takes(seen(demo, of(OURS)), OURS) is True
    assert database.takes(seen(demo, of(THEIRS)), OURS) is False
    assert database.takes(seen(of(THEIRS), of(OURS)), OURS) is True
    assert database.takes(DatabaseFacts(error="no answer"), OURS) is None
    assert database.takes(seen(old=True), OURS) is None
    refused = database.refused(VOLUME, seen(demo, of(THEIRS), of("Facenet2018", 1)), OURS)
    assert refused.code == 5
    assert_named(refused.message, f"3 faces of {THEIRS}", "People", "Front door")
    assert_named(refused.message, "1 face of Facenet2018", OURS)
    assert "--instance" in refused.hint


def test_a_mixed_collection_comes_with_the_command_that_heals_it() -> None:
    odd = of("it's $(rm)", 1)
    (found,) = database.collections(PLACE, seen(of(OURS), of(THEIRS, 1), odd), OURS)
    assert found.code == 5
    assert_named(found.message, f"3 faces of {OURS}", f"1 face of {THEIRS}")
    assert_named(found.hint, "cf data repair x")


def test_a_collection_of_another_calculator_alone_has_its_own_remedy() -> None:
    other = of(THEIRS, service=8, name="Doors")
    (found,) = database.collections(PLACE, seen(of(OURS), other), OURS)
    assert_named(found.message, "Doors", "Front door", OURS)
    assert "psql" not in found.hint


def test_the_demo_is_named_only_when_faces_were_added_to_it() -> None:
    demo = of("Facenet2018", 20, demo=True)
    assert list(database.collections(PLACE, seen(demo), OURS)) == []
    (found,) = database.collections(PLACE, seen(demo, of(OURS, 1)), OURS)
    assert_named(found.hint, "demo")
    assert "cf data repair" not in found.hint


def test_the_doctor_has_a_row_for_each_database() -> None:
    (well,) = database.judge(
        PLACE, seen(of(OURS), of("Facenet2018", 20, service=1, demo=True)), OURS
    )
    assert well.level == "ok"
    assert_named(well.message, "database of x", "3 faces", OURS)
    (unknown,) = database.judge(PLACE, DatabaseFacts(error="no answer within 10 s"), OURS)
    assert unknown.level == "warn"
    assert_named(unknown.message, "no answer within 10 s")
    (silent,) = database.judge(PLACE, DatabaseFacts(), OURS)
    assert silent.level == "warn"
    lock = Lock("0123456789ab (172.18.0.3)", "2026-11-30T08:00:00.000")
    (locked,) = database.judge(PLACE, seen(lock=lock, sessions=0), OURS)
    assert (locked.level, locked.code) == ("fail", 8)
    assert "0123456789ab" in locked.message
    assert "cf restart x --all" in locked.hint
    assert database.judge(PLACE, seen(lock=lock, sessions=2), OURS)[0].level == "ok"
    nameless = Collection("People", 7, "", THEIRS, 1)
    (row,) = database.judge(PLACE, seen(nameless), OURS)
    assert_named(row.message, "x", "People")
    assert '""' not in row.message
