"""What PostgreSQL and `find` write, read; a look that fails is an error, never an empty one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compreface_cli.facts import database
from compreface_cli.facts.database import Collection, DatabaseFacts, DataFolder, Lock
from tests.cli.fake_docker import FakeDocker
from tests.cli.names import assert_named

ROW = (
    '{"demo": false, "faces": 3, "service": "P\\"x", "calculator": "one", "service_id": 7,'
    ' "application": null}'
)
FOUND = Collection('P"x', 7, "", "one", 3)


def test_a_look_tells_collections_lock_and_sessions() -> None:
    text = (
        "@login\n@found\n"
        '{"lock": {"since": "2026-11-30T08:00:00.000", "holder": "abc (1.2.3.4)"}}\n'
        f'{{"sessions": 2}}\n{{"old": false}}\n{{"collections": [{ROW}]}}\n@end\n'
    )
    lock = Lock("abc (1.2.3.4)", "2026-11-30T08:00:00.000")
    assert database.read(text) == DatabaseFacts("", "", (FOUND,), lock, 2, old=False)


def test_an_error_or_incomplete_answer_leaves_the_content_unknown() -> None:
    said = 'psql: error: FATAL:  database "frs" does not exist'
    found = database.read(f"@login\n{said}\n@found\n{said}\n@end\n")
    assert (found.login, found.error, found.collections) == (said, said, None)
    assert database.read("@login\n@found\n").error
    assert database.read("sh: 1: psql: not found\n").error == "sh: 1: psql: not found"
    assert database.read("@login\n@found\n@end\n").error
    odd = database.read('@login\n@found\n{"collections": [{"service": 1}]}\n@end\n')
    assert odd.error
    assert odd.collections is None
    assert database.read('@found\n7\n{"collections": []}\n@end\n').collections == ()


def test_postgresql_alone_is_read_too() -> None:
    value = '\t 1: found = "{}"\t(typeid = 3802, len = -1, typmod = -1, byval = f)\n'
    text = value.format('{"old": true}') + value.format(f'{{"collections": [{ROW}]}}') + "@end\n"
    found = database.read_single(text)
    assert (found.collections, found.old, found.login) == ((FOUND,), True, None)
    none = 'ERROR:  relation "public.embedding" does not exist at character 9\n'
    assert database.read_single(none + "@end\n").collections == ()
    failed = database.read_single('FATAL:  database "frs" does not exist\n@end\n')
    assert (failed.collections, failed.error) == (None, 'database "frs" does not exist')
    assert database.read_single("sh: postgres: not found\n").error == "sh: postgres: not found"


def test_a_list_of_files_counts_only_when_it_is_whole() -> None:
    text = "@version\n@open\n@large\n./base/5/2613\n@files\n./b\n./a\n@end\n"
    assert database.read_folder(text) == DataFolder("", True, True, ("a", "b"), True)
    empty = database.read_folder("@large\n@files\n@end\n")
    assert empty == DataFolder()
    assert database.read_folder("@files\n./a\n").error == "./a"
    assert database.read_folder("@files\n").error


def test_a_docker_that_fails_hangs_or_is_not_there_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeDocker(tmp_path / "fake")
    monkeypatch.setenv("PATH", fake.path)
    fake.answers("exec", err="Error: No such container: db\n", code=1)
    assert database.look("db") == DatabaseFacts("Error: No such container: db")
    assert database.folder_in("db").error == "Error: No such container: db"
    fake.answers("run", err="no such image\n", code=125)
    assert database.folder_of("volume", "image").error == "no such image"
    assert database.at_rest("volume", "image", "frs").error == "no such image"
    fake.answers("exec", code=3)
    assert "exit code 3" in database.free_lock("db", Lock("a", ""))
    fake.answers("exec", seconds=20)
    assert_named(database.look("db", timeout_s=0.5).error, "0.5 s")
    monkeypatch.setenv("PATH", os.devnull)
    assert "docker" in database.look("db").error
