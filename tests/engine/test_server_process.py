"""The engine as a process: it starts or reports an error in one line, and drains at the end."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract.process import (
    MULTIPART,
    Engine,
    Reply,
    multipart,
    part,
    photograph_form,
    wait_until,
)
from tests.shared import ROOT

pytestmark = pytest.mark.slow

PORTRAIT = (ROOT / "compreface_cli" / "portraits" / "grace_hopper.jpg").read_bytes()


def refused(**variables: str) -> tuple[int, str]:
    """Exit code and stderr of an engine that must not start."""
    done = subprocess.run(
        [sys.executable, "-m", "compreface_engine"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "engine"), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_a_taken_port_is_reported_in_one_line() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        code, text = refused(CF_PORT=str(port))
    assert code == 4
    assert text.startswith(f"compreface-engine: port {port} on 127.0.0.1 is taken")
    assert "CF_PORT" in text
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"CF_HOST": "no.such.host.invalid"}, "CF_HOST=no.such.host.invalid: "),
        ({"CF_HOST": "192.0.2.1"}, "CF_HOST=192.0.2.1: "),
        ({"CF_PORT": "abc"}, "CF_PORT=abc: "),
        ({"CALCULATION_PLUGIN": "facenet.Calculator"}, "facenet.Calculator"),
        ({"FACE_DETECTION_PLUGIN": "insightface.FaceDetector"}, "insightface.FaceDetector"),
        ({"EXTRA_PLUGINS": "agegender.AgeDetector"}, "agegender.AgeDetector"),
        ({"CALCULATION_PLUGIN": "nonsense"}, "nonsense"),
    ],
)
def test_a_configuration_error_is_reported_in_one_line(
    variables: dict[str, str], name: str
) -> None:
    code, text = refused(**{"CF_PORT": "0", **variables})
    assert code == 3
    assert text.startswith("compreface-engine: ")
    assert name in text
    assert text.count("\n") == 1


def test_flags_are_refused_except_version() -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "compreface_engine", *arguments],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "engine")},
            capture_output=True,
            text=True,
            check=False,
        )

    assert run("--port", "3000").returncode == 2
    assert "CF_PORT" in run("--port", "3000").stderr
    assert run("--version").stdout.startswith("compreface-engine ")


def test_the_process_that_watches_the_engine_loads_no_numpy() -> None:
    code = "import sys, compreface_engine.__main__; sys.exit('numpy' in sys.modules)"
    env = {"PYTHONPATH": str(ROOT / "engine")}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_engine_with_exit_code_0_despite_a_kept_connection(number: int) -> None:
    with Engine() as engine:
        kept = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=30)
        kept.request("GET", "/healthcheck")
        assert kept.getresponse().read() == b'{"status":"OK"}\n'
        assert engine.stop(number) == 0
        kept.close()


def test_sigterm_drains_running_and_waiting_requests() -> None:
    with Engine(CF_MAX_CONCURRENCY="1") as engine, ThreadPoolExecutor(6) as pool:
        expected = engine.find(PORTRAIT).json()["result"][0]["box"]
        began = threading.Barrier(7)

        def ask(_: int) -> bytes:
            began.wait()
            reply = engine.find(PORTRAIT)
            assert reply.status == 200
            return reply.body

        def accepted() -> bool:
            return engine.log.count('"answered"') >= 2

        answers = [pool.submit(ask, number) for number in range(6)]
        began.wait()
        assert wait_until(accepted)
        assert engine.stop() == 0
        served = 0
        for answer in answers:
            try:
                assert expected["x_min"] == _box(answer.result())["x_min"]
                served += 1
            except ConnectionError:
                continue  # It had not been accepted when the port was closed.
        assert served >= 2


def _box(body: bytes) -> dict[str, int]:
    import json

    box: dict[str, int] = json.loads(body)["result"][0]["box"]
    return box


ENDLESS = """
import sys, time
from compreface_engine import __main__
from compreface_engine.api import server
from compreface_engine.pipeline import Pipeline
from tests.engine.fakes import FakePipeline

class Endless(FakePipeline):
    def scan(self, image, **rest):
        time.sleep(300)

server.CUT_OFF_S = 0.5
Pipeline.load = lambda config, *_: Endless()
sys.exit(__main__.main([]))
"""


def test_computations_beyond_the_drain_are_refused_and_abandoned() -> None:
    def ask(name: str) -> Reply:
        headers = {"Content-Type": MULTIPART, "X-Request-Id": name}
        return engine.request("POST", "/find_faces", photograph_form(b"1"), headers)

    settings = {"CF_MAX_CONCURRENCY": "2", "CF_DRAIN_S": "0.5"}
    with Engine("-c", ENDLESS, **settings) as engine, ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(ask, name) for name in ("one", "two", "waits")]
        assert wait_until(lambda: b"compreface_queue_length 1" in metrics(engine))
        assert engine.stop() == 0
        replies = [answer.result() for answer in answers]
    for name, reply in zip(("one", "two", "waits"), replies, strict=True):
        assert reply.status == 503
        assert reply.json()["message"].startswith("503 Service Unavailable: The engine is stopping")
        assert reply.headers["retry-after"]
        assert reply.headers["x-request-id"] == name
    assert "Traceback" not in engine.log
    assert engine.log.count('"answered"') == 3


def metrics(engine: Engine) -> bytes:
    return engine.request("GET", "/metrics").body


def test_sigterm_while_models_load_ends_the_engine_with_exit_code_0() -> None:
    engine = Engine()
    assert engine.stop() in (0, -signal.SIGTERM)


def test_logs_are_json_without_file_names_api_keys_and_queries() -> None:
    import json

    with Engine(LOGGING_LEVEL_NAME="debug", CF_TYPO="x") as engine:
        body = multipart([part("file", PORTRAIT, "private-name.jpg", "image/jpeg")])
        headers = {"Content-Type": MULTIPART, "X-Api-Key": "private-key"}
        path = "/find_faces?face_plugins=calculator&private=query"
        assert engine.request("POST", path, body, headers).status == 200
        assert engine.request("GET", "/private-path").status == 404
        assert engine.request("POST", path, body[:-9], headers).status == 400
        assert wait_until(lambda: engine.log.count('"answered"') == 3)
        engine.stop()
        assert "private" not in engine.log
        lines = [json.loads(line) for line in engine.log.splitlines() if line.startswith("{")]
        assert any("CF_TYPO" in line["message"] for line in lines)
        assert all(line["severity"] and line["time"] for line in lines)
        assert "0.0" not in "".join(line["message"] for line in lines)
