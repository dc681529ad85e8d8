"""`cf support`: what the archive has, what it does not have, and how it is written."""

from __future__ import annotations

import base64
import json
import tarfile
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compreface_cli.inspect import support
from compreface_cli.inspect.struck import MARK, Striker, is_secret
from tests.cli.in_process import Cf, in_folder
from tests.cli.names import assert_named
from tests.cli.test_status_and_down import instance

PASSWORDS = ("s3cr3t-value", "p$a\"ss #1'x y", "ünïcode-pass", "a+b/c=d&e", "postgres")


@pytest.fixture
def cf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cf:
    return in_folder(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("secret", PASSWORDS)
def test_a_secret_is_struck_out_in_each_of_its_spellings(secret: str) -> None:
    strike = Striker([secret])
    plain = secret.encode()
    for text in (
        f"the value is {secret}, is it not",
        f"https://user:{quote(secret, safe='')}@host/path?x={quote(secret)}",
        json.dumps({"value": secret}),
        json.dumps({"value": secret}, ensure_ascii=False),
        f"X='{secret.replace(chr(39), chr(39) * 2)}'",
        f"X: {secret.replace('$', '$$')}",
        f"blob {base64.b64encode(plain).decode()}",
    ):
        shown = strike(text)
        assert MARK in shown
        for spelled in (secret, quote(secret, safe=""), base64.b64encode(plain).decode()):
            assert spelled not in shown


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=4, max_size=40))
def test_no_value_of_any_characters_is_left(secret: str) -> None:
    if secret in MARK:
        return
    assert secret not in Striker([secret])(f"before {secret} after").replace(MARK, "")


@pytest.mark.parametrize(
    ("text", "left", "gone"),
    [
        ("http://bob:hunter22@proxy:3128/", "proxy:3128", "hunter22"),
        ("Authorization: Basic Q29tbW9uQ2xpZW50SWQ6cGFzc3dvcmQ=", "uthorization", "Q29tbW9u"),
        ("proxy-auth is Bearer abcdef0123456789", "Bearer", "abcdef0123456789"),
        ('"x-api-key": "00000000-0000-0000-0000-000000000002"', "x-api-key", "0000-000000000002"),
        ("GET /api/v1/static/c7c43e6a-3e4b-4c29-8b0e-7f3f6ad1c3f9/images/1", "/static/", "c7c43e"),
        ("GET /api/v1/recognition/faces?subject=Jane%20Doe&size=5", "size=5", "Jane"),
        ("DELETE /api/v1/recognition/subjects/Jane%20Doe HTTP/1.1", "HTTP/1.1", "Jane"),
        ('{"subject": "Jane Doe", "similarity": 0.9}', "similarity", "Jane"),
        ("UserCreateDto(email=jane@example.com, password=Secret-1)", "UserCreateDto", "Secret-1"),
        ("UserCreateDto(email=jane@example.com, firstName=J)", "UserCreateDto", "jane@"),
        ("UserCreateDto(firstName=Jane A., lastName=B)", "UserCreateDto", "Jane"),
        ("POSTGRES_PASSWORD=abc", "POSTGRES_PASSWORD", "abc"),
        ("      EMAIL_PASSWORD: 'a b c'", "EMAIL_PASSWORD", "a b c"),
        ("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-def", "token", "eyJhbGci"),
        ("embedding [" + ", ".join(["-0.0123"] * 128) + "]", "embedding", "-0.0123"),
        ("image " + "QUJD" * 100, "image", "QUJDQUJD"),
        ("-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\nrest", "rest", "MIIB"),
    ],
)
def test_what_looks_like_a_secret_or_names_a_person_is_struck_out(
    text: str, left: str, gone: str
) -> None:
    shown = Striker([])(text)
    assert left in shown
    assert gone not in shown
    assert MARK in shown


@pytest.mark.parametrize(
    "text",
    [
        "CF_PORT=8000",
        "the password authentication failed for user postgres",
        '{"box": [160, 48, 287, 184]}',
        "sha256:1d0c9d4bdfed2b4d6b9c3f55c6d9f3e2",
        "2026-11-30 21:58:12.318 UTC [123] FATAL:  sorry, too many clients already",
    ],
)
def test_an_ordinary_line_stays(text: str) -> None:
    assert Striker(["", " "])(text) == text


def test_a_short_value_is_struck_out_as_a_word_only() -> None:
    assert Striker(["abc"])("abc abcd X=abc") == f"{MARK} abcd X={MARK}"


def test_a_name_tells_a_secret() -> None:
    assert all(map(is_secret, ("POSTGRES_PASSWORD", "CF_API_KEYS", "GH_TOKEN")))
    assert not any(map(is_secret, ("CF_PORT", "PATH")))


def test_the_archive_is_private_lists_itself_and_has_no_secret(
    cf: Cf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "a-token-of-this-shell")
    monkeypatch.setenv("CF_API_KEYS", "key-0123456789abcdef,key-fedcba9876543210")
    folder = instance(supervisor=None, child=None, phase="running")
    (folder / "engine.log").write_text(
        "key-0123456789abcdef was refused\nkey-fedcba9876543210 too\n"
        "a-token-of-this-shell\ncompreface-engine: CF_X=1: is wrong\n"
    )
    (folder / "api-keys").write_text(",key-of-the-file-12345678\n")
    done = cf("support", "mine", "-o", "out.tar.gz", "--json")
    assert done.code == 0, done.err
    path = tmp_path / "out.tar.gz"
    assert done.document["path"] == str(path)
    assert done.document["uploaded"] is False
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as archive:
        texts = {
            member.name.partition("/")[2]: archive.extractfile(member).read().decode()  # type: ignore[union-attr]
            for member in archive
        }
        assert all(member.mode == 0o600 and member.isreg() for member in archive)
    assert set(texts) == {row["name"] for row in done.document["files"]}
    log = texts["logs/core.log"]
    assert_named(log, "was refused", "compreface-engine: CF_X=1: is wrong", MARK)
    everything = "".join(texts.values())
    for secret in ("key-0123456789abcdef", "key-fedcba9876543210", "a-token-of-this-shell"):
        assert secret not in everything
    assert_named(
        texts["README.txt"], "mine", "Nothing was uploaded", *(set(texts) - {"README.txt"})
    )
    assert json.loads(texts["record.json"])["name"] == "mine"
    assert json.loads(texts["versions.json"])["docker_state"] == "no-socket"
    assert_named(texts["cf-status.json"], '"name": "mine"', "exit code 8")


def test_a_file_that_exists_is_not_overwritten_without_force(cf: Cf, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_text("mine")
    refused = cf("support", "-o", "a.tar.gz")
    assert refused.code == 4
    assert (tmp_path / "a.tar.gz").read_text() == "mine"


def test_without_an_instance_the_archive_is_about_the_machine(cf: Cf, tmp_path: Path) -> None:
    done = cf("support", "-o", "a.tar.gz")
    assert done.code == 0, done.err
    with tarfile.open(tmp_path / "a.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.txt", "versions.json", "cf-doctor.json", "host.json"} <= names
    assert "record.json" not in names


def test_an_unknown_instance_is_refused_and_leaves_nothing(cf: Cf, tmp_path: Path) -> None:
    assert cf("support", "nobody").code == 3
    assert not list(tmp_path.glob("*.tar.gz"))


def test_a_part_that_fails_is_there_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> str:
        raise OSError("no such disk")

    monkeypatch.setattr(support, "_works", lambda record: iter([("a.txt", fails)]))
    ((name, text),) = support._parts(None, lambda label: None)
    assert name == "a.txt"
    assert_named(text, "OSError", "no such disk")


def test_of_a_long_part_the_end_is_kept_from_a_line_on() -> None:
    text = "".join(f"line {number}\n" for number in range(10))
    assert support._last_lines(text, 14) == "line 9\n"
    assert support._last_lines(text, 1000) == text
    cut = support._bounded("x" * (support._LARGEST + 10))
    assert cut.endswith(b"x" * support._LARGEST)
    assert b"10 bytes were left out" in cut
