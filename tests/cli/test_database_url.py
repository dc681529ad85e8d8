"""The address of a database elsewhere: its parts, what is refused, and what the services get."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compreface_cli.config import database_url, settings
from compreface_cli.config.settings_table import BadValue
from compreface_cli.errors import ConfigurationError
from compreface_cli.plan import jdbc
from compreface_cli.plan.resolve import asked_for, plan_of

CERT = "/etc/authority.pem"


def read(text: str) -> database_url.DatabaseUrl:
    return database_url.read(text)


def resolve(tmp_path: Path, **environ: str) -> settings.Settings:
    nowhere = tmp_path / "nowhere"
    return settings.resolve({}, environ=environ, project_file=nowhere, user_file=nowhere)


def test_all_parts_are_read_and_decoded() -> None:
    found = read(
        "postgresql://me%40here:p%40ss%2Fw%3Ard@db.example.org:5433/my%20faces"
        f"?sslmode=verify-full&sslrootcert={CERT}"
    )
    assert found == database_url.DatabaseUrl(
        "me@here", "p@ss/w:rd", "db.example.org", 5433, "my faces", "verify-full", CERT
    )


def test_what_may_be_left_out_has_a_default() -> None:
    found = read("postgres://me@[2001:db8::1]/frs")
    assert (found.password, found.host, found.port) == (None, "2001:db8::1", 5432)
    assert (found.sslmode, found.sslrootcert) == ("prefer", "")
    assert read("postgresql://me:@db/frs").password is None
    assert read("postgresql://me:a:b@db/frs").password == "a:b"


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST.",
        "db.localhost",
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "[::1]",
        "[::]",
    ],
)
def test_an_address_of_the_container_itself_is_refused(host: str) -> None:
    with pytest.raises(BadValue):
        read(f"postgresql://me:pw@{host}/frs")


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x", "", "5432x", "\u0665"])
def test_a_wrong_port_is_refused(port: str) -> None:
    for host in ("db", "[2001:db8::1]"):
        with pytest.raises(BadValue):
            read(f"postgresql://me:pw@{host}:{port}/frs")


def said(text: str) -> str:
    """What is said against the address; "" for one that is read."""
    try:
        read(text)
    except BadValue as error:
        return str(error)
    return ""


@given(st.text(max_size=40))
def test_any_text_is_refused_without_the_password_or_read(text: str) -> None:
    assert "sEcReT" not in said(f"postgresql://me:sEcReT-pw@{text}")


@given(st.text(max_size=40))
def test_no_message_shows_a_password(secret: str) -> None:
    assert "sEcReT" not in said(f"postgresql://me:sEcReT{secret}@db/frs")


def test_the_parts_take_the_place_of_weaker_settings(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://me:pw@db.example.org/faces\n")
    (tmp_path / "user.yaml").write_text(
        f"postgres_host: other\npostgres_password: other\nenv_file: {tmp_path / 'none'}\n"
    )
    (tmp_path / "none").write_text("postgres_username=upstream\n")
    found = settings.resolve(
        {},
        environ={"CF_DATABASE_URL_FILE": str(file)},
        project_file=tmp_path / "nowhere",
        user_file=tmp_path / "user.yaml",
    )
    parts = ("postgres_user", "postgres_password", "postgres_host", "postgres_db")
    assert [found.get(part) for part in parts] == ["me", "pw", "db.example.org", "faces"]
    assert found.get("postgres_port") == 5432
    assert found.origin("postgres_host") == f"environment CF_DATABASE_URL_FILE, {file}"


def test_the_password_may_come_from_its_own_setting(tmp_path: Path) -> None:
    found = resolve(
        tmp_path, CF_DATABASE_URL="postgresql://me@db/frs", CF_POSTGRES_PASSWORD="from-there"
    )
    assert found.get("postgres_password") == "from-there"


def test_no_list_of_settings_shows_the_address(tmp_path: Path) -> None:
    found = resolve(tmp_path, CF_DATABASE_URL="postgresql://me:pw-of-mine@db/frs")
    assert "pw-of-mine" not in str(settings.rows(found))


@pytest.mark.parametrize("mode", ["disable", "prefer", "require"])
def test_an_authority_that_nothing_is_checked_with_is_refused(tmp_path: Path, mode: str) -> None:
    with pytest.raises(ConfigurationError):
        resolve(
            tmp_path,
            CF_POSTGRES_HOST="db",
            CF_POSTGRES_SSLMODE=mode,
            CF_POSTGRES_SSLROOTCERT=CERT,
        )


STACK = {"postgres_host": "db", "postgres_port": "5432", "postgres_db": "frs"}


def test_both_drivers_of_the_java_services_get_their_names_of_the_options() -> None:
    verified = {**STACK, "postgres_sslmode": "verify-full", "postgres_sslrootcert": CERT}
    assert jdbc.address(verified, own=False) == (
        "jdbc:postgresql://db:5432/frs?sslmode=verify-full&ssl.mode=verify-full"
        f"&sslrootcert={jdbc.ROOT_CERT}&ssl.ca.certificate.file={jdbc.ROOT_CERT}"
    )
    assert jdbc.address(STACK, own=False).endswith("/frs?sslmode=prefer&ssl.mode=prefer")
    assert jdbc.address(STACK, own=True) == "jdbc:postgresql://db:5432/frs"


def test_only_the_scheme_is_replaced_by_the_api() -> None:
    """It replaces "postgresql" in the whole address for its second driver."""
    stack = {**STACK, "postgres_host": "my-postgresql.example.org", "postgres_db": "postgresql a"}
    given = jdbc.address(stack, own=False)
    assert given.count("postgresql") == 1
    assert given.startswith("jdbc:postgresql://my-Postgresql.example.org:5432/%70ostgresql%20a?")


def test_an_ipv6_address_has_brackets() -> None:
    assert "//[2001:db8::1]:" in jdbc.address({**STACK, "postgres_host": "2001:db8::1"}, own=True)


def test_a_plan_with_a_database_elsewhere_owns_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "CF_DATABASE_URL", f"postgresql://me:pw@db/frs?sslmode=verify-ca&sslrootcert={CERT}"
    )
    plan, chosen = asked_for({"build": "embedded"})
    assert not plan.owns_database
    assert (plan.volume, plan.database_root_cert) == ("", CERT)
    assert "compreface-postgres-db" not in plan.stack_images
    assert plan.secrets == {"postgres_password": "pw"}
    assert "pw" not in str(plan.as_dict()["stack"])
    assert plan_of("embedded").owns_database
    assert plan_of("embedded").database_root_cert == ""
    assert chosen.origin("postgres_user") == "environment CF_DATABASE_URL"
