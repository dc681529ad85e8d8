"""The versions of an instance's stack: which an upgrade chooses, which its record remembers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from compreface_cli.config import settings
from compreface_cli.data import upgrade
from compreface_cli.deploy import versions
from compreface_cli.instance import history
from compreface_cli.instance.history import Versions
from compreface_cli.instance.records import Record
from tests.cli.fake_facts import plan

SERVICES = ("admin", "api", "fe", "postgres-db")
RECORD = Record("mine", "embedded", "x", "full", "running", "2026-01-01T00:00:00+00:00")


def images(tag: str, registry: str = "exadel/", **other: str) -> dict[str, str]:
    named = {each.removesuffix("-db"): f"{registry}compreface-{each}:{tag}" for each in SERVICES}
    return {**named, **other}


@pytest.mark.parametrize(
    ("now", "environ", "to", "after"),
    [
        (images("1.1.0"), {}, None, images("1.2.0", postgres=images("1.1.0")["postgres"])),
        (images("1.2.0"), {}, None, images("1.2.0")),
        (images("1.3.0"), {}, None, images("1.3.0")),
        (images("mine"), {}, None, images("mine")),
        (images("1.2.0"), {}, "1.3.0", images("1.3.0", postgres=images("1.2.0")["postgres"])),
        (
            images("1.2.0", "host:5000/x/"),
            {"CF_API_VERSION": "1.4.0"},
            None,
            images("1.2.0", "host:5000/x/", api="exadel/compreface-api:1.4.0"),
        ),
        (
            images("1.2.0"),
            {"CF_ADMIN_IMAGE": "my/admin:7", "CF_POSTGRES_VERSION": "1.2.1"},
            "1.3.0",
            images("1.3.0", admin="my/admin:7", postgres="exadel/compreface-postgres-db:1.2.1"),
        ),
        (
            images("1.2.0", api="exadel/compreface-api:1.2.0@sha256:0a"),
            {},
            "1.3.0",
            images("1.3.0", postgres=images("1.2.0")["postgres"]),
        ),
    ],
)
def test_an_upgrade_takes_what_is_named_then_what_is_set_then_what_is_newest(
    now: dict[str, str], environ: dict[str, str], to: str | None, after: dict[str, str]
) -> None:
    given = settings.resolve({}, environ=environ)
    assert upgrade.chosen_images(now, given, "exadel/", to) == after


def test_a_start_keeps_the_images_that_an_upgrade_has_chosen() -> None:
    pinned = {f"{service}_image": name for service, name in images("1.3.0").items()}
    record = replace(RECORD, images=pinned)

    def admin(**changes: Any) -> str:
        return versions.settled(plan(**changes), record).stack["admin_image"]

    assert admin() == "exadel/compreface-admin:1.3.0"
    assert versions.settled(plan(), record).stack["admin_version"] == "1.3.0"
    assert admin(services="core") == "exadel/compreface-admin:1.2.0"
    for key in ("admin_version", "admin_image"):
        assert admin(origins={key: "environment"}) == "exadel/compreface-admin:1.2.0"
    other = {"origins": {"registry": "environment"}}
    assert admin(**other, stack={**plan().stack, "registry": "mine/"}).endswith(":1.2.0")
    assert versions.settled(plan(), RECORD) == plan()


def ran(number: int, *schema: str) -> Versions:
    ids = {"admin": f"sha256:{number}", "core": "sha256:c"}
    return Versions("2026-01-01", "0.1", {"admin": f"admin:{number}"}, ids, schema=schema)


def test_the_history_has_each_version_once_in_a_row() -> None:
    record = history.with_present(RECORD, ran(1, "a"))
    record = history.with_present(record, replace(ran(1, "a", "b"), since="2026-02-02"))
    assert history.of(record) == [ran(1, "a", "b")]
    record = history.with_present(history.with_backup(record, "/one.cfbackup"), ran(2, "a", "c"))
    assert [(each.ids["admin"], each.backup) for each in history.of(record)] == [
        ("sha256:1", "/one.cfbackup"),
        ("sha256:2", ""),
    ]
    for number in range(3, 30):
        record = history.with_present(record, ran(number))
    assert len(history.of(record)) == history.KEPT
    assert history.with_backup(RECORD, "/x") == RECORD


def test_what_an_admin_knows_is_what_all_its_databases_had() -> None:
    first = history.with_present(RECORD, ran(1, "a", "b"))
    second = history.with_present(RECORD, ran(1, "a", "c"))
    assert history.recorded([first, second], "sha256:1") == frozenset("a")
    assert history.recorded([first], "sha256:2") is None
    assert history.recorded([first], "") is None
