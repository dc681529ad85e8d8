"""The UI as a browser asks it: which route keeps its page waiting, and what then helps."""

from __future__ import annotations

import json
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from compreface_cli.checks import ui_routes
from compreface_cli.deploy import routes
from compreface_cli.project.targets.compose import UI_ROUTES
from tests.cli.certificates import Pair, pair

ADMIN, API, CORE = UI_ROUTES
OK = (200, {"status": "OK"})


@contextmanager
def serving(answers: Mapping[str, tuple[int, Any]], *, slow: str = "") -> Iterator[str]:
    """A server that answers each route so, and `slow` after three seconds."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == slow:
                time.sleep(3)
            status, document = answers.get(self.path, (404, {}))
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def encrypted(url: str, files: Pair) -> Iterator[str]:
    """The server at `url` behind TLS: an address with https."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    server = HTTPServer(("127.0.0.1", 0), partial(_Forward, url), bind_and_activate=True)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Forward(BaseHTTPRequestHandler):
    def __init__(self, url: str, *arguments: Any) -> None:
        self.behind = url
        super().__init__(*arguments)

    def do_GET(self) -> None:
        with urllib.request.urlopen(self.behind + self.path, timeout=5) as answer:
            body = answer.read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return


def test_over_tls_only_the_known_certificate_is_accepted(tmp_path: Path) -> None:
    mine, other = pair(tmp_path), pair(tmp_path, "other")
    with serving(dict.fromkeys(UI_ROUTES, OK)) as plain, encrypted(plain, mine) as url:
        assert routes.silent(url, certificate=str(mine.cert)) == {}
        foreign = routes.silent(url, certificate=str(other.cert))
        assert foreign == dict.fromkeys(UI_ROUTES, "it shows another certificate")
        absent = routes.silent(url, certificate=str(tmp_path / "absent"))
        assert absent == dict.fromkeys(UI_ROUTES, "no answer")


def test_three_right_answers_leave_nothing_to_say() -> None:
    with serving(dict.fromkeys(UI_ROUTES, OK)) as url:
        assert routes.silent(url) == {}
        assert ui_routes.judge("mine", url, {}).level == "ok"


def test_each_wrong_answer_is_named_with_what_came() -> None:
    page = b"<html>502 Bad Gateway</html>"
    waits = (200, {"status": "NOT_READY"})
    with serving({ADMIN: waits, API: (502, page), CORE: OK}) as url:
        assert routes.silent(url) == {ADMIN: "it reports 'NOT_READY'", API: "status 502"}
    with serving({ADMIN: OK, API: (200, page), CORE: (503, {"message": "503 ..."})}) as url:
        assert routes.silent(url) == {API: "status 200", CORE: "status 503"}


def test_all_three_are_asked_at_once_and_none_for_longer_than_allowed() -> None:
    with serving(dict.fromkeys(UI_ROUTES, OK), slow=API) as url:
        began = time.monotonic()
        assert routes.silent(url, timeout_s=0.5) == {API: "no answer"}
        assert time.monotonic() - began < 2.5


def test_where_nothing_listens_no_route_answers() -> None:
    with serving({}) as url:
        pass
    silent = routes.silent(url)
    assert set(silent) == set(UI_ROUTES)
    assert "--service fe" in ui_routes.judge("mine", url, silent).hint


def test_the_finding_names_the_instance_the_route_and_the_next_commands() -> None:
    found = ui_routes.judge("mine", "http://127.0.0.1:8000", {API: "status 502", CORE: "no answer"})
    assert (found.level, found.code) == ("fail", 8)
    for word in ("mine", "http://127.0.0.1:8000", f"{API} (status 502)", f"{CORE} (no answer)"):
        assert word in found.message
    assert "cf logs mine --service api" in found.hint
    assert "cf restart mine --all" in found.hint
