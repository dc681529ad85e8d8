"""The engine's container at its memory limit: everybody is answered or asked to come again."""

from __future__ import annotations

from typing import Any

from tests.contract.process import photograph_form
from tests.e2e.conftest import up_core
from tests.e2e.machine import PORTRAITS, Cf, Docker, free_port, post_photograph
from tests.engine.test_server_memory import asked_at_once, picture


def test_a_hundred_large_pictures_in_1_gib_are_answered_or_refused_and_nobody_is_killed(
    docker: Docker, cf: Cf, instance: str, embedded: dict[str, Any]
) -> None:
    cf.environment |= {"CF_MEMORY_LIMIT": "1G", "CF_MAX_CONCURRENCY": "8", "CF_MAX_WAIT_S": "3"}
    port = free_port()
    cf.ok(*up_core(instance, port))
    container = f"cf-{instance}-compreface-core-1"
    host = docker.inspect(container)["HostConfig"]
    assert (host["Memory"], host["MemorySwap"]) == (1 << 30, 1 << 30)
    assert "1024 MiB (the memory limit of its cgroup)" in cf.ok("logs", instance)
    kinds: tuple[tuple[str, dict[str, Any]], ...] = (
        ("JPEG", {}),
        ("PNG", {"compress_level": 1}),
        ("JPEG", {"progressive": True, "subsampling": 0}),
        ("WEBP", {"quality": 50, "method": 0}),
    )
    for kind, options in kinds:
        found = asked_at_once(port, photograph_form(picture(kind, **options)))
        assert found.keys() <= {400, 503}, kind
        assert found[400] >= 1, kind
    where = f"http://127.0.0.1:{port}/find_faces"
    assert post_photograph(where, PORTRAITS / "grace_hopper.jpg")[0] == 200
    after = docker.inspect(container)
    assert after["State"]["OOMKilled"] is False
    assert after["RestartCount"] == 0
