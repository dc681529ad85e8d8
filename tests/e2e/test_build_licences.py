"""`cf build` fetches no weights whose terms were not accepted, and builds nothing then."""

from __future__ import annotations

import json

from tests.cli.fetched_build import WEIGHTS, write
from tests.cli.lying_server import Answer, lying_server
from tests.cli.names import assert_named
from tests.e2e.machine import Cf, Docker


def test_terms_are_accepted_before_an_image_is_built(docker: Docker, cf: Cf) -> None:
    with lying_server([Answer(WEIGHTS)]) as server:
        build = write(cf.here, f"{server.url}/m.onnx")
        before = docker.things_of("")
        refused = cf.run("build", build, "--json")
        assert refused.returncode == 9, refused.stderr
        error = json.loads(refused.stdout)["error"]
        assert list(error["details"]["licences"]) == ["my-model"]
        assert_named(error["hint"], "--accept-licence my-model")
        assert server.requests == []
        assert docker.things_of("") == before
