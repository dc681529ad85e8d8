"""What `docker login` has kept is used for its own registry, and for nothing else."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import httpx2
import pytest

from compreface_cli.errors import UnreachableError
from compreface_cli.models.registry.credentials import Credentials, credentials_for
from compreface_cli.models.registry.mirrors import Endpoint
from compreface_cli.models.registry.session import Session
from compreface_cli.models.transfer import GiveUp
from tests.cli.lying_registry import LyingRegistry
from tests.cli.lying_server import Answer, lying_server
from tests.cli.test_registry_fetch import WEIGHTS, get, place, refused, server, upstream

__all__ = ["place", "server"]  # fixtures
LOGIN = ("me", "secret:with colon")


def basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def docker(tmp_path: Path) -> Path:
    """The folder of Docker's settings."""
    folder = tmp_path / "docker"
    folder.mkdir()
    return folder


def write(folder: Path, **config: object) -> dict[str, str]:
    """Docker's settings; the environment that leads to them."""
    (folder / "config.json").write_text(json.dumps(config))
    return {"DOCKER_CONFIG": str(folder), "PATH": str(folder)}


def helper(folder: Path, name: str, script: str) -> None:
    program = folder / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.parametrize("challenge", ["basic", "bearer"])
def test_a_registry_that_wants_a_login_gets_that_of_docker(
    server: LyingRegistry, place: Path, docker: Path, challenge: str
) -> None:
    server.challenge, server.login = challenge, LOGIN
    environ = write(docker, auths={server.host: {"auth": basic(*LOGIN)}})
    get(server.reference(upstream(), "setup"), place, environ=environ)
    assert (place / "0").read_bytes() == WEIGHTS


@pytest.mark.parametrize("challenge", ["basic", "bearer"])
def test_without_a_login_the_command_is_named(
    server: LyingRegistry, place: Path, docker: Path, challenge: str
) -> None:
    server.challenge, server.login = challenge, LOGIN
    other = {"registry.example": {"auth": basic(*LOGIN)}}
    error = refused(server.reference(upstream()), place, environ=write(docker, auths=other))
    assert error.details["status"] == 401
    assert f"docker login {server.host}" in (error.hint or "")
    assert isinstance(error, UnreachableError)  # so a registry says that it has no such image


@pytest.mark.parametrize("challenge", ["basic", "bearer"])
def test_a_wrong_login_is_said_to_be_one(
    server: LyingRegistry, place: Path, docker: Path, challenge: str
) -> None:
    server.challenge, server.login = challenge, LOGIN
    environ = write(docker, auths={server.host: {"auth": basic("me", "wrong")}})
    error = refused(server.reference(upstream()), place, environ=environ)
    assert f"docker logout {server.host}" in (error.hint or "")
    assert not isinstance(error, UnreachableError)  # no reason for a fallback
    assert "wrong" not in error.message


def test_an_identity_token_is_exchanged_for_an_access_token(
    server: LyingRegistry, place: Path, docker: Path
) -> None:
    server.challenge, server.login, server.identity = "bearer", LOGIN, "long-lived"
    entry = {"auth": basic("<token>", ""), "identitytoken": "long-lived"}
    get(
        server.reference(upstream(), "setup"),
        place,
        environ=write(docker, auths={server.host: entry}),
    )
    [asked] = [request for request in server.requests if request["path"] == "/token"]
    assert "grant_type=refresh_token" in asked["body"]
    assert "authorization" not in asked


def test_a_helper_is_asked_for_the_registry(
    server: LyingRegistry, place: Path, docker: Path
) -> None:
    server.challenge, server.login = "bearer", LOGIN
    answer = json.dumps({"ServerURL": server.host, "Username": LOGIN[0], "Secret": LOGIN[1]})
    helper(docker, "keys", f"read host; [ $host = {server.host} ] && echo '{answer}'")
    environ = write(docker, credHelpers={server.host: "keys"}, credsStore="absent")
    get(server.reference(upstream(), "setup"), place, environ=environ)
    assert (place / "0").read_bytes() == WEIGHTS


def test_a_helper_may_give_an_identity_token(docker: Path) -> None:
    helper(docker, "keys", """echo '{"Username": "<token>", "Secret": "t"}'""")
    environ = write(docker, credsStore="keys", auths={"host": {}})
    assert credentials_for("host", environ) == (Credentials(identity_token="t"), "")


def test_docker_hub_has_its_own_key(docker: Path) -> None:
    environ = write(docker, auths={"https://index.docker.io/v1/": {"auth": basic("me", "x")}})
    assert credentials_for("registry-1.docker.io", environ) == (Credentials("me", "x"), "")
    assert credentials_for("ghcr.io", environ) == (None, "")


def test_a_store_without_that_registry_leaves_the_file(docker: Path) -> None:
    helper(docker, "keys", "echo 'credentials not found'; exit 1")
    environ = write(docker, credsStore="keys", auths={"host": {"auth": basic("me", "x")}})
    assert credentials_for("host", environ) == (Credentials("me", "x"), "")


@pytest.mark.parametrize(
    "script",
    ["sleep 9", "echo nonsense", "echo '{}'", "echo '[[[[['", """echo '{"Username": 1}'"""],
)
def test_a_bad_helper_is_named_and_bounded_in_time(docker: Path, script: str) -> None:
    helper(docker, "bad", f"PATH=/usr/bin:/bin; {script}")
    known, problem = credentials_for("host", write(docker, credsStore="bad"), timeout_s=0.5)
    assert known is None
    assert "docker-credential-bad" in problem


@pytest.mark.parametrize("name", ["../evil", "sub/evil", "a b"])
def test_a_helper_is_a_program_of_dockers_own_name(
    docker: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What lies in the working directory is not run, whatever its name."""
    monkeypatch.chdir(docker)
    program = docker / f"docker-credential-{name}"
    program.parent.mkdir(exist_ok=True)
    program.write_text('#!/bin/sh\necho \'{"Username": "me", "Secret": "x"}\'\n')
    program.chmod(0o755)
    known, problem = credentials_for("host", write(docker, credsStore=name))
    assert known is None
    assert str(docker / "config.json") in problem


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"auths": 3}', '{"auths": {"host": 3}}', "[" * 100_000]
)
def test_broken_settings_are_no_credentials(docker: Path, text: str) -> None:
    environ = write(docker)
    (docker / "config.json").write_text(text)
    assert credentials_for("host", environ)[0] is None


@pytest.mark.parametrize("auth", ["", "x", "bWU=", "b\u00e4", "//79"])
def test_a_broken_entry_is_no_credentials(docker: Path, auth: str) -> None:
    environ = write(docker, auths={"host": {"auth": auth}})
    assert credentials_for("host", environ) == (None, "")


def test_the_home_has_the_settings_by_default(docker: Path) -> None:
    environ = write(docker, auths={"host": {"username": "me", "password": "x"}})
    (docker / "config.json").rename(docker.parent / "config.json")
    (docker.parent / ".docker").mkdir()
    (docker.parent / "config.json").rename(docker.parent / ".docker" / "config.json")
    del environ["DOCKER_CONFIG"]
    known, _ = credentials_for("host", {**environ, "HOME": str(docker.parent)})
    assert known == Credentials("me", "x")


def test_a_secret_is_in_no_text_of_the_object() -> None:
    assert "x" not in repr(Credentials("me", password="x", identity_token="x", registry_token="x"))


def test_a_token_that_expires_is_asked_for_anew(server: LyingRegistry, place: Path) -> None:
    parts = upstream()
    server.challenge, server.uses = "bearer", 3  # manifest, config, the first half of the layer
    layer = parts.layers[1]
    server.lies[layer] = [Answer(parts.contents[layer], cut_after=100, etag=f'"{layer}"')]
    get(server.reference(parts, "setup"), place)
    assert (place / "0").read_bytes() == WEIGHTS
    assert len(server.paths("/token")) == 2
    resumed = server.requests[-1]
    assert (resumed["range"], resumed["authorization"]) == ("bytes=100-", "Bearer token-1")


@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_to_another_host_loses_the_credentials(
    server: LyingRegistry, place: Path, docker: Path, status: int
) -> None:
    parts = upstream()
    server.challenge, server.login = "bearer", LOGIN
    layer = parts.layers[1]
    environ = write(docker, auths={server.host: {"auth": basic(*LOGIN)}})
    with lying_server([Answer(parts.contents[layer])]) as store:
        url = store.url.replace("127.0.0.1", "localhost")
        server.lies[layer] = [Answer(b"", status=status, location=f"{url}/signed?key=1")]
        get(server.reference(parts, "setup"), place, environ=environ)
        assert (place / "0").read_bytes() == WEIGHTS
        assert "authorization" in server.requests[-1]
        assert [request["path"] for request in store.requests] == ["/signed?key=1"]
        assert "authorization" not in store.requests[0]


def test_a_401_of_the_host_redirected_to_gets_no_credentials(
    server: LyingRegistry, place: Path, docker: Path
) -> None:
    parts = upstream()
    layer = parts.layers[1]
    trap = Answer(b"", status=401, extra=(("WWW-Authenticate", 'Basic realm="give"'),))
    environ = write(docker, auths={server.host: {"auth": basic(*LOGIN)}})
    with lying_server([trap]) as store:
        server.lies[layer] = [Answer(b"", status=307, location=f"{store.url}/x")]
        assert refused(server.reference(parts, "setup"), place, environ=environ)
        assert all("authorization" not in request for request in store.requests)


@pytest.mark.parametrize(
    ("url", "realm", "asked"),
    [
        ("https://registry.example", "http://tokens.example/t", False),
        ("https://registry.example", "ftp://tokens.example/t", False),
        ("https://registry.example", "https://tokens.example/t", True),
        ("http://mirror.example", "http://tokens.example/t", True),
    ],
)
def test_a_token_service_has_tls_if_the_registry_has(url: str, realm: str, asked: bool) -> None:
    """No server of a test can have TLS that is trusted, so their answers are made up."""
    requests = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        if request.url.host == "tokens.example":
            return httpx2.Response(200, json={"token": "t"})
        known = request.headers.get("authorization") == "Bearer t"
        challenge = {"WWW-Authenticate": f'Bearer realm="{realm}"'}
        return httpx2.Response(200 if known else 401, headers=challenge)

    endpoint = Endpoint(f"{url}/v2/a/b", url.partition("://")[2], "a/b")
    with httpx2.Client(transport=httpx2.MockTransport(answer)) as client:
        session = Session(client, endpoint, lambda: Credentials("me", "x"))
        request = session.build_request("GET", f"{url}/v2/a/b/manifests/x", headers={})
        if asked:
            assert session.send(request, stream=True).status_code == 200
        else:
            with pytest.raises(GiveUp):
                session.send(request, stream=True)
    assert [request.url.host == "tokens.example" for request in requests].count(True) == asked


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"token": 1}', b'{"token": "a\\nb"}', b"x" * (2 << 20)]
)
def test_a_token_service_that_lies_is_refused(
    server: LyingRegistry, place: Path, body: bytes
) -> None:
    server.challenge = "bearer"
    server.lies["token"] = [Answer(body)]
    assert refused(server.reference(upstream()), place).details["status"] == 401


def test_a_token_service_that_is_busy_is_asked_again(server: LyingRegistry, place: Path) -> None:
    server.challenge = "bearer"
    pauses: list[float] = []
    server.lies["token"] = [Answer(b"", status=429, extra=(("Retry-After", "9"),))]
    get(server.reference(upstream(), "setup"), place, sleep=pauses.append)
    assert pauses == [9.0]
    assert (place / "0").read_bytes() == WEIGHTS
