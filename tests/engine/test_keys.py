"""API keys and rate limits: off by default, effective where set, with bounded memory."""

from __future__ import annotations

import asyncio
import hashlib
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from compreface_engine.admission import Gate
from compreface_engine.api.app import App
from compreface_engine.api.errors import Unauthorized
from compreface_engine.api.guard import MAX_CLIENTS, Keys, Rate
from compreface_engine.core.errors import ConfigurationError
from compreface_engine.settings import Settings
from compreface_engine.variables import DIGEST
from tests.contract.process import MULTIPART, photograph_form
from tests.engine.fakes import AsgiReply, Caller, FakePipeline

FIRST, SECOND = "first-of-the-keys", "second-of-the-keys"
OPEN = (
    "/healthcheck /live /ready /docs /openapi.json /apidocs /frs-core-api.json "
    "/apidocs/apidocs.css /apidocs/apidocs.js"
).split()


class Service:
    """One application over a fake pipeline; keeps its state from call to call."""

    def __init__(self, **variables: str) -> None:
        self.pipeline = FakePipeline()
        settings = Settings.from_env(variables, cores=1)
        self._gate = Gate(concurrency=1, max_queue=9, max_bytes=1_000_000, max_wait_s=9)
        self._app = App(settings, self.pipeline, self._gate)

    def call(self, method: str, path: str, client: str = "10.0.0.1", **request: Any) -> AsgiReply:
        caller = Caller(self._app, method, path, client=client, **request)
        return asyncio.run(caller.run())

    def find(self, client: str = "10.0.0.1", **headers: str) -> AsgiReply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.call(
            "POST",
            "/find_faces",
            client,
            headers={"Content-Type": MULTIPART, **named},
            body=photograph_form(b"1"),
        )


def test_a_key_may_be_given_by_its_digest(tmp_path: Path) -> None:
    digest = hashlib.sha256(FIRST.encode()).hexdigest()
    file = tmp_path / "keys"
    file.write_text(f"sha256:{digest}  # of the backend\n{SECOND}\n")
    service = Service(CF_API_KEYS_FILE=str(file))
    assert service.find(X_Api_Key=FIRST).status == 200
    assert service.find(X_Api_Key=SECOND).status == 200
    assert service.find(X_Api_Key=digest).status == 401
    assert service.find(X_Api_Key=f"sha256:{digest}").status == 401


@pytest.mark.parametrize("digest", ["", "0" * 63, "0" * 65, "g" * 64, "A" * 64])
def test_an_invalid_digest_is_refused_without_showing_it(digest: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^CF_API_KEYS: key 1 ") as caught:
        Service(CF_API_KEYS=f"sha256:{digest}")
    assert not digest or digest not in str(caught.value)


@pytest.fixture
def service() -> Service:
    return Service(CF_API_KEYS=f"{FIRST},{SECOND}")


def test_a_key_that_is_not_required_is_ignored() -> None:
    assert Service().find(X_Api_Key="whatever").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Api_Key": FIRST},
        {"X_Api_Key": SECOND},
        {"Authorization": f"Bearer {SECOND}"},
        {"Authorization": f"bearer  {FIRST} "},
        {"X_Api_Key": "00000000-0000-0000", "Authorization": f"Bearer {FIRST}"},
    ],
)
def test_each_key_is_valid_in_either_header(service: Service, headers: dict[str, str]) -> None:
    assert service.find(**headers).status == 200


@pytest.mark.parametrize(
    ("headers", "given"),
    [
        ({}, False),
        ({"Authorization": f"Basic {FIRST}"}, False),
        ({"X_Api_Key": ""}, True),
        ({"X_Api_Key": FIRST[:-1]}, True),
        ({"X_Api_Key": FIRST + "x"}, True),
        ({"X_Api_Key": f"{FIRST},{SECOND}"}, True),
        ({"X_Api_Key": "\u00e4" * 9}, True),
        ({"Authorization": "Bearer"}, True),
    ],
)
def test_without_a_valid_key_nothing_is_computed(
    service: Service, headers: dict[str, str], given: bool
) -> None:
    reply = service.find(**headers)
    assert reply.status == 401
    assert reply.json()["message"] == str(Unauthorized(given=given))
    assert reply.headers["www-authenticate"] == "Bearer"
    assert FIRST.encode() not in reply.body
    assert service.pipeline.scans == []


def test_only_health_and_documentation_need_no_key(service: Service) -> None:
    for path in OPEN:
        assert service.call("GET", path).status == 200, path
    for method, path in (
        ("GET", "/status"),
        ("HEAD", "/status"),
        ("GET", "/metrics"),
        ("OPTIONS", "/find_faces"),
        ("GET", "/find_faces"),
        ("POST", "/find_faces_base64"),
        ("POST", "/scan_faces/"),
    ):
        assert service.call(method, path).status == 401, path
    assert service.call("GET", "/nowhere").status == 404
    assert service.call("GET", "/metrics", headers={"X-Api-Key": FIRST}).status == 200


def test_the_openapi_document_requires_a_key_only_where_the_engine_does(service: Service) -> None:
    assert "security" in service.call("GET", "/openapi.json").json()
    assert "security" not in Service().call("GET", "/openapi.json").json()


def test_a_refused_key_is_counted(service: Service) -> None:
    service.find()
    service.find(X_Api_Key="wrong")
    text = service.call("GET", "/metrics", headers={"X-Api-Key": FIRST}).body
    assert b'compreface_refused_total{cause="key"} 2.0' in text


def test_keys_are_identified_by_their_index_and_kept_as_digests() -> None:
    keys = Keys((FIRST, SECOND))
    known = [keys.known(key.encode()) for key in (FIRST, SECOND, "third")]
    assert known == [sha256(FIRST.encode()).digest(), sha256(SECOND.encode()).digest(), None]


def test_keys_of_a_file_are_read_again_when_it_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{FIRST}\n")
    keys = Keys((FIRST,), file)

    def valid() -> list[bool]:
        keys.renew()
        return [keys.known(key.encode()) is not None for key in (FIRST, SECOND)]

    assert valid() == [True, False]
    with file.open("a") as more:  # in place, as where a container has the file mounted
        more.write(f"{SECOND}\n")
    assert valid() == [True, True]
    for broken in ("", "# none\n", "short\n", f"{DIGEST}12\n"):
        file.write_text(broken)
        assert valid() == [True, True]
    file.unlink()
    assert valid() == [True, True]
    (tmp_path / "new").write_text(f"{DIGEST}{sha256(SECOND.encode()).hexdigest()}\n")
    (tmp_path / "new").rename(file)
    assert valid() == [False, True]
    assert FIRST not in repr(vars(keys))


def test_a_client_over_its_rate_gets_retry_after() -> None:
    service = Service(CF_RATE_LIMIT="0.01", CF_RATE_BURST="2")
    assert [service.find().status for _ in range(3)] == [200, 200, 429]
    reply = service.find()
    assert 1 <= int(reply.headers["retry-after"]) <= 100
    assert reply.json()["message"].startswith(
        "429 Too Many Requests: Each client may send 0.01 requests a second; try again in "
    )
    assert service.find(client="10.0.0.2").status == 200, "another client has its own"
    assert service.call("GET", "/status").status == 200, "only what computes is limited"
    assert b'compreface_refused_total{cause="rate"} 2.0' in service.call("GET", "/metrics").body


def test_with_keys_the_rate_limit_is_per_key_not_per_address() -> None:
    service = Service(CF_API_KEYS=f"{FIRST},{SECOND}", CF_RATE_LIMIT="0.01", CF_RATE_BURST="1")
    assert service.find("10.0.0.1", X_Api_Key=FIRST).status == 200
    assert service.find("10.0.0.2", X_Api_Key=FIRST).status == 429
    assert service.find("10.0.0.1", Authorization=f"Bearer {SECOND}").status == 200
    assert service.find("10.0.0.1").status == 401, "who has no key takes nothing from anybody"


class Clock:
    """A clock that only moves when it is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_fills_at_its_rate_and_never_above_its_burst() -> None:
    clock = Clock()
    rate = Rate(2.0, 3, clock)
    assert [rate.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]
    clock.now += 0.25
    assert rate.wait("a") == 0.25
    clock.now += 0.25
    assert rate.wait("a") == 0
    clock.now += 1000
    assert [rate.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_refused_requests_do_not_delay_the_next_token() -> None:
    clock = Clock()
    rate = Rate(1.0, 1, clock)
    rate.wait("a")
    for _ in range(9):
        clock.now += 0.1
        assert rate.wait("a") > 0
    clock.now += 0.11
    assert rate.wait("a") == 0


def test_the_number_of_buckets_is_bounded_and_the_oldest_goes_first() -> None:
    rate = Rate(0.001, 1, Clock())
    for number in range(MAX_CLIENTS + 500):
        rate.wait(number)
    assert len(rate) == MAX_CLIENTS
    assert rate.wait(MAX_CLIENTS + 499) > 0
    assert rate.wait(0) == 0
