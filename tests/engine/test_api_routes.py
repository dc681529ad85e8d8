"""The application without a server and without models: routes, parameters, errors, bytes."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from compreface_engine.admission import Gate
from compreface_engine.api.app import App
from compreface_engine.budget import Budget
from compreface_engine.settings import Settings
from tests.contract.process import MULTIPART, multipart, part, photograph_form
from tests.engine.fakes import AsgiReply, Caller, FakeDecoded, FakePipeline

CACHE = "max-age=0, no-cache, no-store, must-revalidate, proxy-revalidate"


class Service:
    """One application over a fake pipeline."""

    def __init__(self, **variables: str) -> None:
        self.pipeline = FakePipeline()
        self.settings = Settings.from_env(variables, cores=2)
        self.budget = Budget()

    def call(self, method: str, path: str, **request: Any) -> AsgiReply:
        async def once() -> AsgiReply:
            settings = self.settings
            gate = Gate(
                concurrency=settings.max_concurrency,
                max_queue=settings.max_queue,
                max_bytes=settings.max_queue_bytes,
                max_wait_s=settings.max_wait_s,
                max_body=settings.max_body_bytes,
                budget=self.budget,
            )
            app = App(settings, self.pipeline, gate)
            return await asyncio.wait_for(Caller(app, method, path, **request).run(), 20)

        return asyncio.run(once())

    def find(
        self, picture: bytes = b"2", query: str = "", path: str = "/find_faces", **fields: str
    ) -> AsgiReply:
        return self.call(
            "POST",
            path,
            query=query,
            headers={"Content-Type": MULTIPART},
            body=photograph_form(picture, **fields),
        )

    def find_base64(
        self, document: Any, query: str = "", kind: str = "application/json"
    ) -> AsgiReply:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.call(
            "POST", "/find_faces_base64", query=query, headers={"Content-Type": kind}, body=body
        )


@pytest.fixture
def service() -> Service:
    return Service()


def message(reply: AsgiReply) -> str:
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == CACHE
    text = reply.json()["message"]
    assert isinstance(text, str)
    return text


def test_status_is_the_bytes_of_the_contract_and_says_how_networks_run(service: Service) -> None:
    reply = service.call("GET", "/status")
    assert reply.body == (
        b'{"available_plugins":{"calculator":"fake.Calculator","detector":"fake.Detector"},'
        b'"build_version":"1.2.0","calculator_version":"fake.Calculator",'
        b'"runtimes":{"calculator":{"runtime":"fake"}},'
        b'"similarity_coefficients":[1.25,5.5],"status":"OK"}\n'
    )
    assert list(reply.headers)[:3] == ["content-type", "content-length", "cache-control"]
    assert list(reply.headers)[3:] == ["x-request-id"], "ours come after the original's"


def test_status_ignores_a_multipart_content_type_without_a_body(service: Service) -> None:
    reply = service.call("GET", "/status", headers={"Content-Type": "multipart/form-data"})
    assert reply.status == 200


@pytest.mark.parametrize("path", ["/healthcheck", "/healthcheck/", "/live", "/ready", "/ready/"])
def test_health_routes_answer_ok(service: Service, path: str) -> None:
    assert service.call("GET", path).body == b'{"status":"OK"}\n'


@pytest.mark.parametrize("path", ["/nowhere", "/", "/Status", "/status//", "/static/x", "//"])
def test_unknown_paths_are_404(service: Service, path: str) -> None:
    reply = service.call("GET", path)
    assert reply.status == 404
    assert message(reply).startswith("404 Not Found: The requested URL was not found on the server")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/find_faces", "OPTIONS, POST"),
        ("PUT", "/scan_faces", "OPTIONS, POST"),
        ("POST", "/status", "GET, HEAD, OPTIONS"),
        ("DELETE", "/live", "GET, HEAD, OPTIONS"),
    ],
)
def test_unsupported_methods_are_405_with_the_allow_header(
    service: Service, method: str, path: str, allow: str
) -> None:
    reply = service.call(method, path)
    assert reply.status == 405
    assert message(reply) == (
        "405 Method Not Allowed: The method is not allowed for the requested URL."
    )
    assert reply.headers["allow"] == allow


def test_options_names_the_methods(service: Service) -> None:
    reply = service.call("OPTIONS", "/find_faces/")
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["allow"] == "OPTIONS, POST"
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert service.call("OPTIONS", "/status").headers["allow"] == "GET, HEAD, OPTIONS"


def test_find_faces_prints_sorted_keys_and_widened_floats(service: Service) -> None:
    reply = service.find(b"1", "face_plugins=calculator")
    assert reply.body == (
        b'{"plugins_versions":{"calculator":"fake.Calculator","detector":"fake.Detector"},'
        b'"result":[{"box":{"probability":1.0,"x_max":1,"x_min":0,"y_max":1,"y_min":0},'
        b'"embedding":[0.10000000149011612,-9.999999747378752e-06,2.499999993688107e-07],'
        b'"execution_time":{"calculator":4,"detector":3}}]}\n'
    )


def test_scan_faces_always_embeds_and_hides_its_calculator(service: Service) -> None:
    answer = service.find(b"1", "face_plugins=pose&detect_faces=false", path="/scan_faces").json()
    assert answer["calculator_version"] == "ScannerWithPlugins"
    assert answer.keys() == {"calculator_version", "result"}
    assert answer["result"][0].keys() == {"box", "embedding", "execution_time"}
    assert service.pipeline.scans == [(None, True, frozenset({"calculator"}))]


def test_the_query_takes_precedence_over_the_form_and_the_first_value_counts(
    service: Service,
) -> None:
    assert len(service.find(b"3", "limit=1&limit=2", limit="3").json()["result"]) == 1
    assert len(service.find(b"3", limit="2").json()["result"]) == 2


@pytest.mark.parametrize(
    ("text", "faces"), [("", 3), ("0", 3), ("%202%20", 2), ("%2B1", 1), ("0_1", 1), ("9", 3)]
)
def test_limit_follows_pythons_int(service: Service, text: str, faces: int) -> None:
    assert len(service.find(b"3", f"limit={text}").json()["result"]) == faces


@pytest.mark.parametrize(
    ("text", "faces"),
    [
        ("1" * 5000, 3),
        ("0" * 5000, 3),
        (" +" + "0_" * 5000 + "2\n", 2),
        ("0" * 5000 + "\N{ARABIC-INDIC DIGIT ONE}", 1),
        ("-" + "0" * 5000, 3),
    ],
)
def test_a_limit_may_be_of_any_length(service: Service, text: str, faces: int) -> None:
    assert len(service.find(b"3", limit=text).json()["result"]) == faces


@pytest.mark.parametrize(
    ("text", "reason"),
    [("-" + "1" * 5000, "value"), ("1" * 5000 + "x", "format"), ("1_" * 5000, "format")],
)
def test_an_invalid_long_limit_is_refused_like_a_short_one(
    service: Service, text: str, reason: str
) -> None:
    text = message(service.find(b"3", limit=text))
    assert text == f"400 Bad Request: Limit {reason} is invalid (limit >= 0)"


@pytest.mark.parametrize("text", ["1.5", "1e1", "abc", "%20"])
def test_a_limit_that_is_no_integer_is_refused(service: Service, text: str) -> None:
    reply = service.find(b"3", f"limit={text}&face_plugins=calculator")
    assert reply.status == 400
    assert message(reply) == "400 Bad Request: Limit format is invalid (limit >= 0)"
    assert service.pipeline.scans == [(None, True, frozenset())], "embeddings were computed"


def test_a_negative_limit_is_refused(service: Service) -> None:
    reply = service.find(b"3", "limit=-1")
    assert message(reply) == "400 Bad Request: Limit value is invalid (limit >= 0)"


def test_no_face_takes_precedence_over_a_bad_limit(service: Service) -> None:
    reply = service.find(b"0", "limit=abc")
    assert reply.status == 400
    assert message(reply) == "400 Bad Request: No face is found in the given image"


@pytest.mark.parametrize(
    ("text", "threshold"),
    [("0", 0.0), ("1", 1.0), (".5", 0.5), ("1e-1", 0.1), ("%200.5%20", 0.5), ("0_1", 1.0)],
)
def test_threshold_follows_pythons_float(service: Service, text: str, threshold: float) -> None:
    assert service.find(b"1", f"det_prob_threshold={text}").status == 200
    assert service.pipeline.scans[0][0] == threshold


@pytest.mark.parametrize("text", ["1.5", "-0.1", "nan", "inf"])
def test_a_threshold_out_of_range_is_400(service: Service, text: str) -> None:
    reply = service.find(b"1", f"det_prob_threshold={text}")
    assert reply.status == 400
    assert message(reply) == (
        "400 Bad Request: Detection threshold incorrect (0 <= det_prob_threshold <= 1)"
    )


@pytest.mark.parametrize("text", ["", "abc", "0,9"])
def test_a_threshold_that_is_no_number_is_422(service: Service, text: str) -> None:
    reply = service.find(b"1", f"det_prob_threshold={text}")
    assert reply.status == 422
    assert message(reply) == (
        f"422 Unprocessable Entity: det_prob_threshold is not a number: {text!r}"
    )


def test_error_texts_are_ascii_and_short(service: Service) -> None:
    reply = service.find(b"1", "det_prob_threshold=%C3%A4" + "x" * 500)
    assert reply.body.isascii()
    assert len(reply.body) < 200


def test_a_broken_picture_takes_precedence_over_a_bad_threshold(service: Service) -> None:
    reply = service.find(b"!", "det_prob_threshold=7&limit=abc")
    assert reply.status == 400
    assert message(reply) == "400 Bad Request: Image has incorrect format or is broken"


@pytest.mark.parametrize(
    ("text", "slugs"),
    [
        ("", set()),
        ("calculator", {"calculator"}),
        (",,pose%20landmarks,", {"pose", "landmarks"}),
        ("Calculator", {"Calculator"}),
    ],
)
def test_plugins_are_split_at_commas_and_blanks(
    service: Service, text: str, slugs: set[str]
) -> None:
    service.find(b"1", f"face_plugins={text}")
    assert service.pipeline.scans[0][2] == slugs


@pytest.mark.parametrize(
    ("text", "detect"), [("false", False), ("False", True), ("0", True), ("", True)]
)
def test_only_the_word_false_switches_detection_off(
    service: Service, text: str, detect: bool
) -> None:
    service.find(b"1", f"detect_faces={text}")
    assert service.pipeline.scans[0][1] is detect


def test_a_failed_request_without_detection_does_not_affect_the_next(service: Service) -> None:
    service.find(b"1", "detect_faces=false&limit=abc")
    service.find(b"1")
    assert [detect for _, detect, _ in service.pipeline.scans] == [False, True]


def test_a_truncated_picture_is_answered_with_a_header(service: Service) -> None:
    assert service.find(b"~1").headers["x-image-truncated"] == "true"
    assert "x-image-truncated" not in service.find(b"1").headers
    assert service.find(b"~0").headers["x-image-truncated"] == "true"
    assert "x-image-truncated" not in service.find(b"0").headers


def test_an_internal_error_is_500_without_details(service: Service) -> None:
    reply = service.find(b"X")
    assert reply.status == 500
    assert reply.headers["x-request-id"] in message(reply)
    assert "secret" not in message(reply)


@pytest.mark.parametrize("words", ["", "false"])
def test_out_of_memory_is_503_without_details_of_the_picture(words: str, caplog: Any) -> None:
    reply = Service(CF_RETRY_AFTER=words).find(b"M")
    assert reply.status == 503
    assert "out of memory" in message(reply)
    assert ("retry-after" in reply.headers) == (words == "")
    assert "secret" not in message(reply)
    (record,) = caplog.records
    assert "out of memory" in record.message


def test_a_picture_beyond_the_budget_is_422_and_names_the_variable() -> None:
    service = Service()
    service.budget = Budget(5000)
    reply = service.find(b"2" * 6)
    assert reply.status == 422
    assert "CF_MAX_MEMORY_BYTES" in message(reply)
    assert service.find(b"2" * 5).status == 200
    # A JSON body is held twice more, as text and as the file in it.
    encoded = {"file": base64.b64encode(b"2" * 5).decode()}
    assert service.find_base64(encoded).status == 422
    assert service.budget.used == 0


@pytest.mark.parametrize(
    ("picture", "query", "status"),
    [
        (b"2", "", 200),
        (b"0", "", 400),
        (b"2", "limit=abc", 400),
        (b"0", "limit=abc", 400),
        (b"2", "det_prob_threshold=x", 422),
        (b"~0", "", 400),
    ],
)
def test_no_picture_stays_in_memory_after_its_answer(
    service: Service, picture: bytes, query: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = service.pipeline.decode
    pictures: list[weakref.ref[Any]] = []

    def watched(data: bytes | memoryview, reserve: Callable[[int], None]) -> FakeDecoded:
        decoded = decode(data, reserve)
        pictures.append(weakref.ref(decoded.image))
        return decoded

    monkeypatch.setattr(service.pipeline, "decode", watched)
    gc.collect()
    gc.disable()
    try:
        assert service.find(picture, query).status == status
        assert [picture() for picture in pictures] == [None]
    finally:
        gc.enable()


NO_FILE = "400 Bad Request: No file is attached"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("", b""),
        ("text/plain", b"abc"),
        ("application/x-www-form-urlencoded", b"file=text"),
        ("multipart/form-data", photograph_form(b"1")),
        (MULTIPART, b""),
        (MULTIPART, multipart([part("file", b"1")])),
        (MULTIPART, multipart([part("image", b"1", "a.jpg")])),
        (MULTIPART, photograph_form(b"1")[:-4]),
        (MULTIPART, multipart([part("file", b"1", "a.jpg"), part("limit", b"1")])[:-4]),
        (MULTIPART, b"garbage" + photograph_form(b"1")),
        (MULTIPART, multipart([b"\r\nno header"])),
        ("multipart/form-data; boundary=" + "x" * 1000, photograph_form(b"1")),
    ],
)
def test_a_body_without_a_file_part_is_refused(
    service: Service, content_type: str, body: bytes
) -> None:
    reply = service.call("POST", "/find_faces", headers={"Content-Type": content_type}, body=body)
    assert reply.status == 400
    assert message(reply) == NO_FILE


def test_a_chunked_body_counts_as_empty(service: Service) -> None:
    headers = {"Content-Type": MULTIPART, "Transfer-Encoding": "chunked"}
    reply = service.call("POST", "/find_faces", headers=headers, body=photograph_form(b"1"))
    assert (reply.status, message(reply)) == (400, NO_FILE)


def test_an_empty_file_name_is_refused(service: Service) -> None:
    body = multipart([part("file", b"1", "")])
    reply = service.call("POST", "/scan_faces", headers={"Content-Type": MULTIPART}, body=body)
    assert (reply.status, message(reply)) == (400, "400 Bad Request: No file is selected")


def test_the_first_file_counts_and_text_fields_of_that_name_do_not(service: Service) -> None:
    parts = [part("file", b"9"), part("file", b"2", "b"), part("file", b"1", "c")]
    reply = service.call(
        "POST", "/find_faces", headers={"Content-Type": MULTIPART}, body=multipart(parts)
    )
    assert len(reply.json()["result"]) == 2


def test_an_encoded_file_name_counts_as_a_name(service: Service) -> None:
    encoded = b"Content-Disposition: form-data; name=\"file\"; filename*=utf-8''%C3%A4.jpg\r\n\r\n2"
    reply = service.call(
        "POST", "/find_faces", headers={"Content-Type": MULTIPART}, body=multipart([encoded])
    )
    assert reply.status == 200


def test_a_form_of_too_many_parts_is_413(service: Service) -> None:
    body = multipart([part(f"f{i}", b"") for i in range(500)])
    reply = service.call("POST", "/find_faces", headers={"Content-Type": MULTIPART}, body=body)
    assert reply.status == 413


def test_a_photograph_may_hold_bytes_like_a_boundary(service: Service) -> None:
    picture = b"2\r\n--a-boundary-of-the-test\r\n--a-boundary-of-the-tests!\r\n"
    assert service.find(picture).status == 200


def test_base64_may_hold_any_number_of_commas(service: Service) -> None:
    text = base64.b64encode(b"2 and more bytes").decode()
    assert service.find_base64({"file": ',[{\\"' * 9_000 + text}).status == 200
    assert service.find_base64({"file": "," * 1_000_000 + text}).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"1," * 20_000 + b"1]",
        b'["",' + b"1," * 20_000 + b'",",""]',
        b"[" + b'"",' * 20_000 + b'""]',
        json.dumps(["\u0122", *range(20_000), "\u0122"], ensure_ascii=False).encode("utf-16"),
        b'{"file":NaN,"x":"' + b"," * 20_000 + b'"}',
    ],
    ids=["numbers", "between strings", "strings", "UTF-16", "not strict"],
)
def test_a_document_of_too_many_values_is_413(service: Service, body: bytes) -> None:
    reply = service.find_base64(body)
    assert reply.status == 413
    assert "10000 values" in message(reply)


def test_base64_is_read_leniently(service: Service) -> None:
    text = base64.b64encode(b"2 and more bytes").decode()
    wrapped = "\r\n".join([text[:7], text[7:]])
    for document in ({"file": text}, {"file": wrapped}, {"file": "!" + text, "limit": 1}):
        assert len(service.find_base64(document).json()["result"]) == 2
    assert service.find_base64({"file": text}, kind="application/x+json; a=b").status == 200
    assert service.find_base64(json.dumps({"file": text}).encode("utf-16")).status == 200


def test_base64_takes_parameters_from_the_query_only(service: Service) -> None:
    document = {"file": "MzMz", "limit": 1, "face_plugins": "calculator"}
    assert len(service.find_base64(document).json()["result"]) == 3
    assert len(service.find_base64(document, "limit=2").json()["result"]) == 2


@pytest.mark.parametrize("body", [b"", b"{", b'{"file": ', b"\xff\xfe", b"[" * 5000])
def test_invalid_json_is_400(service: Service, body: bytes) -> None:
    reply = service.find_base64(body)
    assert reply.status == 400
    assert message(reply) == (
        "400 Bad Request: The browser (or proxy) sent a request "
        "that this server could not understand."
    )


@pytest.mark.parametrize(
    "document",
    [
        [], "text", 5, None, {}, {"file": None}, {"file": 5}, {"file": True}, {"file": ["MQ=="]},
        {"file": "QUJDRA"}, {"file": "QUJDR"}, {"file": "\u00e4QUJD"},
    ],
)  # fmt: skip
def test_json_without_a_base64_file_is_422(service: Service, document: Any) -> None:
    reply = service.find_base64(document)
    assert reply.status == 422
    assert message(reply).startswith("422 Unprocessable Entity: The ")


def test_json_under_another_content_type_is_422(service: Service) -> None:
    reply = service.find_base64({"file": "MQ=="}, kind="text/plain")
    assert reply.status == 422
    assert service.call("POST", "/find_faces_base64").status == 422


def test_an_empty_base64_text_is_a_broken_picture(service: Service) -> None:
    reply = service.find_base64({"file": ""})
    assert message(reply) == "400 Bad Request: Image has incorrect format or is broken"


def test_json_of_very_many_values_is_refused_before_it_is_parsed(service: Service) -> None:
    reply = service.find_base64(b'{"file": "MQ==", "x": [' + b"[]," * 20_000 + b"1]}")
    assert reply.status == 413


def test_a_body_over_the_limit_is_413_and_is_not_read() -> None:
    service = Service(CF_MAX_BODY_BYTES="1000")
    reply = service.find(b"1" * 2000)
    assert reply.status == 413
    assert "1000" in message(reply)


def test_an_endless_body_is_408() -> None:
    service = Service(CF_BODY_TIMEOUT_S="0.05")
    reply = service.call(
        "POST",
        "/find_faces",
        headers={"Content-Type": MULTIPART},
        body=photograph_form(b"1"),
        length=100_000,
        ends=False,
    )
    assert reply.status == 408


def test_the_documentation_pages_load_nothing_from_other_hosts(service: Service) -> None:
    page = service.call("GET", "/apidocs/")
    assert page.headers["content-type"].startswith("text/html")
    assert b"https://" not in page.body
    for asset in ("apidocs.css", "apidocs.js"):
        assert service.call("GET", f"/apidocs/{asset}").status == 200
    moved = service.call("GET", "/apidocs/index.html")
    assert (moved.status, moved.headers["location"]) == (302, "/apidocs")
    document = service.call("GET", "/frs-core-api.json").json()
    assert document["swagger"] == "2.0"
    assert document["info"]["title"] == "Python Core Service \u2014 compreface-core"
    for path in document["paths"]:
        assert service.call("OPTIONS", path).status == 200
