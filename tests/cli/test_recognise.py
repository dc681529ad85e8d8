"""An install of upstream's becomes settings of cf, or is refused with the reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from compreface_cli.data import recognise
from compreface_cli.errors import ConfigurationError
from compreface_cli.facts.upstream import ADMIN, API, CORE, DATABASE, UI, Install, Member, Port

LOGIN = {"POSTGRES_USER": "postgres", "POSTGRES_PASSWORD": "right"}
URL = {"POSTGRES_URL": "jdbc:postgresql://compreface-postgres-db:5432/frs"}


def install(core: str = "exadel/compreface-core:1.2.0", **environment: str) -> Install:
    members = (
        Member(
            DATABASE,
            "exadel/compreface-postgres-db:1.2.0",
            {**LOGIN, "POSTGRES_PASSWORD": "later", "POSTGRES_DB": "frs"},
            name="compreface-postgres-db",
        ),
        Member(ADMIN, "exadel/compreface-admin:1.1.0", {**LOGIN, **URL}),
        Member(
            API,
            "exadel/compreface-api:1.2.0",
            {
                **LOGIN,
                **URL,
                "API_JAVA_OPTS": "-Xmx8g",
                "SAVE_IMAGES_TO_DB": "false",
                "MAX_FILE_SIZE": "5MB",
            },
        ),
        Member(UI, "exadel/compreface-fe:1.2.0", ports=(Port("", 8000, 80),)),
        Member(CORE, core, {"UWSGI_PROCESSES": "2", "UWSGI_THREADS": "3", **environment}),
    )
    by_name = {member.service: member for member in members}
    return Install("compreface", "/srv/compreface", "compreface_postgres-data", by_name)


def with_member(of: Install, **changes: Member) -> Install:
    return replace(of, members={**of.members, **changes})


def test_settings_and_passwords_are_kept() -> None:
    values, secrets, notes = recognise.settings_of(install())
    assert values == {
        "services": "full",
        "launcher": "compose",
        "core_port": "auto",
        "bind": "0.0.0.0",
        "port": 8000,
        "postgres_user": "postgres",
        "postgres_db": "frs",
        "postgres_image": "exadel/compreface-postgres-db:1.2.0",
        "admin_image": "exadel/compreface-admin:1.1.0",
        "api_image": "exadel/compreface-api:1.2.0",
        "fe_image": "exadel/compreface-fe:1.2.0",
        "max_file_size": "5M",
        "api_java_options": "-Xmx8g",
        "save_images_to_db": "false",
        "max_concurrency": 6,
    }
    assert secrets == {"postgres_password": "right"}, "the api's, which it logs in with"
    assert notes == []


@pytest.mark.parametrize(
    ("image", "build"),
    [
        ("exadel/compreface-core:1.2.0", "facenet"),
        ("exadel/compreface-core:latest", "facenet"),
        ("exadel/compreface-core", "facenet"),
        ("mirror.example:5000/exadel/compreface-core:1.1.0-facenet", "facenet"),
        ("exadel/compreface-core:1.2.0-mobilenet", "mobilenet"),
        ("exadel/compreface-core:1.2.0-mobilenet-gpu", "mobilenet-gpu"),
        ("exadel/compreface-core:1.2.0-arcface-r100", "arcface-r100"),
        ("exadel/compreface-core:1.2.0-arcface-r100-gpu", "arcface-r100-gpu"),
    ],
)
def test_the_tag_of_the_engine_tells_the_build(image: str, build: str) -> None:
    assert recognise.build_of(install(image), {}) == (build, f"the engine's image is {image}")


@pytest.mark.parametrize(
    ("calculator", "gpu", "build"),
    [
        ("insightface.Calculator@arcface_mobilefacenet", "-1", "mobilenet"),
        ("insightface.Calculator@arcface_mobilefacenet", "0", "mobilenet-gpu"),
        ("insightface.Calculator@arcface-r100-msfdrop75", "-1", "arcface-r100"),
        ("facenet.Calculator@20180402-114759", "-1", "facenet"),
    ],
)
def test_the_plugins_tell_the_build_of_another_image(calculator: str, gpu: str, build: str) -> None:
    detector = "insightface.FaceDetector@retinaface_mnet025_v1"
    own = {"CALCULATION_PLUGIN": calculator, "FACE_DETECTION_PLUGIN": detector, "GPU_IDX": gpu}
    assert recognise.build_of(install("our/engine:7", **own), {})[0] == build


def test_the_stored_faces_tell_the_build_of_a_volume_alone() -> None:
    alone = Install("old", "", "old_postgres-data")
    faces = {"strange.Calculator": 1, "insightface.Calculator@arcface_mobilefacenet": 3}
    assert recognise.build_of(alone, faces)[0].startswith("mobilenet")
    with pytest.raises(ConfigurationError) as refused:
        recognise.build_of(alone, {"strange.Calculator": 1})
    assert "--build" in str(refused.value.hint)
    assert "strange.Calculator" in refused.value.message


def test_a_volume_alone_gets_upstreams_defaults() -> None:
    values, secrets, _ = recognise.settings_of(Install("old", "", "old_postgres-data"))
    assert (values["bind"], values["port"], secrets) == (
        "0.0.0.0",
        8000,
        {"postgres_password": "postgres"},
    )


@pytest.mark.parametrize("url", ["jdbc:postgresql://db.example:5432/frs", "jdbc:mysql://x/frs"])
def test_a_database_elsewhere_is_refused(url: str) -> None:
    api = Member(API, "exadel/compreface-api:1.2.0", {**LOGIN, "POSTGRES_URL": url})
    with pytest.raises(ConfigurationError) as refused:
        recognise.settings_of(with_member(install(), **{API: api}))
    assert refused.value.details["service"] == API


def test_a_value_that_no_setting_has_is_refused_without_a_secret() -> None:
    core = Member(CORE, "x", {"IMG_LENGTH_LIMIT": "many"})
    with pytest.raises(ConfigurationError) as refused:
        recognise.settings_of(with_member(install(), **{CORE: core}))
    assert "IMG_LENGTH_LIMIT" in refused.value.message
    secret = Member(API, "x", {**URL, "POSTGRES_PASSWORD": "two\nlines"})
    with pytest.raises(ConfigurationError) as refused:
        recognise.settings_of(with_member(install(), **{API: secret}))
    assert "lines" not in refused.value.message


@pytest.mark.parametrize(
    ("ports", "bind", "port"),
    [
        ((Port("127.0.0.1", 80, 80),), "127.0.0.1", 80),
        ((Port("::", 9000, 80), Port("0.0.0.0", 9000, 80)), "0.0.0.0", 9000),
        ((Port("::1", 9000, 80),), "::1", 9000),
        ((), None, "auto"),
    ],
)
def test_the_address_is_that_of_the_ui(
    ports: tuple[Port, ...], bind: str | None, port: object
) -> None:
    ui = Member(UI, "exadel/compreface-fe:1.2.0", ports=ports)
    values, _, notes = recognise.settings_of(with_member(install(), **{UI: ui}))
    assert (values.get("bind"), values["port"]) == (bind, port)
    assert bool(notes) == (not ports)


def test_what_is_left_out_is_said() -> None:
    database = replace(install().members[DATABASE], ports=(Port("", 5432, 5432),))
    changed = replace(with_member(install(), **{DATABASE: database}), others=("proxy",))
    notes = recognise.settings_of(changed)[2]
    assert ["5432" in notes[0], "proxy" in notes[1]] == [True, True]
