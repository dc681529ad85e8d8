"""The certificate of the UI's port: each fault is named before anything starts."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from compreface_cli import checks
from compreface_cli.checks import tls as check
from compreface_cli.errors import ConfigurationError
from compreface_cli.facts import tls
from compreface_cli.facts.tls import TlsFacts
from tests.cli.certificates import Pair, openssl, pair
from tests.cli.fake_facts import facts, plan
from tests.cli.names import assert_named
from tests.cli.test_render import plan as resolved
from tests.cli.test_render import project

NOW = datetime(2026, 11, 30, tzinfo=UTC)
FINE = TlsFacts("c", "k", names=("a", "127.0.0.1"), until=NOW + timedelta(days=80))


def found(seen: TlsFacts) -> list[tuple[str, str]]:
    return [(each.level, each.id) for each in check.judge(seen, NOW)]


def test_each_fault_of_a_certificate_is_a_finding_of_its_own() -> None:
    (fine,) = check.judge(FINE, NOW)
    assert fine.level == "ok"
    assert_named(fine.message, "a, 127.0.0.1", f"{FINE.until:%Y-%m-%d}")
    assert found(TlsFacts("c", "k", "the key k cannot be read")) == [("fail", "tls-files")]
    soon = TlsFacts("c", "k", until=NOW + timedelta(days=3), readable=True)
    assert found(soon) == [
        ("warn", "tls-expires"),
        ("warn", "tls-key-readable"),
        ("warn", "tls-names"),
    ]


def test_a_start_is_checked_only_with_a_certificate() -> None:
    def of_tls(**parts: Any) -> list[checks.Finding]:
        return [each for each in checks.preflight(plan(), facts(**parts)) if each.check == "tls"]

    assert of_tls() == []
    assert [each.level for each in of_tls(tls=TlsFacts("c", "k", "no"))] == ["fail"]
    assert checks.questions(plan()).tls is None
    assert checks.questions(plan(tls_cert="c", tls_key="k")).tls == ("c", "k")


@pytest.fixture
def made(tmp_path: Path) -> Pair:
    return pair(tmp_path)


def test_a_certificate_with_its_key_has_names_and_an_end(made: Pair) -> None:
    seen = tls.look(*map(str, made))
    assert seen.fault == ""
    assert seen.names == ("faces.example.org", "127.0.0.1")
    assert seen.until is not None
    assert timedelta(days=88) < seen.until - datetime.now(UTC) < timedelta(days=91)
    assert not seen.readable
    made.key.chmod(0o644)
    assert tls.look(*map(str, made)).readable


def test_files_that_cannot_be_used_are_named(made: Pair, tmp_path: Path) -> None:
    other = pair(tmp_path, "other")
    locked, text = tmp_path / "locked.key", tmp_path / "text"
    openssl("pkey", "-in", str(made.key), "-aes256", "-passout", "pass:abcd", "-out", str(locked))
    text.write_text("no certificate")
    broken = tmp_path / "broken.crt"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    large = tmp_path / "large.crt"
    large.write_bytes(b"x" * (2**20 + 1))
    expired = tmp_path / "expired.crt"
    openssl(
        *("x509", "-in", str(made.cert), "-signkey", str(made.key), "-days", "-1"),
        *("-out", str(expired)),
    )
    absent = tmp_path / "absent"
    for cert, key, names in (
        (made.cert, other.key, (made.cert, other.key)),
        (made.cert, locked, (locked, "encrypted")),
        (made.cert, made.cert, (made.cert, "PRIVATE KEY")),
        (made.key, made.key, (made.key, "CERTIFICATE")),
        (text, made.key, (text,)),
        (broken, made.key, (broken,)),
        (large, made.key, (large,)),
        (expired, made.key, (expired, "expired")),
        (absent, made.key, (absent, "No such file")),
        (made.cert, absent, (absent, "No such file")),
    ):
        seen = tls.look(str(cert), str(key))
        assert_named(seen.fault, *names)
        assert made.key.read_text().splitlines()[1] not in seen.fault


def test_a_file_without_a_certificate_cannot_be_pinned(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    with pytest.raises(ValueError, match="PEM"):
        tls.pinned(str(tmp_path / "x"))
    with pytest.raises(OSError, match="absent"):
        tls.pinned(str(tmp_path / "absent"))


def test_a_pinned_certificate_is_the_only_one_that_is_accepted(made: Pair, tmp_path: Path) -> None:
    other = pair(tmp_path, "other")
    assert tls._handshake(*map(str, made))["subjectAltName"]
    made.cert.write_text(made.cert.read_text() + other.cert.read_text())
    context = tls.pinned(str(made.cert))
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert len(context.get_ca_certs(binary_form=True)) <= 1


@pytest.mark.parametrize(
    "flags",
    [
        {"tls_cert": "c"},
        {"tls_key": "k"},
        {"tls_cert": "c", "tls_key": "k", "services": "core"},
        {"tls_cert": "c", "tls_key": "k", "launcher": "process"},
    ],
)
def test_tls_needs_both_files_and_the_ui(flags: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as error:
        resolved(**flags)
    assert error.value.hint is not None
    assert "--tls" in error.value.hint


def test_a_project_with_tls_has_the_files_and_another_port(made: Pair, tmp_path: Path) -> None:
    rendered = project(tls_cert=str(made.cert), tls_key=str(made.key))
    compose, routes = (
        str(rendered.files[name]) for name in ("compose.yaml", "ui/nginx.conf.template")
    )
    assert '"127.0.0.1:8000:443"' in compose
    assert "./tls:/etc/nginx/tls:ro,z" in compose
    assert "listen 443 ssl" in routes
    assert "listen 80;" not in routes
    assert made.key.read_text() not in compose + routes
    assert {"tls/cert.pem", "tls/key.pem"} <= rendered.files.keys()
    with pytest.raises(ConfigurationError, match="absent"):
        project(tls_cert=str(tmp_path / "absent"), tls_key=str(made.key))
