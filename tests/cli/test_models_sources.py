"""The grammar of sources: what a line names, and which lines are refused."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from compreface_cli.models.sources import Source, matches, parse

DIGEST = "0123456789abcdef" * 4
COMMIT = "0123456789" * 4
IMAGE = f"oci://docker.io/exadel/compreface-core@sha256:{DIGEST}"


def test_a_file_has_no_proof_of_its_own() -> None:
    source = parse("https://example.org/a/m.onnx?raw=1")
    assert source == Source("https", "https://example.org/a/m.onnx?raw=1", source.text)
    assert source.url == source.text
    assert not source.proven
    assert (source.registry, source.repository, source.digest) == ("", "", "")


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("member", ["m.onnx", "a/b c".replace(" ", "-"), "a/*.onnx"])
def test_a_member_of_an_archive_is_proven_by_the_archive(kind: str, member: str) -> None:
    source = parse(f"{kind}+https://example.org/x@1/p.{kind}@sha256:{DIGEST}/{member}")
    assert (source.kind, source.proof, source.path) == (kind, DIGEST, member)
    assert source.url == f"https://example.org/x@1/p.{kind}"
    assert source.proven
    assert source.digest == f"sha256:{DIGEST}"
    assert source.registry == ""


def test_a_file_of_an_image_is_named_by_the_manifest() -> None:
    source = parse(f"{IMAGE}/app/ml/.models/a/*-symbol.json#facescan plugins.setup")
    assert (source.registry, source.repository) == ("docker.io", "exadel/compreface-core")
    assert (source.digest, source.url) == (f"sha256:{DIGEST}", "")
    assert (source.path, source.layer) == (
        "app/ml/.models/a/*-symbol.json",
        "facescan plugins.setup",
    )
    assert source.proven
    assert str(source).startswith(IMAGE)
    local = parse(f"oci://127.0.0.1:5000/core@sha256:{DIGEST}/m.pb")
    assert (local.registry, local.repository, local.layer) == ("127.0.0.1:5000", "core", "")


@pytest.mark.parametrize(
    ("repository", "raw"),
    [
        ("https://github.com/o/r", f"https://github.com/o/r/raw/{COMMIT}/a%20b/m.onnx"),
        ("https://github.com/o/r.git", f"https://github.com/o/r/raw/{COMMIT}/a%20b/m.onnx"),
        ("https://gitlab.com/g/s/r", f"https://gitlab.com/g/s/r/-/raw/{COMMIT}/a%20b/m.onnx"),
        ("http://gitlab.local:81/g/r", f"http://gitlab.local:81/g/r/-/raw/{COMMIT}/a%20b/m.onnx"),
    ],
)
def test_a_file_of_a_repository_is_its_raw_address_at_the_commit(repository: str, raw: str) -> None:
    assert Source("git", "", repository, COMMIT, "a b/m.onnx").url == raw
    source = parse(f"git+{repository}@{COMMIT}/a/m.onnx")
    assert (source.kind, source.proof, source.path) == ("git", COMMIT, "a/m.onnx")
    assert source.url == raw.replace("a%20b", "a")
    assert not source.proven
    assert source.digest == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must begin"),
        ("m.onnx", "must begin"),
        ("file:///etc/passwd", "must begin"),
        ("ftp://example.org/m", "must begin"),
        ("zip+ftp://example.org/m", "must begin"),
        ("rar+https://example.org/m", "must begin"),
        ("https://a b", "spaces"),
        ("https://a/\0", "spaces"),
        ("https://", "no host"),
        ("https://a:0/m", "no host"),
        ("https://a:port/m", "cannot be read"),
        ("zip+https://example.org/p.zip/m", "DIGEST"),
        (f"zip+https://example.org/p.zip@sha256:{DIGEST}", "DIGEST"),
        (f"zip+https://example.org/p.zip@sha256:{DIGEST[1:]}/m", "DIGEST"),
        (f"tar+https://example.org/p.tar@sha256:{DIGEST.upper()}/m", "DIGEST"),
        (f"tar+https:///p.tar@sha256:{DIGEST}/m", "no host"),
        (f"tar+https://e.org/p.tar@sha256:{DIGEST}/../m", "relative"),
        (f"tar+https://e.org/p.tar@sha256:{DIGEST}//m", "relative"),
        (f"tar+https://e.org/p.tar@sha256:{DIGEST}/./m", "relative"),
        (f"tar+https://e.org/p.tar@sha256:{DIGEST}/a/", "relative"),
        (f"tar+https://e.org/p.tar@sha256:{DIGEST}/a\\m", "relative"),
        (f"{IMAGE}/a\0m", "relative"),
        (f"{IMAGE}/*/m", "last part"),
        (f"{IMAGE}/**", "last part"),
        (f"{IMAGE}/m#two\nlines", "one line"),
        (IMAGE, "DIGEST"),
        (f"oci://docker.io/core:1.2@sha256:{DIGEST}/m", "tag"),
        (f"oci://docker.io@sha256:{DIGEST}/m", "REPOSITORY"),
        (f"oci://docker.io/Upper@sha256:{DIGEST}/m", "REPOSITORY"),
        ("git+https://github.com/o/r@main/m", "COMMIT"),
        (f"git+https://github.com/o/r@{COMMIT[1:]}/m", "COMMIT"),
        (f"git+https://github.com/o/r@{COMMIT}/*.onnx", "archive or image"),
        (f"git+https://github.com/o/r@{COMMIT}/../m", "relative"),
        (f"git+https://github.com/o@{COMMIT}/m", "OWNER"),
        (f"git+https://gitlab.com/o@{COMMIT}/m", "GROUP"),
        (f"git+https://example.org/o/r@{COMMIT}/m", "another host"),
    ],
)
def test_another_line_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse(text)


def test_a_star_stands_for_characters_of_the_last_part() -> None:
    assert matches("a/m.onnx", "a/m.onnx")
    assert not matches("a/m.onnx", "a/n.onnx")
    assert matches("a/*-symbol.json", "a/R50-symbol.json")
    assert matches("a/*-symbol.json", "a/-symbol.json")
    assert not matches("a/*-symbol.json", "a/b/R50-symbol.json")
    assert not matches("a/*-symbol.json", "b/R50-symbol.json")
    assert not matches("a/ab*ba", "a/aba")  # beginning and end may not overlap


@given(st.text(max_size=80).map(lambda text: text.replace("DIGEST", DIGEST)))
@example("https://[")
@example("git+https://[@" + COMMIT + "/m")
def test_any_text_is_a_source_or_refused(text: str) -> None:
    with suppress(ValueError):
        assert parse(text).text == text
