"""Docker Hub's images come from its mirrors first, and registries without TLS are found."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from compreface_cli.errors import ConfigurationError, FetchError
from compreface_cli.models.registry import image as image_module
from compreface_cli.models.registry.mirrors import endpoints, mirror_fault
from compreface_cli.models.registry.reference import Reference, loopback
from compreface_cli.models.registry.session import parse_challenge
from tests.cli.lying_registry import REPOSITORY, LyingRegistry, lying_registry
from tests.cli.test_registry_fetch import WEIGHTS, get, place, server, upstream

__all__ = ["place", "server"]  # fixtures
HUB = Reference("docker.io", REPOSITORY, "sha256:" + "0" * 64)


def settings(path: Path, **values: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))
    return path


def urls(reference: Reference, system: Path, **environ: str) -> list[str]:
    environ = {"HOME": str(system.parent), **environ}
    return [endpoint.url for endpoint in endpoints(reference, environ, system)]


def test_mirrors_come_before_docker_hub_ours_first(tmp_path: Path) -> None:
    system = settings(
        tmp_path / "daemon.json",
        **{"registry-mirrors": ["https://mirror.gcr.io/", "nonsense", 3, "http://10.0.0.1:5000"]},
    )
    user = {"registry-mirrors": ["https://rootless.example", "https://mirror.gcr.io"]}
    settings(tmp_path / ".config" / "docker" / "daemon.json", **user)
    assert urls(HUB, system, CF_REGISTRY_MIRROR="https://corp.example/hub/") == [
        f"https://corp.example/v2/hub/{REPOSITORY}",
        f"https://mirror.gcr.io/v2/{REPOSITORY}",
        f"http://10.0.0.1:5000/v2/{REPOSITORY}",
        f"https://rootless.example/v2/{REPOSITORY}",
        f"https://registry-1.docker.io/v2/{REPOSITORY}",
    ]


def test_mirrors_hold_for_docker_hub_only(tmp_path: Path) -> None:
    system = settings(tmp_path / "daemon.json", **{"registry-mirrors": ["https://mirror.gcr.io"]})
    other = Reference("ghcr.io", REPOSITORY, HUB.digest)
    assert urls(other, system, CF_REGISTRY_MIRROR="https://corp.example") == [
        f"https://ghcr.io/v2/{REPOSITORY}"
    ]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"registry-mirrors": 3}', "[" * 100_000])
def test_dockers_broken_settings_are_left_to_docker(tmp_path: Path, text: str) -> None:
    system = tmp_path / "daemon.json"
    system.write_text(text)
    assert urls(HUB, system) == [f"https://registry-1.docker.io/v2/{REPOSITORY}"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], False),
        (["corp.example:5000"], True),
        (["corp.example"], True),
        (["other.example", "10.0.0.0/8"], False),
    ],
)
def test_insecure_registries_of_docker_are_honoured(
    tmp_path: Path, names: list[str], expected: bool
) -> None:
    system = settings(tmp_path / "daemon.json", **{"insecure-registries": names})
    reference = Reference("corp.example:5000", "a/b", HUB.digest)
    [endpoint] = endpoints(reference, {"HOME": str(tmp_path)}, system)
    assert endpoint.insecure is expected


def test_an_insecure_network_holds_for_its_addresses(tmp_path: Path) -> None:
    system = settings(tmp_path / "daemon.json", **{"insecure-registries": ["x/y", "10.1.0.0/16"]})
    for host, expected in (("10.1.2.3:5000", True), ("10.2.0.1", False), ("[::1]:5000", True)):
        [endpoint] = endpoints(Reference(host, "a/b", ""), {"HOME": str(tmp_path)}, system)
        assert endpoint.insecure is expected, host


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost:5000", True), ("127.9.9.9", True), ("::1", True), ("localhost.example", False)],
)
def test_this_machine_is_known(host: str, expected: bool) -> None:
    assert loopback(host) is expected


@pytest.mark.parametrize(
    "address", ["mirror", "ftp://x", "https://", "https://a:b@c", "http://x:y"]
)
def test_an_invalid_mirror_is_an_error_that_names_the_variable(place: Path, address: str) -> None:
    assert mirror_fault(address)
    with pytest.raises(ConfigurationError) as caught:
        get(HUB, place, environ={"CF_REGISTRY_MIRROR": address})
    assert "CF_REGISTRY_MIRROR" in caught.value.message


@pytest.mark.parametrize(
    ("repository", "asked"), [(REPOSITORY, REPOSITORY), ("alpine", "library/alpine")]
)
def test_an_image_of_docker_hub_comes_from_the_mirror(
    server: LyingRegistry, place: Path, repository: str, asked: str
) -> None:
    digest = server.reference(upstream()).digest
    reference = Reference("docker.io", repository, digest, "setup")
    get(reference, place, environ={"CF_REGISTRY_MIRROR": server.url})
    assert (place / "0").read_bytes() == WEIGHTS
    assert server.paths("/v2/")[-3] == f"/v2/{asked}/manifests/{digest}"


def test_the_next_mirror_is_asked_when_one_lacks_the_image_or_lies(
    server: LyingRegistry, place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parts = upstream()
    with lying_registry() as empty, lying_registry() as liar:
        liar.reference(parts)
        liar.contents[parts.layers[1]] = b"a" * len(parts.contents[parts.layers[1]])
        mirrors = {"registry-mirrors": [empty.url, liar.url, server.url]}
        system = settings(tmp_path / "daemon.json", **mirrors)
        monkeypatch.setattr(
            image_module, "endpoints", lambda image, environ: endpoints(image, environ, system)
        )
        server.reference(parts)
        recorder = get(Reference("docker.io", REPOSITORY, parts.digest, "setup"), place)
    assert (place / "0").read_bytes() == WEIGHTS
    assert any("404" in note for note in recorder.notes)
    assert any("wrong hash" in note for note in recorder.notes)
    # The mirror that had the manifest is the first that is asked for the rest.
    assert len(empty.paths("/v2/exadel")) == 2
    assert len(liar.paths("/v2/exadel")) == 3
    assert [path.rpartition("/")[2] for path in server.paths("/v2/exadel")] == [parts.layers[1]]


def test_a_mirror_gets_its_own_credentials_only(
    server: LyingRegistry, place: Path, tmp_path: Path
) -> None:
    server.challenge, server.login = "basic", ("me", "x")
    digest = server.reference(upstream()).digest
    hub = {"https://index.docker.io/v1/": {"username": "hub", "password": "secret"}}
    config = settings(tmp_path / "docker" / "config.json", auths=hub)
    environ = {"CF_REGISTRY_MIRROR": server.url, "DOCKER_CONFIG": str(config.parent)}
    reference = Reference("docker.io", REPOSITORY, digest, "setup")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nothing reaches Docker Hub
        with pytest.raises(FetchError):
            get(reference, place, environ=environ)
        assert all("authorization" not in request for request in server.requests)
        own = {server.host: {"username": "me", "password": "x"}}
        settings(config, auths={**hub, **own})
        get(reference, place, environ=environ)
    assert (place / "0").read_bytes() == WEIGHTS


def test_a_proxy_of_the_environment_is_used(
    server: LyingRegistry, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    digest = server.reference(upstream()).digest
    reference = Reference("docker.io", REPOSITORY, digest, "setup")
    get(reference, place, environ={"CF_REGISTRY_MIRROR": "http://mirror.example"})
    assert (place / "0").read_bytes() == WEIGHTS
    assert server.requests[-1]["host"] == "mirror.example"


def test_a_registry_of_this_machine_is_asked_without_a_proxy(
    server: LyingRegistry, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    get(server.reference(upstream(), "setup"), place)
    assert (place / "0").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'Bearer realm="https://a/t",service="a, b"',
            ("bearer", {"realm": "https://a/t", "service": "a, b"}),
        ),
        (
            'BEARER realm=https://a/t , Scope="x\\"y"',
            ("bearer", {"realm": "https://a/t", "scope": 'x"y'}),
        ),
        ('Bearer realm="a",realm="b"', ("bearer", {"realm": "a"})),
        ('Basic realm="x"', ("basic", {"realm": "x"})),
        ("Basic", ("basic", {})),
        ("Negotiate abc", ("", {})),
        ("", ("", {})),
        ('Bearer realm="unclosed', ("bearer", {})),
    ],
)
def test_challenges_are_read(text: str, expected: tuple[str, dict[str, str]]) -> None:
    assert parse_challenge(text) == expected


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is absent")
def test_a_registry_of_this_machine_may_have_tls_with_any_certificate(
    place: Path, tmp_path: Path
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with lying_registry(context) as server:
        get(server.reference(upstream(), "setup"), place)
    assert (place / "0").read_bytes() == WEIGHTS
