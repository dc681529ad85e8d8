"""The engine under a tight memory limit: every request is answered or asked to retry."""

from __future__ import annotations

import http.client
import io
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.contract.process import MULTIPART, Engine, photograph_form
from tests.engine.test_server_process import PORTRAIT, refused

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs ulimit -v and /proc"),
]

LIMITED = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
runpy.run_module("compreface_engine", run_name="__main__")
"""
MANY = 100


def picture(kind: str, width: int = 5472, height: int = 3648, **options: Any) -> bytes:
    """A smooth picture without a face."""
    plain = np.empty((height, width, 3), np.uint8)
    plain[..., 0] = np.linspace(0, 255, width)
    plain[..., 1] = np.linspace(255, 0, height)[:, None]
    plain[..., 2] = 90
    out = io.BytesIO()
    Image.fromarray(plain).save(out, kind, **options)
    return out.getvalue()


def asked_at_once(port: int, form: bytes) -> Counter[int]:
    """The number of answers by status; a request without an answer fails the test."""
    start = threading.Barrier(MANY)

    def ask(_: int) -> int:
        start.wait(60)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        try:
            connection.request("POST", "/find_faces", form, {"Content-Type": MULTIPART})
            reply = connection.getresponse()
            text = reply.read()
            assert reply.status != 503 or reply.headers["Retry-After"], text
            return int(reply.status)
        finally:
            connection.close()

    with ThreadPoolExecutor(MANY) as callers:
        return Counter(callers.map(ask, range(MANY)))


def memory(engine: Engine, name: str) -> int:
    lines = Path(f"/proc/{engine.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def test_a_hundred_large_pictures_in_2_gb_of_address_space_are_answered_or_refused() -> None:
    kinds = {
        "jpeg": picture("JPEG"),
        "png": picture("PNG", compress_level=6),
        "progressive": picture("JPEG", progressive=True, subsampling=0),
        "webp": picture("WEBP", quality=50, method=0),
    }
    # More workers than cores: without a budget eight of these would need 3 GB.
    limits = {"CF_MAX_CONCURRENCY": "8", "CF_MAX_WAIT_S": "3"}
    with Engine("-c", LIMITED, **limits) as engine:
        assert "2048 MiB" in engine.log
        for kind, data in kinds.items():
            statuses = asked_at_once(engine.port, photograph_form(data))
            assert statuses.keys() <= {400, 503}, kind
            assert statuses[400] >= 1, kind
        metrics = engine.request("GET", "/metrics").body.decode()
        assert 'compreface_refused_total{cause="pictures"}' in metrics
        assert 'compreface_refused_total{cause="pictures"} 0.0' not in metrics
        assert "compreface_picture_bytes 0.0" in metrics
        assert "compreface_picture_bytes_limit" in metrics
        assert engine.find(PORTRAIT).status == 200
        assert memory(engine, "VmPeak") < 2 << 30
        assert engine.stop() == 0
        assert "raceback" not in engine.log


def test_refused_pictures_leak_no_memory() -> None:
    plain = picture("JPEG")
    forms = {
        400: (photograph_form(plain), ""),
        422: (photograph_form(plain), "?det_prob_threshold=x"),
    }
    with Engine(CF_MAX_CONCURRENCY="2") as engine:
        portrait = io.BytesIO()
        Image.open(io.BytesIO(PORTRAIT)).resize((5000, 4000)).save(portrait, "JPEG")
        good = photograph_form(portrait.getvalue())

        def send(form: bytes, query: str, status: int) -> None:
            for _ in range(10):
                reply = engine.request(
                    "POST", f"/find_faces{query}", form, {"Content-Type": MULTIPART}
                )
                assert reply.status == status

        send(good, "", 200)
        before = memory(engine, "VmRSS")
        for status, (form, query) in forms.items():
            send(form, query, status)
        send(good, "?limit=abc", 400)
        send(good, "?det_prob_threshold=1", 400)
        send(photograph_form(plain[: len(plain) // 2]), "", 400)
        assert memory(engine, "VmRSS") - before < 30_000_000


def test_a_picture_beyond_a_configured_limit_is_refused_with_the_variable() -> None:
    with Engine(CF_MAX_MEMORY_BYTES=str(400 << 20)) as engine:
        assert "400 MiB (CF_MAX_MEMORY_BYTES)" in engine.log
        reply = engine.find(picture("WEBP", quality=50, method=0))
        assert reply.status == 422
        assert "CF_MAX_MEMORY_BYTES" in reply.json()["message"]
        assert engine.find(PORTRAIT).status == 200


def test_a_configured_limit_below_the_networks_memory_stops_the_start() -> None:
    code, text = refused(CF_PORT="0", CF_MAX_MEMORY_BYTES="1000000")
    assert code == 3
    last = text.splitlines()[-1]
    assert last.startswith("compreface-engine: CF_MAX_MEMORY_BYTES=1000000: ")


def test_a_network_releases_the_memory_of_a_large_picture() -> None:
    with Engine(IMG_LENGTH_LIMIT="0", CF_MAX_CONCURRENCY="1") as engine:
        assert engine.find(PORTRAIT).status == 200
        before = memory(engine, "VmRSS")
        assert engine.find(picture("JPEG", 3000, 2000)).status == 400
        assert memory(engine, "VmHWM") - before > 250_000_000
        assert memory(engine, "VmRSS") - before < 120_000_000
