"""Unusual and hostile input over the wire gets a clear answer, and the engine keeps serving."""

from __future__ import annotations

import base64
import io
import json
import socket
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

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
FORM = photograph_form(PORTRAIT)
HEAD = (
    f"POST /find_faces HTTP/1.1\r\nHost: x\r\nContent-Type: {MULTIPART}\r\n"
    "Content-Length: {length}\r\n\r\n"
)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(CF_BODY_TIMEOUT_S="1", CF_MAX_BODY_BYTES="4000000") as engine:
        yield engine


@pytest.fixture(autouse=True)
def serves_on(engine: Engine) -> Iterator[None]:
    """After every test the same process still detects the face."""
    yield
    assert engine.alive
    reply = engine.find(PORTRAIT)
    assert reply.status == 200
    assert len(reply.json()["result"]) == 1


def talk(engine: Engine, *pieces: bytes, end: bool = False) -> bytes:
    """Sends raw bytes on one connection and returns all received bytes until it is closed."""
    with socket.create_connection(("127.0.0.1", engine.port), timeout=30) as wire:
        try:
            for piece in pieces:
                wire.sendall(piece)
            if end:
                wire.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass
        response = b""
        try:
            while got := wire.recv(65536):
                response += got
        except ConnectionResetError:
            pass
        return response


def head(length: int) -> bytes:
    return HEAD.format(length=length).encode()


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def portrait() -> Image.Image:
    return Image.open(io.BytesIO(PORTRAIT)).convert("RGB")


def bomb(side: int) -> bytes:
    """A PNG of side x side pixels in a few hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    size = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


BROKEN = "400 Bad Request: Image has incorrect format or is broken"
NO_FACE = "400 Bad Request: No face is found in the given image"


def refusal(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.json()["message"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"only text",
        b"\xff\xd8\xff" + bytes(1000),
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n",
        bytes(5000),
    ],
)
def test_other_data_than_a_picture_is_refused(engine: Engine, data: bytes) -> None:
    assert refusal(engine.find(data)) == (400, BROKEN)


def test_a_picture_truncated_in_its_data_is_decoded_as_far_as_it_goes(engine: Engine) -> None:
    reply = engine.find(PORTRAIT[: len(PORTRAIT) * 8 // 10])
    assert reply.status == 200
    assert reply.headers["x-image-truncated"] == "true"


def test_a_picture_truncated_in_its_header_is_refused(engine: Engine) -> None:
    assert engine.find(PORTRAIT[:150]).status in (400, 422)


def test_a_decompression_bomb_is_refused_by_its_header_over_http(engine: Engine) -> None:
    before = engine.resident_bytes()
    status, text = refusal(engine.find(bomb(30_000)))
    assert status == 422
    assert "900000000 pixels" in text
    assert engine.resident_bytes() - before < 100_000_000


def test_uncommon_picture_formats_are_decoded(engine: Engine) -> None:
    picture = portrait()
    gray = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    frames = [picture, Image.new("RGB", picture.size)]
    kinds = {
        "cmyk": encoded(picture.convert("CMYK"), "JPEG"),
        "16 bit": encoded(Image.fromarray(gray), "PNG"),
        "animated": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "gray with alpha": encoded(picture.convert("LA"), "PNG"),
        "tiff": encoded(picture, "TIFF"),
    }
    for name, data in kinds.items():
        reply = engine.find(data)
        assert reply.status == 200, name
        assert len(reply.json()["result"]) == 1, name


@pytest.mark.parametrize("size", [(1, 1), (12, 12), (3000, 2), (2, 3000)])
def test_tiny_and_narrow_pictures_have_no_face(engine: Engine, size: tuple[int, int]) -> None:
    assert refusal(engine.find(encoded(Image.new("RGB", size), "PNG"))) == (400, NO_FACE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_ignored(engine: Engine, orientation: int) -> None:
    tags = Image.Exif()
    tags[0x0112] = orientation
    plain = engine.find(encoded(portrait(), "JPEG", quality=90)).json()["result"]
    turned = engine.find(encoded(portrait(), "JPEG", quality=90, exif=tags)).json()["result"]
    assert [face["box"] for face in turned] == [face["box"] for face in plain]


def test_base64_gives_the_answer_of_the_file(engine: Engine) -> None:
    body = json.dumps({"file": base64.b64encode(PORTRAIT).decode()}).encode()
    reply = engine.request("POST", "/find_faces_base64", body, {"Content-Type": "application/json"})
    want = engine.find(PORTRAIT).json()["result"][0]["box"]
    assert reply.json()["result"][0]["box"] == want


def test_a_form_without_a_file_is_refused(engine: Engine) -> None:
    body = multipart([part("image", PORTRAIT, "a.jpg")])
    reply = engine.request("POST", "/scan_faces", body, {"Content-Type": MULTIPART})
    assert refusal(reply) == (400, "400 Bad Request: No file is attached")


def test_a_chunked_body_is_answered_and_the_connection_closed(engine: Engine) -> None:
    start = HEAD.replace("Content-Length: {length}", "Transfer-Encoding: chunked").encode()
    chunk = b"%x\r\n%b\r\n" % (len(FORM), FORM)
    response = talk(engine, start, chunk, b"0\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 400 ")
    assert b"No file is attached" in response


def test_a_chunked_body_without_end_is_cut_off(engine: Engine) -> None:
    start = HEAD.replace("Content-Length: {length}", "Transfer-Encoding: chunked").encode()
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    assert b"No file is attached" in talk(engine, start, *[chunk] * 2000)


def test_a_body_over_the_limit_is_refused_before_it_is_read(engine: Engine) -> None:
    response = talk(engine, head(5_000_000_000), *[bytes(100_000)] * 100)
    assert response.startswith(b"HTTP/1.1 413 ")
    assert b"4000000" in response


def test_a_stalled_body_times_out(engine: Engine) -> None:
    response = talk(engine, head(len(FORM)), FORM[:1000])
    assert response.startswith(b"HTTP/1.1 408 ")
    assert b"cache-control" in response


def test_a_body_shorter_than_announced_times_out(engine: Engine) -> None:
    talk(engine, head(len(FORM) + 10), FORM, end=True)


def test_a_body_longer_than_announced_is_cut_at_its_length(engine: Engine) -> None:
    response = talk(engine, head(len(FORM) - 10), FORM)
    assert response.startswith(b"HTTP/1.1 400 ")
    assert b"No file is attached" in response


def test_expect_100_continue_is_answered_with_100(engine: Engine) -> None:
    asked = head(len(FORM)).replace(
        b"\r\n\r\n", b"\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    response = talk(engine, asked, FORM)
    assert response.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_expect_100_continue_is_refused_for_a_body_over_the_limit(engine: Engine) -> None:
    start = head(5_000_000).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    response = talk(engine, start)
    assert response.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in response


@pytest.mark.parametrize(
    "bytes_sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"HELLO\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /status\r\n\r\n",
        b"GET /status HTTP/0.9\r\n\r\n",
        b"GET /status HTTP/2.0\r\n\r\n",
    ],
)
def test_invalid_http_gets_a_json_400(engine: Engine, bytes_sent: bytes) -> None:
    response = talk(engine, bytes_sent)
    assert response.startswith(b"HTTP/1.1 400 ")
    assert b'{"message":"400 Bad Request: ' in response
    assert b"\r\nx-request-id: " in response


@pytest.mark.parametrize("hosts", [b"", b"Host: a\r\nHost: b\r\n"])
def test_a_request_is_answered_whatever_its_host(engine: Engine, hosts: bytes) -> None:
    response = talk(engine, b"GET /status HTTP/1.1\r\nConnection: close\r\n" + hosts + b"\r\n")
    assert response.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_a_photograph_in_a_base64_part_is_read(engine: Engine, end: str) -> None:
    """As upstream's own `benchmark.sh` sends them."""
    lines = [
        "--b",
        'Content-Disposition: form-data; name="file"; filename="a.jpg"',
        "Content-Transfer-Encoding: base64",
        "",
        *base64.encodebytes(PORTRAIT).decode().splitlines(),
        "--b--",
    ]
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    reply = engine.request("POST", "/find_faces", end.join(lines).encode(), kind)
    assert reply.json()["result"][0]["box"] == engine.find(PORTRAIT).json()["result"][0]["box"]


def test_a_photograph_as_a_text_field_is_not_a_file(engine: Engine) -> None:
    body = multipart([part("file", PORTRAIT + bytes(100_000))])
    reply = engine.request("POST", "/find_faces", body, {"Content-Type": MULTIPART})
    assert refusal(reply) == (400, "400 Bad Request: No file is attached")


def test_endless_headers_are_refused(engine: Engine) -> None:
    line = b"X-Filler: " + b"a" * 1000 + b"\r\n"
    response = talk(engine, b"GET /status HTTP/1.1\r\nHost: x\r\n", *[line] * 2000)
    assert response.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("size", [17_000, 60_000, 1_000_000])
@pytest.mark.parametrize("place", ["one header", "many headers", "path"])
def test_a_head_over_16_kib_is_refused_with_an_id(engine: Engine, size: int, place: str) -> None:
    path, lines = b"/status", b""
    if place == "path":
        path += b"?" + b"a" * size
    elif place == "one header":
        lines = b"X-Filler: " + b"a" * size + b"\r\n"
    else:
        lines = (b"X-Filler: " + b"a" * 988 + b"\r\n") * (size // 1000)
    response = talk(engine, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")
    assert response.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert b"\r\nx-request-id: " in response
    assert b'{"message":"431 Request Header Fields Too Large: ' in response


def test_a_head_just_under_16_kib_is_read(engine: Engine) -> None:
    lines = b"X-Filler: " + b"a" * 16_000 + b"\r\nConnection: close\r\n\r\n"
    response = talk(engine, b"GET /status HTTP/1.1\r\nHost: x\r\n" + lines)
    assert response.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("path", "status", "allow"),
    [
        ("/find_faces", 405, b"OPTIONS, POST"),
        ("/status?a=b", 405, b"GET, HEAD, OPTIONS"),
        ("/nowhere", 404, b""),
    ],
)
def test_an_unknown_method_is_answered_like_an_unsupported_one(
    engine: Engine, path: str, status: int, allow: bytes
) -> None:
    response = talk(engine, f"BREW {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert response.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nallow: " + allow in response or not allow
    assert b"\r\nx-request-id: " in response


def test_pipelined_requests_are_answered_in_order(engine: Engine) -> None:
    ask = b"GET /%b HTTP/1.1\r\nHost: x\r\n%b\r\n"
    response = talk(
        engine,
        ask % (b"status", b"")
        + head(len(FORM))
        + FORM
        + ask % (b"healthcheck", b"Connection: close\r\n"),
    )
    places = [
        response.index(word) for word in (b"available_plugins", b"plugins_versions", b'"OK"}\n')
    ]
    assert response.count(b"HTTP/1.1 200 OK") == 3
    assert places[0] < places[1] < response.rindex(b'{"status":"OK"}\n')


def test_a_kept_connection_serves_many_requests(engine: Engine) -> None:
    import http.client

    wire = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=30)
    for number in range(4):
        body = FORM if number != 2 else FORM[:-8]
        wire.request("POST", "/find_faces", body, {"Content-Type": MULTIPART})
        answer = wire.getresponse()
        assert answer.status == (200 if number != 2 else 400)
        answer.read()
    wire.request("POST", "/status", bytes(300_000), {"Content-Type": MULTIPART})
    assert wire.getresponse().read().startswith(b'{"message":"405')
    wire.request("GET", "/status")
    assert wire.getresponse().status == 200
    wire.close()


def test_disconnected_clients_leak_nothing(engine: Engine) -> None:
    for keep in (len(FORM), len(FORM) // 2, 0):
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", engine.port), timeout=30) as wire:
                wire.sendall(head(len(FORM)) + FORM[:keep])
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert wait_until(lambda: engine.request("GET", "/ready").status == 200)


def test_head_has_the_length_and_no_body(engine: Engine) -> None:
    response = talk(engine, b"HEAD /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    top, _, body = response.partition(b"\r\n\r\n")
    assert body == b""
    length = len(engine.request("GET", "/status").body)
    assert f"content-length: {length}\r\n".encode() in top
