"""Multipart forms: what Werkzeug 1.0.1 accepts is accepted, at any size, in bounded time.

The expectations named `AS_THERE` were measured on Werkzeug 1.0.1 itself.
"""

from __future__ import annotations

import base64
import binascii
import time
import tracemalloc

import pytest

from compreface_engine.api.form import Form, boundary_of, read_form
from compreface_engine.core.errors import RequestError

PHOTOGRAPH = bytes(range(256)) * 3 + b"\r\n--boundar\r\n\xff\xd9"
FILE = b'Content-Disposition: form-data; name="file"; filename="a.jpg"'
LIMIT = b'Content-Disposition: form-data; name="limit"'
END = b"\r\n--boundary--\r\n"


def form(*parts: bytes, end: bytes = END) -> bytes:
    return b"".join(b"\r\n--boundary\r\n" + part for part in parts)[2:] + end


def read(body: bytes) -> Form:
    return read_form(body, b"boundary")


def refusal(body: bytes) -> tuple[int, str]:
    with pytest.raises(RequestError) as error:
        read(body)
    return error.value.status, str(error.value)


NO_FILE = (400, "400 Bad Request: No file is attached")

AS_THERE = {
    "plain": form(FILE + b"\r\n\r\n" + PHOTOGRAPH),
    "lines end with LF": b"--boundary\n" + FILE + b"\n\n" + PHOTOGRAPH + b"\n--boundary--\n",
    "lines end with CR": b"--boundary\r" + FILE + b"\r\r" + PHOTOGRAPH + b"\r--boundary--\r",
    "blanks after the boundary": (
        b"--boundary \t\r\n" + FILE + b"\r\n\r\n" + PHOTOGRAPH + b"\r\n--boundary--  \r\n"
    ),
    "empty lines before": b"\r\n\n \r\n" + form(FILE + b"\r\n\r\n" + PHOTOGRAPH),
    "no line end at the end": form(FILE + b"\r\n\r\n" + PHOTOGRAPH, end=b"\r\n--boundary--"),
    "more after the end": form(FILE + b"\r\n\r\n" + PHOTOGRAPH) + b"--boundary\r\nrubbish",
    "a folded header": form(FILE.replace(b"; ", b";\r\n ") + b"\r\n\r\n" + PHOTOGRAPH),
    "a header folded with a tab and LF": form(
        FILE.replace(b"; ", b";\n\t") + b"\n\r\n" + PHOTOGRAPH
    ),
    "17 headers": form(FILE + b"\r\nX-One: 1" * 17 + b"\r\n\r\n" + PHOTOGRAPH),
    "a thousand headers": form(b"X-One: 1\r\n" * 1000 + FILE + b"\r\n\r\n" + PHOTOGRAPH),
    "lines that are no headers": form(b"no colon\r\n" + FILE + b"\r\n:\r\n\r\n" + PHOTOGRAPH),
    "a long file name": form(FILE.replace(b"a.jpg", b"a" * 60_000) + b"\r\n\r\n" + PHOTOGRAPH),
    "a file name with ; and quotes": form(
        FILE.replace(b"a.jpg", rb"a\"; name=\"x;.jpg") + b"\r\n\r\n" + PHOTOGRAPH
    ),
    "no quotes": form(FILE.replace(b'"', b"") + b"\r\n\r\n" + PHOTOGRAPH),
    "a name beyond ASCII": form(
        FILE.replace(b'filename="a.jpg"', b"filename*=UTF-8''%C3%A4.jpg") + b"\r\n\r\n" + PHOTOGRAPH
    ),
    "a name in two pieces": form(
        FILE.replace(b'filename="a.jpg"', b'filename*0="a."; filename*1=jpg')
        + b"\r\n\r\n"
        + PHOTOGRAPH
    ),
    "the first header of a name counts": form(
        FILE + b'\r\nContent-Disposition: form-data; name="x"\r\n\r\n' + PHOTOGRAPH
    ),
    "another disposition": form(
        FILE.replace(b"form-data", b"attachment") + b"\r\n\r\n" + PHOTOGRAPH
    ),
    "base64 in lines of 76": form(
        FILE + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(PHOTOGRAPH)
    ),
    "base64 in one line": form(
        FILE + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.b64encode(PHOTOGRAPH)
    ),
    "base64, each line padded": form(
        FILE
        + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + b"\n".join(base64.b64encode(PHOTOGRAPH[i : i + 50]) for i in range(0, 782, 50))
    ),
    "quoted-printable": form(
        FILE
        + b"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        + binascii.b2a_qp(PHOTOGRAPH, istext=False)
    ),
    "binary": form(FILE + b"\r\nContent-Transfer-Encoding: binary\r\n\r\n" + PHOTOGRAPH),
}


@pytest.mark.parametrize("body", AS_THERE.values(), ids=AS_THERE.keys())
def test_a_photograph_is_parsed_as_in_werkzeug(body: bytes) -> None:
    parsed = read(body)
    assert bytes(parsed.file) == PHOTOGRAPH
    assert parsed.fields == {}


REFUSED_AS_THERE = {
    "no end": form(FILE + b"\r\n\r\n" + PHOTOGRAPH, end=b"\r\n--boundary\r\n"),
    "cut": form(FILE + b"\r\n\r\n" + PHOTOGRAPH, end=b""),
    "cut in a head": b"--boundary\r\n" + FILE,
    "cut after a head's line": b"--boundary\r\n" + FILE + b"\r\n",
    "garbage before": b"garbage\r\n" + form(FILE + b"\r\n\r\n" + PHOTOGRAPH),
    "no parts": b"--boundary--\r\n",
    "nothing": b"",
    "no disposition": form(b"Content-Type: image/jpeg\r\n\r\n" + PHOTOGRAPH),
    "a text field": form(b'Content-Disposition: form-data; name="file"\r\n\r\n' + PHOTOGRAPH),
    "a file name without value": form(FILE[:-8] + b"\r\n\r\n" + PHOTOGRAPH),
    "an empty encoded name": form(FILE[:-8] + b"*=UTF-8''\r\n\r\n" + PHOTOGRAPH),
    "base64 that is cut": form(FILE + b"\r\nContent-Transfer-Encoding: base64\r\n\r\nQUJDR"),
}


@pytest.mark.parametrize("body", REFUSED_AS_THERE.values(), ids=REFUSED_AS_THERE.keys())
def test_forms_without_a_file_in_werkzeug_have_none_here(body: bytes) -> None:
    assert refusal(body) == NO_FILE


def test_an_empty_file_name_is_refused_as_in_werkzeug() -> None:
    body = form(FILE.replace(b"a.jpg", b"") + b"\r\n\r\n" + PHOTOGRAPH)
    assert refusal(body) == (400, "400 Bad Request: No file is selected")


@pytest.mark.parametrize("size", [65_536, 65_537, 5_000_000])
def test_a_photograph_as_a_text_field_is_not_a_file_at_any_size(size: int) -> None:
    head = b'Content-Disposition: form-data; name="file"\r\n\r\n'
    assert refusal(form(head + bytes(size))) == NO_FILE
    other = b'Content-Disposition: form-data; name="comment"\r\n\r\n'
    assert read(form(other + bytes(size), FILE + b"\r\n\r\nx")).file == b"x"


def test_the_first_of_repeated_parameters_counts_as_in_werkzeug() -> None:
    parsed = read(
        form(
            LIMIT + b"\r\nContent-Transfer-Encoding: base64\r\n\r\nMTI=",
            LIMIT + b"\r\n\r\n3",
            LIMIT.replace(b"limit", b"face_plugins") + b"\r\n\r\nage,\xc3\xa4\xff\r\n",
            FILE + b"\r\n\r\n",
            LIMIT.replace(b'"limit"', b"detect_faces") + b"\r\n\r\n",
        )
    )
    assert parsed.fields == {"limit": "12", "face_plugins": "age,ä\ufffd\r\n", "detect_faces": ""}
    assert parsed.file == b""


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        (b"multipart/form-data; boundary=boundary", b"boundary"),
        (b'multipart/form-data; charset=utf-8; boundary="b o"', b"b o"),
        (b"multipart/form-data;boundary='()+_,-./:=?", b"'()+_,-./:=?"),
        # Capitals and a blank, which Werkzeug does not accept:
        (b"MULTIPART/FORM-DATA ; Boundary=Bo", b"Bo"),
    ],
)
def test_a_boundary_is_read(content_type: bytes, boundary: bytes) -> None:
    assert boundary_of(content_type) == boundary


MORE_THAN_THERE = {
    "capitals": FILE.replace(b"filename", b"FileName").replace(b"form-data", b"FORM-DATA"),
    "a blank before the semicolon": FILE.replace(b"; name", b" ; name"),
    "a file name in Latin 1": FILE.replace(b"a.jpg", b"\xe4.jpg"),
    "capitals of the encoding": FILE + b"\r\nContent-Transfer-Encoding: BINARY",
}


@pytest.mark.parametrize("head", MORE_THAN_THERE.values(), ids=MORE_THAN_THERE.keys())
def test_a_little_more_is_accepted_than_in_werkzeug(head: bytes) -> None:
    assert bytes(read(form(head + b"\r\n\r\n" + PHOTOGRAPH)).file) == PHOTOGRAPH


MEBIBYTE = 1024 * 1024
LARGE = 32 * MEBIBYTE
TOO_LONG_HEAD = (
    413,
    "413 Request Entity Too Large: The form's part headers have more than 262144 bytes",
)
TOO_MANY_PARTS = (413, "413 Request Entity Too Large: The form has more than 100 parts")
TOO_LONG_FIELD = (
    413,
    "413 Request Entity Too Large: The form field limit has more than 65536 bytes",
)
HOSTILE = {
    "parts": (form(*[LIMIT.replace(b"limit", b"x") + b"\r\n\r\n"] * 300_000), TOO_MANY_PARTS),
    "parts without end": (b"--boundary\r\n" * (LARGE // 12), TOO_LONG_HEAD),
    "headers": (form(b"a:\n" * (LARGE // 3)), TOO_LONG_HEAD),
    "a header": (form(b"a:" + b"b" * LARGE), TOO_LONG_HEAD),
    "folds": (form(b"a:b\n" + b" \n" * (LARGE // 2)), TOO_LONG_HEAD),
    "heads just below the bound": (
        form(*[FILE + b"\n" + b"a:\n \n" * 500 + b"\r\n"] * 99, end=b""),
        NO_FILE,
    ),
    "options": (
        form(*[FILE + b';a="\\";' * 300 + b"\r\n\r\n"] * 99, end=b""),
        NO_FILE,
    ),
    "lines like the boundary": (
        form(FILE + b"\r\n\r\n" + b"\n--boundary-" * (LARGE // 12)),
        NO_FILE,
    ),
    "the boundary within a line": (
        form(FILE + b"\r\n\r\n" + b"--boundary" * (LARGE // 10)),
        NO_FILE,
    ),
    "blanks after the boundary": (
        form(FILE + b"\r\n\r\n\r\n--boundary" + b" " * LARGE + b"x"),
        (0, ""),
    ),
    "blanks before": (b"\n" * LARGE, NO_FILE),
    "a long field": (form(LIMIT + b"\r\n\r\n" + b"1" * LARGE, FILE + b"\r\n\r\nx"), TOO_LONG_FIELD),
    "base64 padded everywhere": (
        form(FILE + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b"QQ==\n" * (LARGE // 5)),
        NO_FILE,
    ),
    "padding alone": (
        form(FILE + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b"=" * LARGE),
        (0, ""),
    ),
    "quoted-printable": (
        form(
            FILE
            + b"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
            + b"= \n" * (LARGE // 3)
        ),
        (0, ""),
    ),
}


@pytest.mark.parametrize(("body", "expected"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_form_costs_little_time_and_memory(
    body: bytes, expected: tuple[int, str]
) -> None:
    """`expected` (0, ""): it is read."""
    began = time.process_time()
    assert outcome(body) == expected
    assert time.process_time() - began < 4
    tracemalloc.start()
    try:
        outcome(body)
        assert tracemalloc.get_traced_memory()[1] < 3 * LARGE
    finally:
        tracemalloc.stop()


def outcome(body: bytes) -> tuple[int, str]:
    try:
        read(body)
    except RequestError as error:
        return error.status, str(error)
    return 0, ""


def test_a_repeated_boundary_is_parsed_in_linear_time() -> None:
    began = time.process_time()
    with pytest.raises(RequestError):
        read_form(b"-" * LARGE, b"-" * 15_000)
    with pytest.raises(RequestError):
        read_form(b"--b\n" + FILE + b"\n\n" + b"\n--b" * (LARGE // 4), b"b" * 99)
    assert time.process_time() - began < 4
