"""A mixed session leaves no personal data in the log and nothing on the disk."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from tests.contract.process import MULTIPART, Engine, multipart, part, wait_until
from tests.shared import ROOT

pytestmark = pytest.mark.slow

PORTRAIT = (ROOT / "compreface_cli" / "portraits" / "grace_hopper.jpg").read_bytes()
KEY = "key-of-a-caller"
SECRETS = ("secret-file", "secret-query", "secret-path", "secret-field", "secret-tag", KEY)


def with_tags(kind: str) -> bytes:
    """The portrait with a description in its metadata, as cameras and editors leave it."""
    tags = Image.Exif()
    tags[0x010E] = "secret-tag"
    out = io.BytesIO()
    Image.open(io.BytesIO(PORTRAIT)).save(out, kind, exif=tags)
    return out.getvalue()


def tree(folder: Path) -> set[tuple[str, int]]:
    return {(str(path), path.stat().st_mtime_ns) for path in folder.rglob("*")}


def session(engine: Engine) -> list[float]:
    """Sends good and bad requests of every kind; returns the values of the embeddings."""
    headers = {"Content-Type": MULTIPART, "X-Api-Key": KEY, "Authorization": f"Bearer {KEY}"}
    query = "face_plugins=calculator,landmarks,pose&a=secret-query"
    numbers: list[float] = []
    whole = (PORTRAIT, with_tags("JPEG"), with_tags("TIFF"), with_tags("PNG"))
    pictures = (*whole, PORTRAIT[:30_000], PORTRAIT[:100], b"garbage", b"")
    for picture in pictures:
        form = multipart(
            [part("note", b"secret-field"), part("file", picture, "secret-file.jpg", "image/jpeg")]
        )
        for path, body in (
            ("/find_faces", form),
            ("/scan_faces", form),
            ("/find_faces", form[:-9]),
        ):
            reply = engine.request("POST", f"{path}?{query}", body, headers)
            if reply.status == 200:
                for face in reply.json()["result"]:
                    numbers += face["embedding"]
        document = json.dumps({"file": base64.b64encode(picture).decode(), "name": "secret-file"})
        kind = {**headers, "Content-Type": "application/json"}
        for body in (document.encode(), document.encode()[:-1]):
            engine.request("POST", f"/find_faces_base64?{query}", body, kind)
    for bad in ("det_prob_threshold=secret-query", "limit=secret-query"):
        body = multipart([part("file", PORTRAIT, "secret-file.jpg")])
        engine.request("POST", f"/find_faces?{bad}", body, headers)
    for method, path in (("GET", "/secret-path?secret-query"), ("PUT", "/status?secret-query")):
        engine.request(method, path, None, headers)
    engine.request("GET", "/metrics", None, headers)
    return numbers


@pytest.mark.parametrize("level", ["debug", "notset", "info", "error"])
def test_no_personal_data_is_left_in_the_log_or_on_the_disk(level: str, tmp_path: Path) -> None:
    with Engine(
        LOGGING_LEVEL_NAME=level,
        HOME=str(tmp_path),
        TMPDIR=str(tmp_path),
        PYTHONDONTWRITEBYTECODE="1",
        CF_API_KEYS=f"{KEY},another-key-of-ours",
    ) as engine:
        files = tree(tmp_path)
        numbers = session(engine)
        assert len(numbers) > 1000
        counters = Path(f"/proc/{engine.process.pid}/io")  # Linux's counter for a process
        if counters.exists():
            assert "\nwrite_bytes: 0\n" in counters.read_text(), "it wrote to a disk"
        if level in ("debug", "notset"):
            assert wait_until(lambda: engine.log.count('"answered"') > 30)
        assert engine.stop() == 0
        if level != "error":
            assert '"/find_faces"' in engine.log
        assert tree(tmp_path) == files
        for secret in SECRETS:
            assert secret not in engine.log
        assert "another-key-of-ours" not in engine.log
        encoded = base64.b64encode(PORTRAIT).decode()
        for start in range(0, len(encoded) - 24, 2400):
            assert encoded[start : start + 24] not in engine.log
        assert not any(repr(number) in engine.log for number in numbers)
        for line in engine.log.splitlines():
            assert line.startswith(("{", "compreface-engine: ready")), line
            assert len(line) < 6000
