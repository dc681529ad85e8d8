"""The rendered routes in a real nginx: what is closed stays closed, however it is spelt."""

from __future__ import annotations

import json
import re
import socket
import uuid
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote

import pytest

from tests.cli.test_render import project
from tests.e2e.machine import REGISTRY, STANDINS, TAG, Docker, wait_until

SERVICES = ("admin", "api", "core")
DEMO_KEYS = tuple(f"00000000-0000-0000-0000-00000000000{number}" for number in (2, 3, 4))
OWN_KEY = "11111111-2222-3333-4444-555555555555"
# A service that answers with the request line that reached it.
ECHO = """
import http.server, json, sys
class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = json.dumps({"service": sys.argv[1], "method": self.command, "path": self.path})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode() if self.command != "HEAD" else b"")
    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = answer
http.server.ThreadingHTTPServer(("", int(sys.argv[2])), Echo).serve_forever()
"""


class Answer(NamedTuple):
    status: int
    body: bytes

    @property
    def reached(self) -> dict[str, str]:
        """The request as a service got it; empty if nginx answered."""
        try:
            document = json.loads(self.body)
        except ValueError:
            return {}
        return document if isinstance(document, dict) and "service" in document else {}


@pytest.fixture(scope="module")
def ports(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, int]]:
    """The port of an nginx with the default routes (False), and with open ones (True)."""
    image = docker.build(STANDINS, f"{REGISTRY}compreface-fe:{TAG}", "--target=compreface-fe")
    name = f"cf-e2e-routes-{uuid.uuid4().hex[:8]}"
    docker("network", "create", name)
    started = {}
    try:
        for service in SERVICES:
            port = "3000" if service == "core" else "8080"
            docker(
                *("run", "--detach", f"--name={name}-{service}", f"--network={name}"),
                *(f"--network-alias=compreface-{service}", "--entrypoint=python3", image),
                *("-u", "-c", ECHO, service, port),
            )
        for opened in (False, True):
            folder = tmp_path_factory.mktemp("routes")
            file = folder / "nginx.conf.template"
            file.write_text(str(project(open_routes=opened).files["ui/nginx.conf.template"]))
            container = f"{name}-{opened}".lower()
            docker(
                *("run", "--detach", f"--name={container}", f"--network={name}"),
                *("--publish=127.0.0.1::80", "--env=CLIENT_MAX_BODY_SIZE=10M"),
                *("--env=PROXY_READ_TIMEOUT=60s", "--env=PROXY_CONNECT_TIMEOUT=10s"),
                f"--volume={file}:/etc/nginx/templates/nginx.conf.template:ro",
                image,
            )
            started[opened] = int(docker("port", container, "80").splitlines()[0].split(":")[1])
        for port_ in started.values():
            wait_until(lambda port_=port_: _answers(port_))  # type: ignore[misc]
        yield started
    finally:
        docker.sweep(name)


def ask(port: int, path: str, method: str = "GET", *headers: str) -> Answer:
    """Send the request line as it is written here; no client library corrects it."""
    head = [f"{method} {path} HTTP/1.1", "Host: ui", "Connection: close", "Content-Length: 0"]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall("\r\n".join([*head, *headers, "", ""]).encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head_, _, body = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head_.lower():
        body = b"".join(re.findall(rb"\r\n(.*)\r\n0\r\n", b"\r\n" + body, re.DOTALL))
        body = body.partition(b"\r\n")[2]
    return Answer(int(head_.split()[1]), body)


def as_tomcat_reads(path: str) -> str:
    """The path that a controller is chosen by: without parameters, decoded, normalised."""
    path = path.partition("?")[0]
    path = unquote("/".join(part.partition(";")[0] for part in path.split("/")))
    parts: list[str] = []
    for part in path.replace("\\", "/").split("/"):
        if part == "..":
            parts[-1:] = []
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def _answers(port: int) -> bool:
    try:
        return ask(port, "/admin/status").status == 200
    except (OSError, IndexError):
        return False


CLOSED = (
    ("POST", "/core/find_faces"),
    ("GET", "/core/status/"),
    ("GET", "/core/metrics"),
    ("GET", "/core/"),
    ("POST", "/api/v1/migrate"),
    ("GET", "/admin/user/demo/model"),
)
# What a client may make of a closed path: (what is replaced, what by).
SPELLINGS = (
    ("/", "//"),
    ("/", "/./"),
    ("/", "/x/../"),
    ("/", "/x/..;/"),
    ("/", "/x/..;a=b/"),
    ("/", "/x/%2e%2e/"),
    ("/", "/x/%2e%2e;/"),
    ("/", "/x/%2E%2E%3B/"),
    ("/", "/x/%252e%252e/"),
    ("/", "%2f"),
    ("/", "/%2f"),
    ("/", "/;/"),
    ("/", "/;x=y/"),
    ("/", "/%3b/"),
    ("/", "\\"),
    ("/", "%5c"),
    ("e", "%65"),
    ("e", "E"),
    ("s", "%73"),
    ("i", "%69"),
    ("o", "%6f"),
    ("o", "%256f"),
)
PREFIXES = (
    "/api/webjars/..;",
    "/api/webjars/..",
    "/api/webjars/%2e%2e;/..;",
    "/api/v2/api-docs/..;/..;",
    "/api/swagger-ui.html/..;",
    "/admin/webjars/..;",
    "/api/v1/static/..;/..;/..;",
    "/api/v1/config/../../..",
    "/api/v1/consistence/status;/..;/..;/..;/..;",
    "/api/v1/..;/..;",
    "/admin/status/..;/..;",
    "/core/status/../..",
    "/core/status/..;/..;",
    "/;",
    "/.",
    "/",
)
ENDINGS = ("/", ";", ";x=y", "?x=y", "%3fx", "%20", "%09", ".json", "%23", "/.", "/x/..", "%2f")


def spellings(path: str) -> Iterator[str]:
    """The path in many ways, each of which a service behind nginx might read as the same."""
    yield path
    for plain, odd in SPELLINGS:
        places = [match.start() for match in re.finditer(re.escape(plain), path)]
        yield path.replace(plain, odd)
        for place in places:
            yield path[:place] + odd + path[place + len(plain) :]
    yield from (prefix + path for prefix in PREFIXES)
    yield from (path + ending for ending in ENDINGS)
    yield path.upper()
    yield f"http://ui{path}"


def forbidden(reached: dict[str, str]) -> bool:
    """Whether a service would take this request for one that is closed."""
    path = as_tomcat_reads(reached["path"]).lower().removesuffix("/")
    if reached["service"] == "core":
        return path != "/status" or reached["method"] not in ("GET", "HEAD")
    return path.startswith(("/api/v1/migrate", "/v1/migrate", "/admin/user/demo", "/user/demo"))


def test_closed_paths_reach_no_service_in_any_spelling(ports: dict[bool, int]) -> None:
    tried, reached = 0, 0
    for method, closed in CLOSED:
        assert ask(ports[True], closed, method).reached, closed  # the setting opens it
        plain = ask(ports[False], closed, method)
        assert plain.status in (403, 404), closed
        assert json.loads(plain.body)["message"]
        for path in dict.fromkeys(spellings(closed)):
            if " " in path:
                continue
            tried += 1
            there = ask(ports[False], path, method).reached
            reached += bool(there)
            assert not there or not forbidden(there), f"{method} {path} reached {there}"
    assert tried > 300
    assert reached  # some are other, harmless paths: the check above has seen them


def test_the_setting_is_named_by_what_it_opens(ports: dict[bool, int]) -> None:
    for method, path in (("POST", "/core/find_faces"), ("POST", "/api/v1/migrate")):
        message = json.loads(ask(ports[False], path, method).body)["message"]
        assert "CF_OPEN_ROUTES=true" in message


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "TRACE"])
def test_of_the_engine_only_its_status_can_be_read(ports: dict[bool, int], method: str) -> None:
    answer = ask(ports[False], "/core/status", method)
    expected = {"GET": 200, "HEAD": 200, "OPTIONS": 204, "TRACE": 405}.get(method, 403)
    assert answer.status == expected
    if method == "GET":
        assert answer.reached["path"] == "/status"
        # As browsers and `cf` may also ask it.
        assert ask(ports[False], "//core//status?x=1").reached["path"] == "/status?x=1"


@pytest.mark.parametrize("key", DEMO_KEYS)
def test_a_public_key_is_answered_like_an_unknown_one(ports: dict[bool, int], key: str) -> None:
    for kind in ("recognition", "detection", "verification"):
        path = f"/api/v1/{kind}/faces"
        for header in (f"x-api-key: {key}", f"X-API-KEY:   {key}  "):
            refused = ask(ports[False], path, "GET", header)
            said = f"{kind.capitalize()} service with API Key {key} not found"
            assert (refused.status, json.loads(refused.body)) == (
                404,
                {"message": said, "code": 10},
            )
        # Of two headers the api takes the first.
        assert not ask(
            ports[False], path, "GET", f"x-api-key: {key}", f"x-api-key: {OWN_KEY}"
        ).reached
        assert ask(ports[False], path, "GET", f"x-api-key: {OWN_KEY}").reached
        assert ask(ports[False], path).reached  # the api itself says that the key is missing
        assert ask(ports[True], path, "GET", f"x-api-key: {key}").reached
    image = f"/api/v1/static/{key}/images/{OWN_KEY}"
    assert ask(ports[False], image) == Answer(200, b"")  # as the api for what it does not have
    for path in dict.fromkeys(spellings(image)):
        there = ask(ports[False], path).reached.get("path", "")
        assert not as_tomcat_reads(there).startswith(f"/api/v1/static/{key}"), path
    assert ask(ports[False], f"/api/v1/static/{OWN_KEY}/images/{key}").reached
    assert ask(ports[True], image).reached


def test_all_other_routes_are_open(ports: dict[bool, int]) -> None:
    for method, path in (
        ("GET", "/admin/user/me"),
        ("POST", "/admin/oauth/token"),
        ("GET", "/admin/app/6f6b/model/77a1/statistics"),
        ("GET", "/api/v1/consistence/status"),
        ("GET", "/api/v1/config"),
        ("PUT", "/api/v1/recognition/subjects/migrate"),
        ("PUT", "/api/v1/recognition/subjects/J%C3%BCrgen%20%26%20%25%3F"),
        ("POST", "/api/v1/recognition/faces?subject=a;b&det_prob_threshold=0.8"),
        ("GET", f"/api/v1/static/{OWN_KEY}/images/{OWN_KEY}"),
        ("GET", "/api/swagger-ui.html"),
    ):
        ours, theirs = (ask(ports[opened], path, method) for opened in (False, True))
        assert ours.reached, path
        assert ours == theirs
