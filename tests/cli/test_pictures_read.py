"""What is named as a picture is read within bounds, and what is no file is not opened."""

from __future__ import annotations

import io
import os
import socket
import sys
import threading
from pathlib import Path

import pytest

from compreface_cli.engine.client import EngineClient
from compreface_cli.photos import pictures, scan
from compreface_cli.photos.pictures import MAX_BYTES, Picture, Unfit
from tests.cli.names import assert_named
from tests.cli.picture_engine import a_face, picture_engine


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    """A limit that a test can pass quickly."""
    monkeypatch.setattr(pictures, "MAX_BYTES", 1024 * 1024)
    return 1024 * 1024


def at(path: Path) -> Picture:
    return Picture(str(path), path)


def test_a_device_is_refused_as_a_picture() -> None:
    for device in ("/dev/zero", "/dev/null"):
        with pytest.raises(Unfit, match="device"):
            at(Path(device)).read()


def test_a_named_pipe_and_a_socket_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(Unfit, match="pipe"):
        at(tmp_path / "pipe.jpg").read()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        with pytest.raises(Unfit, match="socket"):
            at(tmp_path / "s").read()


def test_a_file_over_the_engines_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse.jpg").open("wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(Unfit, match=r"3072 MiB.*64 MiB"):
        at(tmp_path / "sparse.jpg").read()
    assert MAX_BYTES == 64 << 20


def test_a_file_at_the_limit_is_read(tmp_path: Path, small: int) -> None:
    (tmp_path / "a.jpg").write_bytes(bytes(small))
    assert len(at(tmp_path / "a.jpg").read()) == small


def test_standard_input_is_read_up_to_the_limit(
    monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    with Path("/dev/zero").open("rb") as endless:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(endless))
        with pytest.raises(Unfit, match=" 1 MiB"):
            Picture("standard input", None).read()


@pytest.mark.parametrize("folder", ["/dev/fd", "/proc/self/fd", f"/proc/{os.getpid()}/fd"])
@pytest.mark.parametrize("size", [10, 1024 * 1024 + 1])
def test_a_pipe_of_the_shell_is_read_up_to_the_limit(small: int, folder: str, size: int) -> None:
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb") as file:
            file.write(bytes(size))

    writer = threading.Thread(target=write)
    writer.start()
    picture = at(Path(folder) / str(reading))
    try:
        if size > small:
            with pytest.raises(Unfit, match=" 1 MiB"):
                picture.read()
        else:
            assert picture.read() == bytes(size)
    finally:
        while os.read(reading, 65536):
            pass
        writer.join()
        os.close(reading)


def test_what_cannot_be_sent_is_that_pictures_error_alone(tmp_path: Path) -> None:
    with picture_engine() as engine, EngineClient(engine.url) as client:
        engine.answers[b"picture"] = [[a_face()]]
        (tmp_path / "a.jpg").write_bytes(b"picture")
        named = pictures.gather(["/dev/zero", str(tmp_path / "a.jpg")]).pictures
        device, picture = scan.scan(client, named, [])
    assert_named(device.error, "device")
    assert (picture.error, len(picture.faces)) == (None, 1)
    assert len(engine.asked) == 1
