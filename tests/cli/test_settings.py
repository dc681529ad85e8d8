"""Settings: who wins, who is named, and what upstream's keys become."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.config import settings
from compreface_cli.config.settings_table import BY_KEY, TABLE, TRANSLATED, WITHOUT_EFFECT
from compreface_cli.errors import ConfigurationError, UsageError
from tests.cli.names import assert_named
from tests.shared import ROOT

# Every key of upstream's `.env` files (root, custom builds, dev).
UPSTREAM = """
registry postgres_username postgres_password postgres_db postgres_domain postgres_port email_host
email_username email_from email_password enable_email_server save_images_to_db
compreface_api_java_options compreface_admin_java_options max_file_size max_request_size
max_detect_size uwsgi_processes uwsgi_threads connection_timeout read_timeout ADMIN_VERSION
API_VERSION FE_VERSION POSTGRES_VERSION CORE_VERSION ND4J_CLASSIFIER
""".split()


class Folder:
    """A place with a project file, a user file and an `.env`, none of them there yet."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.project = root / "cf.yaml"
        self.user = root / "home" / "config.yaml"
        self.user.parent.mkdir()

    def resolve(self, env: dict[str, str] | None = None, **flags: Any) -> settings.Settings:
        return settings.resolve(
            flags, environ=env or {}, project_file=self.project, user_file=self.user
        )

    def refusal(self, env: dict[str, str] | None = None, **flags: Any) -> str:
        with pytest.raises((ConfigurationError, UsageError)) as caught:
            self.resolve(env, **flags)
        return caught.value.message


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_every_layer_wins_over_the_next_and_is_named(folder: Folder) -> None:
    (folder.root / ".env").write_text("max_detect_size=4\n")
    folder.user.write_text("max_detect_size: 5\n")
    assert folder.resolve().get("max_detect_size") == 5
    assert folder.resolve().origin("max_detect_size") == f"user file {folder.user}:1"
    folder.project.write_text("env_file: .env\n")
    assert folder.resolve().get("max_detect_size") == 4
    assert folder.resolve().origin("max_detect_size").endswith(".env:1")
    folder.project.write_text("env_file: .env\nmax_detect_size: 3\n")
    assert folder.resolve().origin("max_detect_size") == f"project file {folder.project}:2"
    env = {"CF_MAX_DETECT_SIZE": "2"}
    assert folder.resolve(env).get("max_detect_size") == 2
    assert folder.resolve(env).origin("max_detect_size") == "environment CF_MAX_DETECT_SIZE"
    assert folder.resolve(env, max_detect_size=1).get("max_detect_size") == 1
    assert folder.resolve(env, port="1").origin("port") == "flag --port"


def test_a_setting_that_was_not_set_has_the_default(folder: Folder) -> None:
    found = folder.resolve(port=None)
    assert found.get("max_detect_size") == 640
    assert found.origin("max_detect_size") == "default"
    assert found.given("max_detect_size") is None
    assert found.notes == ()


def test_an_empty_variable_is_as_good_as_unset(folder: Folder) -> None:
    assert folder.resolve({"CF_PORT": ""}).given("port") is None


def test_an_empty_project_file_sets_nothing(folder: Folder) -> None:
    folder.project.write_text("# nothing yet\nport:\n")
    assert folder.resolve().values == {}
    folder.project.write_text("")
    assert folder.resolve().values == {}


def test_an_unknown_setting_is_refused_with_its_line(folder: Folder) -> None:
    folder.project.write_text("prot: 1\npostgres_username: me\nwhatever: 1\n")
    first, second, third = folder.refusal().splitlines()
    assert_named(first, f"{folder.project}:1: ", "'prot'", "'port'?")
    assert_named(second, f"{folder.project}:2: ", "'postgres_username'", "postgres_user ")
    assert_named(third, f"{folder.project}:3: ", "'whatever'", "`cf config list`")


def test_a_project_file_of_another_form_is_refused(folder: Folder) -> None:
    folder.project.write_text("- port\n")
    assert folder.refusal().startswith(f"{folder.project}:1: ")


@pytest.mark.parametrize(
    ("key", "raw", "value"),
    [
        ("port", "auto", "auto"),
        ("port", 8080, 8080),
        ("core_port", " 3001", 3001),
        ("bind", "::1", "::1"),
        ("bind", "[::1]", "::1"),
        ("max_file_size", "5MB", "5M"),
        ("max_request_size", "10m", "10M"),
        ("enable_email_server", True, "true"),
        ("save_images_to_db", "off", "false"),
        ("plugins", "a.B, c.D,", ("a.B", "c.D")),
        ("plugins", ["a.B"], ("a.B",)),
        ("registry", "", ""),
        ("registry", "localhost:5000/x/", "localhost:5000/x/"),
        ("max_wait_s", "2.5", 2.5),
        ("postgres_password", 1234, "1234"),
    ],
)
def test_a_value_is_read_as_it_is_meant(folder: Folder, key: str, raw: Any, value: Any) -> None:
    assert folder.resolve(**{key: raw}).get(key) == value


@pytest.mark.parametrize(
    ("key", "raw", "fits"),
    [
        ("port", "0", "65535"),
        ("port", "http", "auto"),
        ("port", True, "auto"),
        ("bind", "localhost", "127.0.0.1"),
        ("launcher", "composed", "'compose'?"),
        ("services", "zzzz", "full, core"),
        ("gpu_index", "-1", "63"),
        ("max_detect_size", "1e3", ""),
        ("max_wait_s", "soon", ""),
        ("max_wait_s", "0", "600"),
        ("max_wait_s", "nan", "600"),
        ("max_file_size", "5", "10M"),
        ("max_file_size", "0M", "10M"),
        ("enable_email_server", "maybe", "true"),
        ("instance", "My_One", "40"),
        ("instance", "a" * 41, "40"),
        ("registry", "exadel", "exadel/"),
        ("email_from", "a\nb", ""),
        ("email_from", ["a"], ""),
        ("postgres_user", "a;b", "_"),
        ("image", "Bad Image", "postgres:13"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(
    folder: Folder, key: str, raw: Any, fits: str
) -> None:
    message = folder.refusal(**{key: raw})
    assert_named(message, key, repr(raw), fits)
    assert message.startswith("flag")


def test_a_bad_flag_is_usage_and_any_other_layer_is_configuration(folder: Folder) -> None:
    with pytest.raises(UsageError, match="--port") as flag:
        folder.resolve(port="abc")
    assert flag.value.code == 2
    with pytest.raises(ConfigurationError) as variable:
        folder.resolve({"CF_PORT": "abc"})
    assert variable.value.code == 3
    folder.project.write_text("port: abc\n")
    with pytest.raises(ConfigurationError) as file:
        folder.resolve()
    assert file.value.code == 3


def test_an_unknown_variable_is_named_with_what_was_meant(folder: Folder) -> None:
    (folder.root / ".env").write_text("mine=1\n")
    folder.project.write_text("env_file: .env\n")
    notes = folder.resolve({"CF_PRT": "1", "CF_QQQQ": "1", "CFPORT": "1", "PORT": "1"}).notes
    assert len(notes) == 3
    for note, *named in zip(notes, ("CF_PRT", "CF_QQQQ", "mine"), strict=True):
        assert_named(note, *named)
    assert_named(notes[0], "CF_PORT?")


def test_variables_of_the_cli_the_engine_and_the_makefile_are_known(folder: Folder) -> None:
    read = set()
    for place in ("compreface_cli", "engine/compreface_engine", "Makefile"):
        whole = ROOT / place
        for path in [whole] if whole.is_file() else whole.rglob("*.py"):
            read |= set(re.findall(r"\bCF_[A-Z][A-Z_]*[A-Z]\b", path.read_text("utf-8")))
    read -= {"CF_VARIABLES"}
    assert {"CF_DEBUG", "CF_HOST", "CF_MODELS_MIRROR"} <= read
    assert folder.resolve(dict.fromkeys(read, "")).notes == ()


def test_a_bad_variable_is_named(folder: Folder) -> None:
    assert folder.refusal({"CF_PORT": "x"}).startswith("environment CF_PORT: port ")


def test_a_bad_value_of_a_file_has_its_line(folder: Folder) -> None:
    folder.user.write_text("bind: 127.0.0.1\nport: x\n")
    assert folder.refusal().startswith(f"{folder.user}:2: port ")


def test_a_refused_password_is_not_printed(folder: Folder) -> None:
    assert "hunter2" not in folder.refusal(postgres_password="hunter2\nx")


def test_every_key_of_upstream_has_a_row() -> None:
    rows = {row.upstream for row in TABLE if row.upstream}
    assert set(UPSTREAM) == rows | set(TRANSLATED) | set(WITHOUT_EFFECT)


def test_an_env_file_of_upstream_is_read_and_noted_once(folder: Folder) -> None:
    (folder.root / ".env").write_text(
        "# upstream's\n"
        "registry=exadel/\n"
        "export postgres_username=me  # a remark\n"
        "postgres_password='a b#c'\n"
        "max_request_size=10M\n"
        "email_from=\n"
        "\n"
        "uwsgi_processes=3\n"
        "uwsgi_threads=2\n"
        "CORE_VERSION=1.2.0-facenet\n"
        "ND4J_CLASSIFIER=linux-x86_64\n"
        "mine=1\n"
    )
    folder.project.write_text("env_file: .env\n")
    found = folder.resolve()
    assert found.get("postgres_user") == "me"
    assert found.get("postgres_password") == "a b#c"
    assert found.get("max_concurrency") == 6
    assert_named(found.origin("max_concurrency"), "uwsgi_processes", "uwsgi_threads")
    assert found.given("email_from") is None
    keys = [note.split(": ", 1)[1].split()[0] for note in found.notes]
    assert keys == ["CORE_VERSION", "ND4J_CLASSIFIER", "mine"]


def test_one_of_the_two_uwsgi_keys_is_enough(folder: Folder) -> None:
    (folder.root / "x.env").write_text("uwsgi_threads=4\n")
    found = folder.resolve({"CF_ENV_FILE": str(folder.root / "x.env")})
    assert found.get("max_concurrency") == 4


def test_an_env_file_of_the_user_stands_beside_the_users_file(folder: Folder) -> None:
    folder.user.write_text("env_file: mine.env\n")
    (folder.user.parent / "mine.env").write_text("max_detect_size=7\n")
    assert folder.resolve().get("max_detect_size") == 7


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("a b\n", ""),
        ("=1\n", ""),
        ("uwsgi_processes=many\n", "uwsgi_processes"),
        ("postgres_port=x\n", "postgres_port"),
        ("uwsgi_processes=900\nuwsgi_threads=900\n", "1024"),
    ],
)
def test_an_env_file_that_cannot_be_read_is_refused(
    folder: Folder, content: str, named: str
) -> None:
    (folder.root / ".env").write_text(content)
    message = folder.refusal(env_file=str(folder.root / ".env"))
    assert_named(message, f"{folder.root / '.env'}:1", named)


def test_an_env_file_that_is_not_there_is_refused(folder: Folder) -> None:
    for path in (folder.root / "no.env", folder.root):
        assert_named(folder.refusal(env_file=str(path)), "env_file", path)


def test_the_list_shows_every_setting_and_hides_passwords(folder: Folder) -> None:
    rows = settings.rows(folder.resolve(postgres_password="hunter2", plugins=["a.B"]))
    by_key = {row["key"]: row for row in rows}
    assert list(by_key) == list(BY_KEY)
    assert by_key["postgres_password"]["value"] == "********"
    assert by_key["email_password"]["value"] == ""
    assert by_key["plugins"]["value"] == ["a.B"]
    assert by_key["postgres_user"]["upstream"] == "postgres_username"
    assert by_key["port"]["env"] == "CF_PORT"


def test_without_paths_the_files_of_this_folder_and_user_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("CF_PORT", raising=False)
    (tmp_path / "config" / "compreface-cli").mkdir(parents=True)
    (tmp_path / "config" / "compreface-cli" / "config.yaml").write_text("port: 1111\n")
    assert settings.resolve().get("port") == 1111
    (tmp_path / "cf.yaml").write_text("port: 2222\n")
    assert settings.resolve().get("port") == 2222
    monkeypatch.setenv("CF_PORT", "3333")
    assert settings.resolve().get("port") == 3333


def test_settings_of_an_instance_are_stronger_than_files_and_weaker_than_flags(
    tmp_path: Path,
) -> None:
    (tmp_path / "cf.yaml").write_text("port: 1001\nread_timeout: 1002\n")
    chosen = settings.resolve(
        {"bind": "127.0.0.2"},
        environ={"CF_MAX_DETECT_SIZE": "500"},
        project_file=tmp_path / "cf.yaml",
        user_file=tmp_path / "none.yaml",
    )
    own = {"bind": "0.0.0.0", "max_detect_size": 640, "port": 8000, "api_java_options": "-Xmx8g"}
    merged = chosen.under(own, "instance, adopted from /srv")
    assert {key: merged.get(key) for key in (*own, "read_timeout")} == {
        "bind": "127.0.0.2",
        "max_detect_size": 500,
        "port": 8000,
        "api_java_options": "-Xmx8g",
        "read_timeout": 1002,
    }
    assert merged.origin("port") == "instance, adopted from /srv"
